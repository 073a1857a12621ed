"""What the live path is given, and what it gives: costs, a load, counts."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class PathCosts(NamedTuple):
    """Seconds of CPU.

    The load process spends `token_s` and `pipeline_s`; `sleep_s` is by how much its sleeps are late. Redis spends
    `batch_s` for each turn, `append_s` for each append, and `notify_s` for each frontend that gets messages of it. A
    frontend spends `read_s` for each read of its subscription, `message_s` for each message in it, `frame_s` for each
    client that gets the message, and `write_s` for each client to which the read leads to a write. The clients' process
    spends `client_s` for each read of a socket, and `clients_wake_s` when it was idle.
    """

    token_s: float
    pipeline_s: float
    batch_s: float
    append_s: float
    notify_s: float
    read_s: float
    message_s: float
    frame_s: float
    write_s: float
    client_s: float
    clients_wake_s: float = 0.0
    frontend_idle: float = 0.0
    redis_idle: float = 0.0
    sleep_s: float = 0.00006


class PathShape(NamedTuple):
    """`logs` logs, `rate` tokens a second each, read by `readers` clients each, which are spread over the frontends."""

    frontends: int
    logs: int
    rate: float
    readers: int = 1


class Token(NamedTuple):
    """A token, made at a time; `number` counts those of its log."""

    log: int
    number: int
    at: float


@dataclass
class Window:
    """What was counted since `began`."""

    began: float = 0.0
    appended: int = 0
    pipelines: int = 0
    reads: int = 0
    writes: int = 0
    lags: list[float] = field(default_factory=list)


class PathResult(NamedTuple):
    """Of a window of `seconds`: CPU of each role, and what was counted."""

    seconds: float
    cpu_s: dict[str, float]
    window: Window

    @property
    def delivered(self) -> int:
        return len(self.window.lags)

    def lag_ms(self, share: float) -> float:
        """A quantile of the time from the making of a token to its read by a client."""
        ordered = sorted(self.window.lags)
        return 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan

    def us(self, role: str) -> float:
        """µs of CPU a delivery."""
        return 1e6 * self.cpu_s[role] / max(1, self.delivered)
