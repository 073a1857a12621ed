"""The record of the calls with one `script_id`, through which tests observe the upstream's side.

started = open + finished + closed_by_client. A call that was ended by any step of its script is finished.
"""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Calls:
    started: int = 0
    finished: int = 0
    closed_by_client: int = 0
    closed_at: list[float] = field(default_factory=list)
    first_byte_at: list[float] = field(default_factory=list)
    last_request: dict[str, Any] | None = None
    authorization_seen: bool = False
    started_by_model: Counter[str] = field(default_factory=Counter)

    def start(self, model: str, request: dict[str, Any], *, authorized: bool) -> int:
        """Count a call. Returns the number of earlier calls of this model."""
        self.started += 1
        self.last_request = request
        self.authorization_seen |= authorized
        self.started_by_model[model] += 1
        return self.started_by_model[model] - 1

    def first_byte(self) -> None:
        self.first_byte_at.append(time.time())

    def finish(self) -> None:
        self.finished += 1

    def close_by_client(self) -> None:
        self.closed_by_client += 1
        self.closed_at.append(time.time())

    def as_json(self) -> dict[str, Any]:
        return {
            "started": self.started,
            "open": self.started - self.finished - self.closed_by_client,
            "finished": self.finished,
            "closed_by_client": self.closed_by_client,
            "closed_at": self.closed_at,
            "first_byte_at": self.first_byte_at,
            "last_request": self.last_request,
            "authorization_seen": self.authorization_seen,
        }


def new_ledger() -> defaultdict[str, Calls]:
    return defaultdict(Calls)
