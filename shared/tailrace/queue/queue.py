"""Submitting a generation, and everything else that speaks to arq's queue.

arq is the doorbell: a job carries the generation's id and nothing else, under a name of its own for each dispatch (a
name used twice is blocked by a dead worker's lease: 42.5 s, measured). What runs, and who may write, is decided by the
log's lease.

The order of `submit` is what makes it safe to die anywhere in it: noted as unfinished, created, enqueued; each step
idempotent by the generation's id, so that whoever finds the claim of an Idempotency-Key simply does all of it again.
"""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import OutOfMemoryError

from tailrace import jsoncodec, keys, scripts
from tailrace.errors import IdempotencyKeyReused, Unavailable
from tailrace.events import GenerationRecord, Json
from tailrace.ids import new_token
from tailrace.log import Log
from tailrace.log.state import GenerationState

JOB = "run_generation"
QUARANTINE = "quarantine-"
"""Begins the name of a dispatch of what lost several workers: of such a worker runs one at a time, so that a prompt
that kills its worker takes nobody with it to the end of their attempts."""

CLOCK_SKEW_S = 3600
"""Jobs are scored this far in the past: arq compares the enqueuer's clock with the worker's."""

HOLD_S = 3
"""Whole seconds for which a server that has just started gives away no dispatch from before: one that was taken, and
perhaps even run to its end, may wait again where the data is older. Its worker says so as soon as it is connected."""

CLAIM_GRACE_S = 60
FULL_RETRY_S = 5


def dump_job(job: dict[str, Any]) -> bytes:
    """arq's payload as JSON (its default is pickle: code execution for whoever can write to Redis)."""
    return jsoncodec.dumps({name: value if _plain(value) else repr(value) for name, value in job.items()})


def load_job(payload: bytes) -> Any:
    return jsoncodec.loads(payload)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | tuple | dict)


class Claim(msgspec.Struct, frozen=True):
    """What an Idempotency-Key stands for."""

    generation_id: str
    body: str


