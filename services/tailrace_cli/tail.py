"""`tailrace tail [ID]`: print a generation's log as it grows, in any wire format; on a terminal its text.

A log that is followed survives an outage of Redis: it is read on from the last entry.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

from tailrace.errors import Misconfigured, NotFound, RedisUnavailable
from tailrace.events import Entry
from tailrace.ids import START, EntryId
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS
from tailrace_cli.access import Access, command_for, opened
from tailrace_cli.answer_printer import AnswerPrinter
from tailrace_cli.interrupts import interruptible
from tailrace_cli.terminal import neutralized

AWAY_S, RETRY_S = 60.0, 0.5
"""For how long a log is read again that was being read when Redis left, and the pause between two tries."""


def main(settings: Settings, *, generation_id: str, wire: str, after: str, caller: str) -> int:
    """Print the log to its end. Returns the exit status: 1 for a text that is not whole.

    Raises:
        Misconfigured: the wire format is unknown.
        InvalidCursor: `after` is not an event id.
        NotFound, Gone: the generation does not exist, or is no longer stored.
        Unavailable: Redis does not respond.
    """
    if wire and wire not in WIRE_FORMATS:
        raise Misconfigured(f"unknown wire format {wire!r}; available: {', '.join(WIRE_FORMATS)}")
    return asyncio.run(interruptible(_tail(settings, generation_id, wire, after, caller)))


async def _tail(settings: Settings, generation_id: str, wire: str, after: str, caller: str) -> int:
    cursor = EntryId.parse(after) if after else START
    async with opened(settings) as access:
        state = await access.find(generation_id, caller)
        if (wire or ("text" if sys.stdout.isatty() else "native")) == "text":
            return await print_text(access, state, cursor)
        await _print_frames(access, state, wire or "native", cursor)
    return 0


async def _print_frames(access: Access, state: GenerationState, wire: str, cursor: EntryId) -> None:
    request = await access.log.request(state.record.id)
    encode, is_terminal = WIRE_FORMATS[wire].bind(state.record, request), sys.stdout.isatty()
    async for entry in entries(access.log, state.record.id, cursor):
        data = encode(entry) or b""
        sys.stdout.buffer.write(neutralized(data) if is_terminal else data)
        sys.stdout.flush()


async def print_text(access: Access, state: GenerationState, cursor: EntryId = START) -> int:
    """Print the text after the cursor, of the last attempt only. Returns the exit status.

    Where it is interrupted, the command that prints the rest is shown.
    """
    generation_id = state.record.id
    if cursor == START:
        cursor = await access.log.last_restart(generation_id, state.epoch) or START
    printer = AnswerPrinter.on_stdout()
    try:
        async for entry in entries(access.log, generation_id, cursor):
            cursor = entry.id
            printer.print(entry)
    except asyncio.CancelledError:  # Ctrl-C
        rest = ["tail", generation_id, *(["--after", str(cursor)] if cursor != START else [])]
        printer.note(f"The answer continues. Its rest: {command_for(access.settings, *rest)}")
        raise
    return printer.status


async def entries(log: Log, generation_id: str, cursor: EntryId) -> AsyncIterator[Entry]:
    """The entries after the cursor, then each new one, until the end.

    Raises:
        NotFound, Gone: the generation does not exist, or is no longer stored.
        RedisUnavailable: Redis does not respond, or has not for `AWAY_S` since the last entry.
    """
    responded_at = float("-inf")
    while True:
        try:
            async for entry in log.tail(generation_id, cursor):
                cursor, responded_at = entry.id, time.monotonic()
                yield entry
        except (RedisUnavailable, NotFound):  # a server that has restarted may lack what a worker restores
            if time.monotonic() - responded_at > AWAY_S:
                raise
            await asyncio.sleep(RETRY_S)
        else:
            return
