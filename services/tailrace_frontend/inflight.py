"""Bytes that a frontend holds for requests which it receives and for responses which it sends.

One request or response is bounded by itself; a thousand of them are not. So they share a budget. Small ones are not
counted: a request that arrives in one read, a response that fits into a socket's buffers. Event streams are not counted
either: they hold no more than a socket's write buffer, but for those of JSON values (`streaming.folding_cursor`), which
are transfers here once their value is large.

Nothing is cut while there is room. Where there is none, the transfer that has been under way for longest is cut, if it
has had `undisturbed_s`; so a client that sends or takes nothing cannot keep the room from others.

Request heads have a budget of their own (`client_limits`): who sends one is not known yet, and must not take the room
of a body or a response.
"""

import time
from collections.abc import Callable

UNDISTURBED_S = 10.0
"""Seconds that a transfer may take in any case. 8 MiB in 10 s are 6.7 Mbit/s."""

Cut = Callable[[], None]


class Inflight:
    """A budget of one process, in bytes."""

    def __init__(self, limit: int, undisturbed_s: float = UNDISTURBED_S) -> None:
        self.limit = limit
        self._undisturbed_s = undisturbed_s
        self.total = 0
        self._transfers: dict[object, tuple[int, float, Cut]] = {}

    def hold(self, transfer: object, size: int, cut: Cut) -> bool:
        """Count `size` bytes, in all, for a transfer. Where they do not fit, other transfers may be cut.

        Returns whether there is room. Where there is none, the transfer holds what it held before.
        """
        held, since, _ = self._transfers.get(transfer, (0, time.monotonic(), cut))
        while self.total - held + size > self.limit:
            if not self._cut_oldest(transfer):
                return False
        self._transfers[transfer] = size, since, cut
        self.total += size - held
        return True

    def release(self, transfer: object) -> None:
        """The transfer holds nothing more. Harmless if it held nothing."""
        held, _, _ = self._transfers.pop(transfer, (0, 0.0, None))
        self.total -= held

    def _cut_oldest(self, asking: object) -> bool:
        for transfer, (_, since, cut) in self._transfers.items():
            if transfer is not asking:
                if time.monotonic() - since < self._undisturbed_s:
                    return False
                self.release(transfer)
                cut()
                return True
        return False
