"""Indexes beside the queue: an owner's generations, how many of them wait or run, what they take; Idempotency-Keys; the
newest generation of each chat."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.errors import IdempotencyKeyReused
from tailrace.events import GenerationRecord
from tailrace.queue.arq_jobs import job_keys as keys_of_job
from tailrace.redis.server import RedisServer
from tailrace.scripts import Command

CLAIM_GRACE_S = 60

GENERATION_BYTES = 6500
"""What a generation takes in Redis beside its request and its output (docs/operations.md, Limits)."""


class Charge(NamedTuple):
    """What a request costs of its caller's rate, and how far ahead of the rate the caller may be, in ms.

    A cost of 0 is not counted.
    """

    cost_ms: float = 0.0
    burst_ms: float = 0.0


FREE = Charge()


class Usage(NamedTuple):
    """Bytes that are stored for a caller; ms until the request is within the caller's rate (0: it is)."""

    stored_bytes: int = 0
    wait_ms: int = 0


class Claim(msgspec.Struct, frozen=True):
    """What an Idempotency-Key stands for: a generation, and the SHA-256 digest of its canonical body."""

    generation_id: str
    body: str

    @classmethod
    def of(cls, generation_id: str, body: bytes) -> "Claim":
        return cls(generation_id, hashlib.sha256(body).hexdigest())

    def held_by(self, stored: bytes | None) -> str:
        """The generation that the key stands for, by the reply to `claim_command`.

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

    def claim_command(self, owner: str, key: str, claim: Claim, life_s: int, *, replaces: bool = False) -> Command:
        """Claim an Idempotency-Key, unless it is claimed already; the reply is the earlier claim, if any.

        `replaces`: claim it in any case.
        """
        unless_claimed = () if replaces else ("NX",)
        return (
            "SET", keys.idempotency(owner, key), msgspec.json.encode(claim), *unless_claimed, "GET", "EX",
            life_s + CLAIM_GRACE_S,
        )  # fmt: skip

    async def register(self, record: GenerationRecord) -> None:
        """Add a generation to the indexes. Repeating it changes nothing."""
        await self._server.execute(*self.submit_command(record, record.created, keys_of_job(""), [""]))

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
        names = [keys.owned(owner), keys.unfinished_of(owner), keys.stored(owner), keys.stored_until(owner)]
        deadline = created + 1000 * record.options.deadline_s
        kept_until = deadline + self._lease_ms + 1000 * record.options.retention_s
        return scripts.SUBMIT.on(
            [*names, *job_keys], record.id, created, deadline, self._longest_life_ms, self._lease_ms,
            GENERATION_BYTES + request_bytes, kept_until, *job_arguments,
        )  # fmt: skip

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

        Ids that are no longer kept stay in the list until a reader of it removes them (`forget`).
        """
        name = keys.owned(owner)
        rank = 0
        if after is not None:
            place = await self._server.execute("ZREVRANK", name, after)
            if place is None:
                return
            rank = int(place) + 1
        while page := await self._server.execute("ZREVRANGE", name, rank, rank + 99):
            yield [each.decode() for each in page]
            scores = await self._server.execute("ZMSCORE", name, *page)
            rank += sum(score is not None for score in scores)  # the others were forgotten meanwhile

    async def forget(self, owner: str, generation_ids: list[str]) -> None:
        """Remove generations from their owner's list, and from what is stored for the owner."""
        if generation_ids:
            names = [keys.owned(owner), keys.stored(owner), keys.stored_until(owner)]
            await self._server.execute(*scripts.FORGET.on(names, *generation_ids))

    async def set_newest_of_chat(self, chat_id: str, record: GenerationRecord) -> None:
        """Have a chat of the owner stand for this generation, for as long as the generation is kept."""
        life_s = record.options.deadline_s + record.options.retention_s + CLAIM_GRACE_S
        await self._server.execute("SET", keys.chat(record.owner, chat_id), record.id, "EX", life_s)

    async def newest_of_chat(self, chat_id: str, owner: str) -> str | None:
        """The generation for which a chat of the owner stands."""
        stored = await self._server.execute("GET", keys.chat(owner, chat_id))
        return stored.decode() if stored else None
