"""Indexes beside the queue: an owner's generations, how many of them wait or run, what they take; Idempotency-Keys; the
newest generation of each chat."""

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.errors import IdempotencyKeyReused, InvalidRequest
from tailrace.events import GenerationRecord
from tailrace.queue.arq_jobs import keys_of_waiting
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command

CLAIM_GRACE_S = 60

GENERATION_BYTES = 6500
"""The size of a generation in Redis beside its request and its output (docs/operations.md, Limits)."""

CURSOR = re.compile(r"(\d{1,15})-(gen_[a-z2-7]{26})")
"""Of a list of all generations: when the last one was created, in ms, and its id."""

PAGE = 100
FORGOTTEN_AT_ONCE = 500


class Place(NamedTuple):
    """Where a generation stands in a list, as Redis orders it. `created`: ms."""

    created: int
    generation_id: bytes

    @property
    def id(self) -> str:
        return self.generation_id.decode()

    @property
    def cursor(self) -> str:
        """The place as a text, which stays valid when the generation has left the list."""
        return f"{self.created}-{self.id}"

    @classmethod
    def parse(cls, cursor: str) -> "Place":
        """
        Raises:
            InvalidRequest: it is none.
        """
        match = CURSOR.fullmatch(cursor)
        if match is None:
            raise InvalidRequest("`after` is not the `after` of a page.", param="after")
        return cls(int(match[1]), match[2].encode())


class Charge(NamedTuple):
    """The cost of a request in its caller's rate, which is one unit every `interval_ms`, and how far ahead of the rate
    the caller may be.

    A cost of 0 is not counted.
    """

    units: int = 0
    interval_ms: float = 0.0
    burst_ms: float = 0.0


FREE = Charge()


class Usage(NamedTuple):
    """Bytes that are stored for a caller; ms until the request is within the caller's rate (0: it is)."""

    stored_bytes: int = 0
    wait_ms: int = 0


class Claim(msgspec.Struct, frozen=True):
    """The value of an Idempotency-Key: a generation, and the SHA-256 digest of its canonical body."""

    generation_id: str
    body: str

    @classmethod
    def of(cls, generation_id: str, body: bytes) -> "Claim":
        return cls(generation_id, hashlib.sha256(body).hexdigest())

    @property
    def encoded(self) -> bytes:
        """The value as it is stored."""
        return msgspec.json.encode(self)

    def held_by(self, stored: bytes | None) -> str:
        """The generation that the key names. `stored`: the earlier claim, if any.

        Raises:
            IdempotencyKeyReused: the key was used with another body.
        """
        if stored is None:
            return self.generation_id
        known = msgspec.json.decode(stored, type=Claim)
        if known.body != self.body:
            raise IdempotencyKeyReused
        return known.generation_id


