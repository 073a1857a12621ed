"""The requests of one generation to its upstreams: how many were sent again, and which of the last ones failed."""

import time
from collections import deque
from collections.abc import Sequence

import msgspec

from tailrace.events import FailedRequest

KEPT = 10
"""Failed requests that are kept: the last ones. More are counted alone."""


class RequestHistory:
    """The requests of one attempt. `upstream`: the name of the one that is asked now; None where there is no file.

    `waited`: seconds from the generation's creation to the beginning of the attempt. `failed`: the last requests of the
    attempts before it that failed.
    """

    __slots__ = ("_count", "_failed", "_zero", "upstream")

    def __init__(self, waited: float = 0.0, failed: Sequence[FailedRequest] = ()) -> None:
        self.upstream: str | None = None
        self._zero = time.monotonic() - waited
        self._failed = deque(failed, KEPT)
        self._count = 0

    @property
    def retries(self) -> int:
        """Requests of the attempt beyond its first one."""
        return max(0, self._count - 1)

    @property
    def failed(self) -> list[FailedRequest]:
        """The last requests of the generation that failed, in their order."""
        return list(self._failed)

    def begin(self) -> None:
        """A request is sent."""
        self._count += 1
        if self._failed and self._failed[-1].delay is None:
            last = self._failed.pop()
            delay = max(0.0, self._now() - last.at)
            self._failed.append(msgspec.structs.replace(last, delay=round(delay, 4)))

    def fail(self, code: str) -> None:
        """It has failed, for this reason."""
        self._failed.append(FailedRequest(round(self._now(), 3), code, self.upstream))

    def _now(self) -> float:
        """Seconds since the creation."""
        return time.monotonic() - self._zero
