"""The audit: who did what, on what, from where, and how it ended.

Each line is an entry of the stream `tailrace:{audit}` on the log's server, and a line of the process' log. The stream
keeps about 100,000 of them. Each new one is announced on a channel, for those who follow.

Acts are all recorded, also in a stream of their own, which keeps as many. Reads and refusals can be repeated at will:
they remove no act, and equal ones within `REPEATED_S` are one entry; the next one has their number.

A line that Redis does not take is in the process' log alone: an act is not refused because the audit is away.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tailrace import keys, scripts
from tailrace.errors import TailraceError
from tailrace.redis.server import RedisServer, checked

OK = "ok"
MAX_ENTRIES = 100_000
MAX_CHARACTERS = 256
REPEATED_S = 60.0
MAX_REPEATED = 1000
"""Kinds of line that a process compares. Beyond it a new kind is recorded each time."""

logger = logging.getLogger(__name__)


class Line(NamedTuple):
    """What is recorded. `who`: the caller's name, or "" where the request had no valid key."""

    who: str
    action: str
    target: str
    outcome: str
    address: str


class Entry(NamedTuple):
    """A line of the stream. `at` in ms of Redis' clock. `repeated`: equal lines before it that were left out."""

    id: str
    at: int
    line: Line
    repeated: int


class Audit:
    """The audit of all processes."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._recent: dict[Line, tuple[float, int]] = {}

    async def record(
        self, who: str, action: str, target: str, outcome: str, address: str, *, is_read: bool = False
    ) -> None:
        """Record a line. `is_read`: nothing was changed."""
        line = Line(*(_printable(part) for part in (who, action, target, outcome, address)))
        repeated = self._repeated(line) if is_read or outcome != OK else 0
        if repeated is None:
            return
        logger.info(
            "audit: %s %s %s: %s from %s%s", line.who or "-", line.action, line.target or "-", line.outcome,
            line.address or "-", f" ({repeated} more before)" if repeated else "",
        )  # fmt: skip
        fields = [*_fields(line), *(("repeated", str(repeated)) if repeated else ())]
        is_act = int(not is_read and outcome == OK)
        streams = [keys.AUDIT, keys.AUDIT_ACTS, keys.AUDIT_ADDED]
        try:
            await self._server.execute(*scripts.ADD_TO_AUDIT.on(streams, is_act, MAX_ENTRIES, *fields))
        except TailraceError as error:
            logger.warning("audit: the line above is not in Redis: %s", error)

    async def newest(self, limit: int, before: str = "") -> list[Entry]:
        """The newest entries, or those before this one; the newest first.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        end = f"({before}" if before else "+"
        found = await self._both("XREVRANGE", end, "-", limit)
        return sorted(found, key=_place, reverse=True)[:limit]

    async def following(self, limit: int, after: str) -> list[Entry]:
        """The entries after this one; the oldest first.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        return sorted(await self._both("XRANGE", f"({after}", "+", limit), key=_place)[:limit]

    async def end(self) -> str:
        """The id of the newest entry; "0-0" where there is none.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        newest = await self.newest(1)
        return newest[0].id if newest else "0-0"

    async def _both(self, command: str, first: str, last: str, limit: int) -> Iterable[Entry]:
        """What the two streams have there. The acts are read first: an entry that is added meanwhile is then among the
        others with all before it, so that a follower who continues after it misses none."""
        reads = [(command, stream, first, last, "COUNT", limit) for stream in (keys.AUDIT_ACTS, keys.AUDIT)]
        acts, every = checked(await self._server.execute_many(reads))
        return {entry.id: entry for entry in (*_entries(acts), *_entries(every))}.values()

    def _repeated(self, line: Line) -> int | None:
        """How many equal lines were left out before this one; None: this one is left out as well.

        The target of a refusal does not count: a client without a key could name another one each time.
        """
        kind = line if line.outcome == OK else line._replace(target="")
        now = time.monotonic()
        recorded_at, repeated = self._recent.get(kind, (float("-inf"), 0))
        if now - recorded_at < REPEATED_S:
            self._recent[kind] = recorded_at, repeated + 1
            return None
        if len(self._recent) >= MAX_REPEATED:
            self._recent = {each: known for each, known in self._recent.items() if now - known[0] < REPEATED_S}
        if len(self._recent) < MAX_REPEATED:
            self._recent[kind] = now, 0
        return repeated


def _place(entry: Entry) -> tuple[int, int]:
    """Where the entry stands among all."""
    ms, _, number = entry.id.partition("-")
    return int(ms), int(number)


def _entries(reply: list[tuple[bytes, list[bytes]]]) -> list[Entry]:
    return [_entry(entry_id.decode(), [field.decode() for field in fields]) for entry_id, fields in reply]


def _entry(entry_id: str, fields: list[str]) -> Entry:
    known = dict(zip(fields[::2], fields[1::2], strict=True))
    line = Line(*(known.get(name, "") for name in Line._fields))
    return Entry(entry_id, int(entry_id.partition("-")[0]), line, int(known.get("repeated", 0)))


def _fields(line: Line) -> Iterator[str]:
    for name, value in line._asdict().items():
        yield from (name, value)


def _printable(text: str) -> str:
    """The text as one line that Redis and a terminal can show."""
    return "".join(char if char.isprintable() else "�" for char in text[:MAX_CHARACTERS])
