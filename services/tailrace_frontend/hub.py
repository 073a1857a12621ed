"""One hub a process: one subscriber connection, one tail a live log, readers that pull.

Appends are published with their ids, so a live reader needs nothing else from Redis. The channel may lose messages;
readers do not: a tail holds only entries that follow each other without a gap, and a reader whose cursor they do not
continue looks into the log itself.

The hub keeps no queue for anybody. A tail is bounded in bytes; who falls behind it pages through the log again.
"""

import asyncio
import contextlib
import logging
import random
import time
from bisect import bisect_right
from collections import Counter
from operator import attrgetter
from typing import Protocol

from tailrace import keys
from tailrace.codec import from_row, unpack
from tailrace.connection import PASSES
from tailrace.errors import CorruptEntry, RateLimited
from tailrace.events import Done, Entry, Head
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace.subscriber import Subscriber
from tailrace.tasks import end_tasks
from tailrace.wire import Wire
from tailrace_frontend.paging import Pages

TAIL_BYTES = 256 * 1024
TAIL_ENTRIES = 64
TICK_S = 0.5
PRESENCE_S = 5.0

logger = logging.getLogger(__name__)
_id = attrgetter("id")


class Follower(Protocol):
    """Somebody who follows a log live."""

    head: Head

    def hear(self) -> None:
        """The tail has grown, or its doubts have."""

    def leave(self) -> None:
        """End soon, with a hint to come again: this process is stopping."""

    def cut(self) -> None:
        """End now, without a word."""

    def tick(self, now: float) -> None:
        """The hub's clock, `time.monotonic()`."""


