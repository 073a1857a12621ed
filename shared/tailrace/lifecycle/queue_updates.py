"""Consequences of an end on the queue's server, which may be away when the end is confirmed, or have lost it before.

A replica that lagged when it was promoted, or a server that lost its newest second, still has the job of a generation
that has ended, and counts it as its caller's. So the process that confirms an end repeats there what follows from it,
as soon as the server replies. (Without that the keys of such jobs stayed for up to a day, and the counts until the
deadlines, measured.)

This is a loop beside the confirmations: a queue that does not reply must not delay an end that the log's server loses.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tailrace.errors import RedisRefused, RedisUnavailable, TailraceError, Unavailable

RETRY_S = 0.5
AT_ONCE = 200
"""In shared round trips."""

MAX_UPDATES = 10_000
"""Beyond so many the oldest are dropped."""

Update = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class QueueUpdates:
    """Calls that are repeated until the queue's server has carried them out, by generation."""

    def __init__(self) -> None:
        self._updates: dict[str, Update] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._reported: type[TailraceError] | None = None

    def __len__(self) -> int:
        return len(self._updates)

    def __contains__(self, generation_id: str) -> bool:
        return generation_id in self._updates

    def add(self, generation_id: str, update: Update) -> None:
        """Make this call soon, instead of an earlier one for the same generation."""
        self._updates[generation_id] = update
        self._some.set()
        self._none.clear()
        if len(self._updates) > MAX_UPDATES:
            oldest = next(iter(self._updates))
            logger.warning("%s: too many ends wait for the queue's server: this one is not removed again", oldest)
            self._remove(oldest, self._updates[oldest])

    def _remove(self, generation_id: str, update: Update) -> None:
        """Remove the call, unless another one has replaced it."""
        if self._updates.get(generation_id) is update:
            del self._updates[generation_id]
            if not self._updates:
                self._some.clear()
                self._none.set()

    async def run(self) -> None:
        """Make the calls until cancelled."""
        while True:
            await self._some.wait()
            calls = list(self._updates.items())[:AT_ONCE]
            if not all(await asyncio.gather(*(self._call(*each) for each in calls))):
                await asyncio.sleep(RETRY_S)

    async def wait_until_none(self) -> None:
        await self._none.wait()

    async def _call(self, generation_id: str, update: Update) -> bool:
        """Whether the call needs no repetition. An error that is not Redis' is a defect: repeating would not help."""
        try:
            await update()
        except (Unavailable, RedisRefused) as error:
            self._report(generation_id, error)
            return False
        except Exception:
            logger.exception("%s: the queue could not be updated after the end", generation_id)
        else:
            self._reported = None
        self._remove(generation_id, update)
        return True

    def _report(self, generation_id: str, error: TailraceError) -> None:
        """Not with every repetition, nor for each generation. A server that is away is logged elsewhere."""
        if not isinstance(error, RedisUnavailable) and type(error) is not self._reported:
            self._reported = type(error)
            logger.warning(
                "%s: the queue is not updated yet after the end: %s: %s", generation_id, type(error).__name__, error
            )