class GenerationIndex:
    """The indexes on the queue's server.

    `longest_life_s`: no generation lives longer than that; older ones leave their owner's list.
    """

    def __init__(self, server: RedisServer, *, lease_ms: int, longest_life_s: int) -> None:
        self._server = server
        self._lease_ms = lease_ms
        self._longest_life_ms = 1000 * longest_life_s

    async def register(self, record: GenerationRecord) -> None:
        """Add a generation to the indexes. Repeating it changes nothing."""
        await self._server.execute(*self.submit_command(record, record.created, keys_of_waiting(""), [""]))

    def submit_command(
        self,
        record: GenerationRecord,
        created: int,
        job_keys: Sequence[str],
        job_arguments: Sequence[Any],
        request_bytes: int = 0,
    ) -> Command:
        """Add a generation to the indexes and enqueue its job, both or neither. `created`: ms of Redis' clock."""
        owner = record.owner
        names = [
            keys.owned(owner), keys.unfinished_of(owner), keys.stored(owner), keys.stored_until(owner),
            keys.GENERATIONS,
        ]  # fmt: skip
        deadline = created + 1000 * record.options.deadline_s
        kept_until = deadline + self._lease_ms + 1000 * record.options.retention_s
        return scripts.SUBMIT.on(
            [*names, *job_keys], record.id, created, deadline, self._longest_life_ms, self._lease_ms,
            GENERATION_BYTES + request_bytes, kept_until, *job_arguments,
        )  # fmt: skip

    async def claim_of(self, owner: str, key: str) -> bytes | None:
        """The claim of an Idempotency-Key as it is stored (`Claim.held_by`), if there is one."""
        claim: bytes | None = await self._server.execute("GET", keys.idempotency(owner, key))
        return claim

    async def record_output(self, record: GenerationRecord, output_bytes: int) -> None:
        """Add the output of a generation that has just ended to what is stored for its owner. Repeating it changes
        nothing."""
        names = keys.stored(record.owner), keys.stored_until(record.owner)
        retention_ms = 1000 * record.options.retention_s
        await self._server.execute(*scripts.RECORD_OUTPUT.on(names, record.id, output_bytes, retention_ms))

    def remove_command(self, generation_id: str, owner: str) -> Command:
        """Remove an ended generation from its owner's count. (Otherwise it leaves once its deadline has passed.)"""
        return ("ZREM", keys.unfinished_of(owner), generation_id)

    async def unfinished_of(self, owner: str, now_ms: int) -> int:
        """The number of the owner's generations that wait or run, without those whose deadline passed a lease ago."""
        name = keys.unfinished_of(owner)
        return int(await self._server.execute("ZCOUNT", name, now_ms - self._lease_ms, "+inf"))

    async def list_owned(self, owner: str, after: str | None) -> AsyncIterator[list[str]]:
        """The owner's generations, newest first, in pages; those after the given one.

        Ids that are no longer kept leave the list with the owner's next creations (`Queue.load`), or when a reader of
        the list removes them (`forget`). A page begins after the last id of the one before, not at a rank: ranks move
        while ids leave, and generations that are kept would be skipped.
        """
        last = None
        if after is not None:
            created = await self._server.execute("ZSCORE", keys.owned(owner), after)
            if created is None:
                return
            last = Place(int(created), after.encode())
        async for page in self._list(keys.owned(owner), last, PAGE):
            yield [place.id for place in page]

    async def list_all(self, after: Place | None, page_size: int) -> AsyncIterator[list[Place]]:
        """As `list_owned`, the generations of all owners."""
        async for page in self._list(keys.GENERATIONS, after, page_size):
            yield page

    async def _list(self, name: str, last: Place | None, page_size: int) -> AsyncIterator[list[Place]]:
        while page := await self._page(name, last, page_size):
            yield page
            last = page[-1]

    async def set_newest_of_chat(self, chat_id: str, record: GenerationRecord) -> str | None:
        """Note the generation that answers a chat of the owner, for as long as the generation is kept; the id of the
        one that it replaces, if any. A newer one that is known already stays: a repeated request leads to the
        generation that it has created before."""
        life_s = record.options.deadline_s + record.options.retention_s + CLAIM_GRACE_S
        names = [keys.chat(record.owner, chat_id)]
        _, *known = await self._server.execute(*scripts.SET_NEWEST_OF_CHAT.on(names, record.id, record.created, life_s))
        replaced = known[0].decode() if known else ""
        return replaced if replaced not in ("", record.id) else None

    async def newest_of_chat(self, chat_id: str, owner: str) -> str | None:
        """The id of the newest generation that answers a chat of the owner; None where there is none."""
        stored = await self._server.execute("GET", keys.chat(owner, chat_id))
        return stored.decode().partition(" ")[2] if stored else None

    async def _page(self, name: str, last: Place | None, size: int) -> list[Place]:
        """Up to a page of those after `last`. Those of its millisecond are read apart: only their ids order them."""
        newest = "+inf" if last is None else f"({last.created}"
        read: list[Command] = [("ZRANGE", name, newest, "-inf", "BYSCORE", "REV", "LIMIT", 0, size, "WITHSCORES")]
        if last is not None:
            read.append(("ZRANGE", name, last.created, last.created, "BYSCORE", "REV", "WITHSCORES"))
        older, *same = (_places(reply) for reply in checked(await self._server.execute_many(read)))
        return [*(each for places in same for each in places if last is not None and each < last), *older][:size]

    async def forget_unlisted(self, generation_ids: Sequence[str]) -> None:
        """Remove generations that are no longer kept from the list of all."""
        if generation_ids:
            await self._server.execute("ZREM", keys.GENERATIONS, *generation_ids)

    async def forget(self, owner: str, generation_ids: Sequence[str]) -> None:
        """Remove generations from their owner's list, and from what is stored for the owner.

        In slices: a script holds up every other command. (600,000 ids in one call held Redis up for 1.4 s, a slice does
        for less than 5 ms, measured.)
        """
        names = [keys.owned(owner), keys.stored(owner), keys.stored_until(owner), keys.GENERATIONS]
        for start in range(0, len(generation_ids), FORGOTTEN_AT_ONCE):
            some = generation_ids[start : start + FORGOTTEN_AT_ONCE]
            await self._server.execute(*scripts.FORGET.on(names, *some))


def _places(reply: Sequence[bytes]) -> list[Place]:
    """A reply with scores."""
    return [Place(int(created), member) for member, created in zip(reply[::2], reply[1::2], strict=True)]
