"""Encoders of logs, shared by all readers of a generation in a format.

An encoder of a format that needs the request keeps what the format repeats of it: the instructions and tools of a
Response, which may be megabytes. It lives as long as a reader uses it.
"""

import asyncio
from weakref import WeakValueDictionary

from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.wire import Encode, WireFormat


class Encoders:
    """The encoders in use. `reads`: limits how many requests are read and decoded at the same time."""

    def __init__(self, log: Log, reads: asyncio.Semaphore) -> None:
        self._log = log
        self._reads = reads
        self._used: WeakValueDictionary[tuple[str, WireFormat], Encode] = WeakValueDictionary()

    async def bind(self, wire: WireFormat, state: GenerationState) -> Encode:
        """The format's encoder of the generation's entries.

        Raises:
            NotFound, Gone: the generation disappeared meanwhile.
        """
        if not wire.needs_request:
            return wire.bind(state.record, None)
        name = state.record.id, wire
        if (used := self._used.get(name)) is not None:
            return used
        async with self._reads:
            if (used := self._used.get(name)) is not None:
                return used
            encode = wire.bind(state.record, await self._log.request(state.record.id))
            return self._used.setdefault(name, encode)
