"""Encoders of logs, shared by all readers of a generation in a format.

An encoder of a format that needs the request keeps what the format repeats of it: the instructions and tools of a
Response, which may be megabytes. It lives as long as a reader uses it.

The encoder of a format that folds belongs to one reader, and has the entries that this reader has.
"""

import asyncio
from weakref import WeakValueDictionary

from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.wire import Encode, WireFormat
from tailrace.wire.json_value import JsonLines


class Encoders:
    """The encoders in use. `reads`: limits how many requests are read and decoded at the same time."""

    def __init__(self, log: Log, reads: asyncio.Semaphore) -> None:
        self._log = log
        self._reads = reads
        self._used: WeakValueDictionary[tuple[str, WireFormat], Encode] = WeakValueDictionary()

    async def bind(self, wire: WireFormat, state: GenerationState, after: EntryId | None = None) -> Encode:
        """The format's encoder of the generation's entries. `after`: the position that the reader has reached.

        Raises:
            NotFound, Gone: the generation disappeared meanwhile.
        """
        if not wire.needs_request:
            encode = wire.bind(state.record, None)
            if isinstance(encode, JsonLines) and after is not None:
                await self._catch_up(encode, state.record.id, after)
            return encode
        name = state.record.id, wire
        if (used := self._used.get(name)) is not None:
            return used
        async with self._reads:
            if (used := self._used.get(name)) is not None:
                return used
            encode = wire.bind(state.record, await self._log.request(state.record.id))
            return self._used.setdefault(name, encode)

    async def _catch_up(self, lines: JsonLines, generation_id: str, after: EntryId) -> None:
        async with self._reads:
            async for entry in self._log.read_all(generation_id, coalesce=True, until=after):
                lines.add(entry)
        lines.line()  # the reader has it