class Tail:
    """The newest entries of one live log, dense, shared by its readers as encoded bytes a wire.

    `doubts` counts how often something may have been missed: a reader that knows a lower number looks into the log.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self.doubts = 0
        self.pages = Pages(head.id)
        self.is_heard = False
        self.readers: set[Follower] = set()
        self._entries: list[Entry] = []
        self._frames: dict[Wire, list[bytes]] = {}
        self._bytes = 0

    def hear(self, message: bytes | None) -> None:
        """A message of the log's channel; None or an empty one: look for yourselves."""
        if not message:
            self.doubts += 1
        else:
            try:
                entries = [from_row(row) for row in unpack(message)]
            except CorruptEntry:
                logger.warning("%s: unreadable message", self.head.id)
                self.doubts += 1
            else:
                for entry in entries:
                    self._add(entry)
                self._trim(len(message))
        for reader in self.readers:
            reader.hear()

    @property
    def has_ended(self) -> bool:
        """Whether the end was heard; False says nothing."""
        return bool(self._entries) and isinstance(self._entries[-1].event, Done)

    def _add(self, entry: Entry) -> None:
        if self._entries:
            last = self._entries[-1].id
            if entry.id.attempt < last.attempt:  # a server came back with older data: what was heard may not be so
                self._clear()
                self.doubts += 1
            elif entry.id <= last:
                return
            elif not entry.follows(last):
                self._clear()
        self._entries.append(entry)

    def _trim(self, added: int) -> None:
        """Keep the newer half when it has grown too large: who has not read the older one pages through the log. The
        newest stays, whatever its size: an end of megabytes is decoded once, and not once a reader.

        Few entries are enough for whoever keeps up, and they take 15 times the bytes they came in. Where a tail does
        not grow with each event, as many containers die as are born, and Python's collector need not look."""
        self._bytes += added
        if self._bytes > TAIL_BYTES or len(self._entries) > TAIL_ENTRIES:
            half = min(max(len(self._entries) // 2 + 1, len(self._entries) - TAIL_ENTRIES), len(self._entries) - 1)
            del self._entries[:half]
            for frames in self._frames.values():
                del frames[:half]
            self._bytes //= 2

    def _clear(self) -> None:
        self._entries.clear()
        self._frames.clear()
        self._bytes = 0

    def after(self, cursor: EntryId, wire: Wire) -> "tuple[list[bytes], list[Entry]] | None":
        """What follows the cursor: frames and their entries, both empty if nothing does. None if it cannot be told
        from here."""
        entries = self._entries
        if len(entries) > 1 and entries[-2].id == cursor:  # the common case: only the newest is new
            first = len(entries) - 1
        else:
            first = bisect_right(entries, cursor, key=_id)
            if first == len(entries):
                return [], []
            if not entries[first].follows(cursor):
                return None
        frames = self._frames.get(wire)
        if frames is None:
            frames = self._frames[wire] = []
        if len(frames) < len(entries):
            frames += [wire.encode(self.head, entry) for entry in entries[len(frames) :]]
        return frames[first:], entries[first:]


class Hub:
    """The live readers of this process."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.subscriber = Subscriber(log.redis)
        self.draining = False
        self._tails: dict[str, Tail] = {}
        self._readers_of: Counter[str] = Counter()
        self._note_at = 0.0
        self._away_since: float | None = None
        self._deserted: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.subscriber.start()
        self._task = asyncio.create_task(self._tick(), name="hub")

    async def close(self) -> None:
        await end_tasks(self._task)
        await self.subscriber.close()

    @property
    def readers(self) -> list[Follower]:
        return [reader for tail in self._tails.values() for reader in tail.readers]

    @property
    def count(self) -> int:
        return self._readers_of.total()

    def readers_of(self, owner: str) -> int:
        return self._readers_of[owner]

    @property
    def tails(self) -> int:
        return len(self._tails)

    @property
    def is_away(self) -> bool:
        """Whether Redis has been silent for longer than a restart or a failover should take."""
        patience = self.settings.lease_s + 1
        return self._away_since is not None and time.monotonic() - self._away_since > patience

    def admit(self, owner: str) -> None:
        """Ask right before joining: whoever awaits in between may find the place taken.

        Raises:
            RateLimited: there are as many readers as there may be.
        """
        if self.count >= self.settings.max_readers:
            raise RateLimited("This server serves as many streams as it may.")
        if self.readers_of(owner) >= self.settings.max_readers_per_caller:
            raise RateLimited("You read as many streams here as you may.")

    def join(self, reader: Follower, *, live: bool = True) -> Tail:
        """Follow a log. `live`: hear what is added to it; a finished one need not be listened to."""
        generation = reader.head.id
        tail = self._tails.get(generation)
        if tail is None:
            tail = self._tails[generation] = Tail(reader.head)
        if live:
            self.listen(tail)
        tail.readers.add(reader)
        self._readers_of[reader.head.owner] += 1
        if self.draining:
            reader.leave()
        return tail

    def listen(self, tail: Tail) -> None:
        """Hear what is added to a log from now on. Its doubts rise once the server has confirmed that it listens."""
        if not tail.is_heard:
            tail.is_heard = True
            self.subscriber.add(keys.events(tail.head.id), tail.hear)

    def leave(self, reader: Follower) -> None:
        tail = self._tails[reader.head.id]
        tail.readers.discard(reader)
        self._readers_of[reader.head.owner] -= 1
        if not tail.readers:
            del self._tails[reader.head.id]
            if tail.is_heard:
                self.subscriber.remove(keys.events(reader.head.id))
            if self._deserted and not self._tails:
                self._deserted.set()

    async def _tick(self) -> None:
        """The one clock of all readers: keep-alives, write timeouts, Redis' absence."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            if self.subscriber.connected:
                self._away_since = None
            elif self._away_since is None:
                self._away_since = now
            for reader in self.readers:
                reader.tick(now)
            if now >= self._note_at:
                self._note_at = now + PRESENCE_S
                await self._note_presence()

    async def _note_presence(self) -> None:
        """Generations that run only while somebody reads learn that somebody does."""
        read = [name for name, tail in self._tails.items() if tail.head.options.on_disconnect == "cancel"]
        if read:
            with contextlib.suppress(*PASSES):
                await self.log.seen(read)

    async def drain(self, grace_s: float) -> None:
        """Send every reader elsewhere, spread over the grace period; who takes no word until then is cut."""
        self.draining = True
        loop = asyncio.get_running_loop()
        for reader in self.readers:
            loop.call_later(random.uniform(0, 0.8 * grace_s), reader.leave)  # noqa: S311 - spreads load
        if self._tails:
            self._deserted = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._deserted.wait()
            for reader in self.readers:
                reader.cut()