class Queue:
    """The queue's server: jobs, who owns what, which workers live, which keys were used.

    `longest_life_s`: what is older than that is no longer kept by anybody, and leaves its owner's list.
    """

    def __init__(self, redis: Redis, log: Log, *, longest_life_s: int | None = None) -> None:
        self.redis = redis
        self.log = log
        self._longest_life_ms = 1000 * longest_life_s if longest_life_s else None
        self.arq = ArqRedis(
            redis.connection_pool,
            job_serializer=dump_job,
            job_deserializer=load_job,
            default_queue_name=keys.QUEUE,
        )

    async def claim(self, owner: str, key: str, body: bytes, generation_id: str, life_s: int) -> str:
        """The generation that this Idempotency-Key stands for: the one given, unless it was used before.

        Raises:
            IdempotencyKeyReused: it was used with another body.
        """
        digest = hashlib.sha256(body).hexdigest()
        name = keys.idempotency(owner, key)
        claim = msgspec.json.encode(Claim(generation_id, digest))
        if await self.redis.set(name, claim, nx=True, ex=life_s + CLAIM_GRACE_S):
            return generation_id
        held = await self.redis.get(name)
        if held is None:  # expired between the two calls
            return await self.claim(owner, key, body, generation_id, life_s)
        known = msgspec.json.decode(held, type=Claim)
        if known.body != digest:
            raise IdempotencyKeyReused
        return known.generation_id

    async def submit(self, record: GenerationRecord, request: Json) -> None:
        """Create the generation and have a worker run it. Idempotent by id.

        Raises:
            Gone: it existed and is no longer kept.
            Unavailable: a server is full; nothing is left behind.
        """
        job_id = new_token()
        try:
            await self.register(record)
            await self.log.create(record, request, job_id)
            state = await self.log.state(record.id)
            if state.status == "queued" and not state.terminating:
                await self.enqueue(record.id, state.job_id, record.options.deadline_s)
        except OutOfMemoryError:
            await self._take_back(record, job_id)
            raise Unavailable("The log's server is full.", retry_after=FULL_RETRY_S) from None

    async def _take_back(self, record: GenerationRecord, job_id: str) -> None:
        """Leave nothing of a submit that was refused half-way, so that it may be tried again. What an earlier submit
        of the same id has created goes on."""
        (state,) = await self.log.states([record.id])
        if state is None or (isinstance(state, GenerationState) and state.job_id == job_id):
            await self.log.redis.delete(*keys.of_generation(record.id))
            await self.remove(record.id, record.owner)
            await self.forget(record.owner, [record.id])

    async def register(self, record: GenerationRecord) -> None:
        """Note whose it is, and that it is unfinished."""
        seconds, micros = await self.redis.time()
        created_ms = record.created or int(seconds) * 1000 + int(micros) // 1000
        deadline_ms = created_ms + 1000 * record.options.deadline_s
        life_s = record.options.deadline_s + record.options.retention_s + CLAIM_GRACE_S
        pipe = self.redis.pipeline(transaction=False)
        pipe.sadd(keys.unfinished(record.id), record.id)
        if self._longest_life_ms:
            pipe.zremrangebyscore(keys.owned(record.owner), "-inf", created_ms - self._longest_life_ms)
        for name, score in ((keys.owned(record.owner), created_ms), (keys.unfinished_of(record.owner), deadline_ms)):
            pipe.zadd(name, {record.id: score}, nx=True)
            pipe.expire(name, life_s, nx=True)
            pipe.expire(name, life_s, gt=True)
        await pipe.execute()

    async def enqueue(self, generation_id: str, job_id: str, expires_s: int) -> None:
        """Ask for a run. The same dispatch twice is one job.

        As arq's `enqueue_job`, but without its WATCH: where a connection dies under that, arq raises what is no
        connection error, or says that the job was there already.
        """
        seconds, _ = await self.redis.time()
        now_ms = 1000 * int(seconds)
        job = serialize_job(JOB, (generation_id, job_id), {}, None, now_ms, serializer=dump_job)
        pipe = self.redis.pipeline(transaction=True)
        pipe.set(job_key_prefix + job_id, job, nx=True, px=expires_s * 1000)
        pipe.zadd(keys.QUEUE, {job_id: now_ms - 1000 * CLOCK_SKEW_S}, nx=True)
        await pipe.execute()
        await self.redis.execute_command("SPUBLISH", keys.WAKE, b"")

    async def remove_job(self, job_id: str) -> None:
        """Take a dispatch out of the queue; harmless if it is gone already."""
        pipe = self.redis.pipeline(transaction=False)
        _remove_job(pipe, job_id)
        await pipe.execute()

    async def take(self, job_id: str, worker: str, life_ms: int) -> int | None:
        """Its score in the queue if it is this worker's to run now; None if it is another's, or waits no longer."""
        mark = in_progress_key_prefix + job_id
        outcome, *score = await scripts.TAKE.on(
            self.redis, [keys.QUEUE, mark], job_id, worker, life_ms, HOLD_S, 1000 * CLOCK_SKEW_S
        )
        return int(float(score[0])) if outcome == b"OK" else None

    async def mark_started(self, job_id: str) -> None:
        """A worker has begun: running jobs left in arq's queue would hide the waiting ones behind them (measured:
        11.8 s), so they leave it now."""
        await self.redis.zrem(keys.QUEUE, job_id)

    async def remove(self, generation_id: str, owner: str | None = None, job_id: str | None = None) -> None:
        """It has ended, and nothing is left of its dispatch: arq cannot delete what is its own where its worker dies,
        or the server is away. (Without its owner it leaves their count when its deadline has passed.)"""
        pipe = self.redis.pipeline(transaction=False)
        if job_id is not None:
            _remove_job(pipe, job_id)
        pipe.srem(keys.unfinished(generation_id), generation_id)
        if owner is not None:
            pipe.zrem(keys.unfinished_of(owner), generation_id)
        await pipe.execute()

    async def load(self, owner: str) -> tuple[int, int]:
        """How many generations wait, and how many of the owner's wait or run."""
        now_ms = await self.log.now()
        pipe = self.redis.pipeline(transaction=False)
        pipe.zcard(keys.QUEUE)
        pipe.zremrangebyscore(keys.unfinished_of(owner), "-inf", now_ms - self.log.lease_ms)
        pipe.zcard(keys.unfinished_of(owner))
        depth, _, own = await pipe.execute()
        return int(depth), int(own)

    async def list_unfinished(self, shard: int) -> list[str]:
        """Ids that may be unfinished; only a hint."""
        members = await self.redis.execute_command("SMEMBERS", keys.all_unfinished()[shard])
        return [each.decode() for each in members]

    async def claim_shard(self, shard: int, period_ms: int) -> bool:
        """Whether this process sweeps the shard in this period: one of the fleet does, on a full server all do."""
        try:
            return bool(await self.redis.set(keys.swept(shard), b"", nx=True, px=period_ms))
        except OutOfMemoryError:
            return True

    async def is_waiting(self, job_ids: list[str]) -> list[bool]:
        """Of each dispatch: whether a worker will still find it. (One that was taken and not begun will not be.)"""
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.zscore(keys.QUEUE, job_id)
            pipe.exists(in_progress_key_prefix + job_id, job_key_prefix + job_id)
            pipe.exists(in_progress_key_prefix + job_id)
        answers = await pipe.execute()
        return [
            score is not None and known == 1 and not taken
            for score, known, taken in zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        ]

    async def position(self, job_id: str) -> int | None:
        """Place in the queue, from 1; None once a worker has taken it."""
        rank = await self.redis.zrank(keys.QUEUE, job_id)
        return None if rank is None else int(rank) + 1

    async def depth(self) -> int:
        return int(await self.redis.zcard(keys.QUEUE))

    async def heartbeat(self, worker: str) -> None:
        seconds, _ = await self.redis.time()
        pipe = self.redis.pipeline(transaction=False)
        pipe.zadd(keys.WORKERS, {worker: seconds})
        pipe.zremrangebyscore(keys.WORKERS, "-inf", seconds - 3 * self.log.lease_ms / 1000)
        await pipe.execute()

    async def deregister(self, worker: str) -> None:
        await self.redis.zrem(keys.WORKERS, worker)

    async def workers(self) -> int:
        """Workers heard of within three leases."""
        seconds, _ = await self.redis.time()
        return int(await self.redis.zcount(keys.WORKERS, seconds - 3 * self.log.lease_ms / 1000, "+inf"))

    async def list_owned(self, owner: str, after: str | None) -> AsyncIterator[list[str]]:
        """The owner's generations, newest first, in pages; those after the given one. What is no longer kept is
        dropped from the list by whoever meets it (`forget`)."""
        name = keys.owned(owner)
        rank = 0
        if after is not None:
            place = await self.redis.zrevrank(name, after)
            if place is None:
                return
            rank = int(place) + 1
        while page := await self.redis.zrevrange(name, rank, rank + 99):
            yield [each.decode() for each in page]
            rank += sum(score is not None for score in await self.redis.zmscore(name, page))  # the rest was forgotten

    async def forget(self, owner: str, generation_ids: list[str]) -> None:
        if generation_ids:
            await self.redis.zrem(keys.owned(owner), *generation_ids)


def _remove_job(pipe: Pipeline, job_id: str) -> None:
    pipe.zrem(keys.QUEUE, job_id)
    pipe.delete(*(prefix + job_id for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix)))
