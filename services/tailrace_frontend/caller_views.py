"""What operators see of callers: what is set for them, which limits hold, and what they use.

No figure costs more with the number of generations that are kept, wait or run.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tailrace.queue import CallerLimits, CallerPolicies, CallerPolicy, CallerUse, Queue, Right
from tailrace.queue.reader_counts import ReaderCounts


class CallerView(NamedTuple):
    """One caller. `readers`: its event streams at all frontends."""

    name: str
    policy: CallerPolicy
    limits: CallerLimits
    right: Right
    use: CallerUse
    readers: int


class CallerViews:
    """The callers of the installation."""

    def __init__(self, queue: Queue, policies: CallerPolicies, readers: ReaderCounts) -> None:
        self._queue = queue
        self._policies = policies
        self._readers = readers

    def names(self, known: Collection[str]) -> list[str]:
        """The known callers and those that have a policy, in the order of the alphabet."""
        return sorted({*known, *self._policies.all})

    async def of(self, names: Sequence[str]) -> list[CallerView]:
        """These callers, now.

        Raises:
            RedisUnavailable, RedisRefused: the queue's server cannot be reached.
        """
        uses, readers = await asyncio.gather(self._queue.quotas.use_of(names), self._readers.read())
        return [
            CallerView(
                name, self._policies.policy(name), self._policies.of(name), self._policies.right_of(name), use,
                readers[name],
            )
            for name, use in zip(names, uses, strict=True)
        ]  # fmt: skip
