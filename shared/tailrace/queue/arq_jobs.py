"""Jobs in arq's queue. Only this module, and the worker's `JobRunner`, know arq.

A job carries the generation's id, and each run of a generation has a job of its own: a job id that is used twice is
blocked by the in-progress mark of a dead worker (42.5 s, measured). Which worker may write is decided by the log's
lease, not by arq.

In which order jobs run decides `lua/parts/fair.lua`, by their scores. How many of an owner run at once is counted by
leases (`keys.running`), from the take of a job until its worker has ended it; a job beyond the limit is parked
(`keys.parked`) until another one ends.
"""

import time
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job

from tailrace import jsoncodec, keys, scripts
from tailrace.events import Priority
from tailrace.ids import new_token
from tailrace.queue.rights import RightOf
from tailrace.redis.server import RedisServer, checked
from tailrace.redis.server_run import ServerRun
from tailrace.scripts import Command

JOB = "run_generation"
"""The arq function that runs a generation."""

DELIVER_WEBHOOKS = "deliver_webhooks"
"""The arq function that has a worker deliver the webhooks of an endpoint."""

QUARANTINE = "quarantine-"
"""Prefix of the job ids of quarantined generations: those that have already cost several workers. A worker runs at most
one of them at a time, and leaves the others in the queue, so a prompt that crashes its worker cannot exhaust its
neighbours' attempts."""

CLOCK_SKEW_S = 3600
"""Earlier versions scored jobs by their clock, so far in the past. A sweeper queues those again (`is_waiting`)."""

CLOCK = 1e12
"""Scores above it are such times, in ms."""

OF_OWNER = "@"
"""In a job id, between its random part and the owner's name."""

RUNNING_LEASES = 3
"""How long a run counts that its worker does not renew: as long as a worker counts as alive (`presence`)."""

MOVED_AT_ONCE = 500

ASKED_AT_ONCE = 250
"""Jobs in one command, which takes Redis some 0.1 ms."""

OLDEST = 5
"""Jobs that are looked at together for the one that has waited for longest: the first one has, as a rule."""

PRIORITY_STEPS = {"high": "0.0625", "normal": "0.25", "low": "1"}
"""Weights of 16, 4 and 1 in the line of an owner."""

HOLD_S = 3
"""After a restart or a failover the queue may hold jobs that were already taken. For this many seconds, jobs older than
that are not handed out, so that their workers can claim them again."""


def dump_job(job: dict[str, Any]) -> bytes:
    """arq's payload as JSON. (arq's default is pickle: code execution for anyone who can write to Redis.)"""
    return jsoncodec.dumps({name: value if _is_plain(value) else repr(value) for name, value in job.items()})


def load_job(payload: bytes) -> Any:
    return jsoncodec.loads(payload)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | tuple | dict)


def job_id_of(owner: str, prefix: str = "") -> str:
    """An id for a run of one of the owner's generations: who takes a job knows whose it is."""
    return prefix + new_token() + OF_OWNER + owner


def owner_of(job_id: str) -> str:
    """Whose job it is; empty for one that is no generation, or that an earlier version named."""
    return job_id.partition(OF_OWNER)[2]


def keys_of_waiting(job_id: str) -> list[str]:
    """The keys on which a script enqueues a job."""
    owner = owner_of(job_id)
    return [
        keys.QUEUE, job_key_prefix + job_id, keys.TAGS, keys.line(owner), keys.turns(owner), keys.parked(owner),
        keys.WAITING,
    ]  # fmt: skip


class Taken(NamedTuple):
    """A job that a worker has taken. `score`: of the queue, for arq."""

    job_id: str
    score: int


class Parked(NamedTuple):
    """A job that has left the queue until another one of its owner has ended."""

    job_id: str


def key_of_job(job_id: str) -> str:
    """The key of a waiting job's payload."""
    return job_key_prefix + job_id


def enqueued_at(payload: bytes) -> int:
    """When a waiting job was enqueued, in ms of the enqueuer's clock; 0 where the payload has no time."""
    try:
        return int(load_job(payload).get("et") or 0)
    except (ValueError, AttributeError, TypeError):
        return 0


class Jobs:
    """The jobs that wait, and those that workers have taken.

    `right_of`: each owner's right, now. After one has changed, `unpark` lets it take effect at once; otherwise the next
    sweep does.
    """

    def __init__(self, server: RedisServer, *, lease_ms: int, right_of: RightOf) -> None:
        self._server = server
        self._running_ms = RUNNING_LEASES * lease_ms
        self.right_of = right_of
        self.arq = ArqRedis(
            server.client.connection_pool,
            job_serializer=dump_job,
            job_deserializer=load_job,
            default_queue_name=keys.QUEUE,
        )

    def waiting(
        self,
        generation_id: str,
        job_id: str,
        expires_s: int,
        priority: Priority = "normal",
        *,
        job: str = JOB,
        again: bool = False,
    ) -> tuple[list[str], list[Any]]:
        """The keys and the arguments with which a script enqueues a job. `again`: the generation has run before, and
        goes to the front: its owner has had that turn."""
        payload = serialize_job(job, (generation_id, job_id), {}, None, int(1000 * time.time()), serializer=dump_job)
        owner = owner_of(job_id)
        step = f"{0 if again else self.right_of(owner).step!r}" if job == JOB else ""
        share = "" if job != JOB or job_id.startswith(QUARANTINE) else PRIORITY_STEPS[priority]
        return keys_of_waiting(job_id), [job_id, payload, expires_s * 1000, owner, step, share, keys.WAKE]

    async def enqueue(
        self,
        generation_id: str,
        job_id: str,
        expires_s: int,
        priority: Priority = "normal",
        *,
        job: str = JOB,
        again: bool = False,
    ) -> int:
        """Ask for a run of a job (a row of `tailrace_worker.worker.JOBS`). Returns the place in the queue, from 1.

        The same job id twice is one job. `again`: as for `waiting`.
        """
        names, arguments = self.waiting(generation_id, job_id, expires_s, priority, job=job, again=again)
        _, position = await self._server.execute(*scripts.ENQUEUE.on(names, *arguments))
        return int(position)

    async def take(self, job_id: str, worker: str, life_ms: int) -> Taken | Parked | None:
        """The job, or the one of the same owner whose turn it is, if this worker may run it now; None if another worker
        has it, or it waits no longer."""
        outcome, *answer = await self._take(job_id, worker, life_ms)
        if outcome == b"OTHER":
            first = answer[0].decode()
            outcome, *answer = await self._take(first, worker, life_ms)
            if outcome not in (b"HELD", b"UNKNOWN", b"OTHER"):
                job_id = first
            else:
                outcome, *answer = await self._take(job_id, worker, life_ms, whatever_turn=True)
        if outcome == b"PARKED":
            return Parked(job_id)
        return Taken(job_id, int(float(answer[0]))) if outcome == b"OK" else None

    async def _take(self, job_id: str, worker: str, life_ms: int, *, whatever_turn: bool = False) -> list[Any]:
        """The reply to `take.lua`."""
        command = partial(self._take_command, job_id, worker, life_ms, whatever_turn)
        reply: list[Any] = await self._server.execute(*command(self._server.known_run or await self._server.run()))
        if reply[0] == b"CHANGED":
            reply = await self._server.execute(*command(await self._server.run()))
        return reply

    def _take_command(self, job_id: str, worker: str, life_ms: int, whatever_turn: bool, run: ServerRun) -> Command:
        """`run`: the server's, as this process knows it."""
        owner = owner_of(job_id)
        names = [
            keys.QUEUE, in_progress_key_prefix + job_id, job_key_prefix + job_id, keys.TAGS, keys.line(owner),
            keys.turns(owner), keys.running(owner), keys.parked(owner), keys.PARKED, keys.WAITING,
        ]  # fmt: skip
        return scripts.TAKE.on(
            names, job_id, worker, life_ms, 1000 * HOLD_S, 1000 * CLOCK_SKEW_S, run.run_id, run.began_ms,
            owner, self.right_of(owner).max_running, self._running_ms, int(whatever_turn),
        )  # fmt: skip

    async def renew(self, job_ids: Collection[str]) -> None:
        """Go on counting these runs of a worker as their owners': at least every third of a lease."""
        held: defaultdict[str, list[str]] = defaultdict(list)
        for job_id in job_ids:
            if owner := owner_of(job_id):
                held[owner].append(job_id)
        if held:
            checked(
                await self._server.execute_many(
                    [
                        scripts.RENEW_SLOTS.on([keys.running(owner)], self._running_ms, *some)
                        for owner, some in held.items()
                    ]
                )
            )

    async def unpark(self) -> None:
        """Move parked jobs back into the queue that may run: those of workers that have died, and those of owners whose
        limit was raised. (The end of a run moves one back by itself.)"""
        owners = [owner.decode() for owner in await self._server.execute("HKEYS", keys.PARKED)]
        if owners:
            checked(await self._server.execute_many([self._unpark_command(owner) for owner in owners]))

    def _unpark_command(self, owner: str) -> Command:
        right = self.right_of(owner)
        names = [
            keys.QUEUE, keys.TAGS, keys.line(owner), keys.turns(owner), keys.running(owner), keys.parked(owner),
            keys.PARKED, keys.WAKE,
        ]  # fmt: skip
        return scripts.UNPARK.on(names, owner, right.max_running, right.step, MOVED_AT_ONCE)

    async def mark_started(self, job_id: str) -> None:
        """Take a running job out of the queue: arq leaves it there, where it hides waiting jobs behind it (11.8 s,
        measured)."""
        await self._server.execute("ZREM", keys.QUEUE, job_id)

    async def remove(self, job_id: str) -> None:
        """Remove a job whose run has ended, or which is not to run, and all that arq keeps of it; harmless if there is
        none."""
        await self._server.execute(*self.remove_command(job_id))

    def remove_command(self, job_id: str, *, has_ended: bool = True) -> Command:
        """The command of `remove`, to be sent together with others. `has_ended`: whether a run of the job has ended;
        otherwise it counts as its owner's until its worker removes it."""
        owner = owner_of(job_id)
        right = self.right_of(owner)
        names = [
            keys.QUEUE, job_key_prefix + job_id, in_progress_key_prefix + job_id, retry_key_prefix + job_id, keys.TAGS,
            keys.line(owner), keys.turns(owner), keys.running(owner), keys.parked(owner), keys.PARKED, keys.WAKE,
            keys.WAITING,
        ]  # fmt: skip
        return scripts.WITHDRAW.on(names, job_id, owner, right.max_running, right.step, int(has_ended))

    async def is_waiting(self, job_ids: list[str]) -> list[bool]:
        """For each job, whether a worker will find it in its turn. A worker does not find one that was taken and not
        begun; and one that an earlier version scored has its turn after all others.

        Asked together first: the jobs of a long queue simply wait. Then those of which that does not hold, one by one.
        """
        waiting: set[str] = set()
        for start in range(0, len(job_ids), ASKED_AT_ONCE):
            waiting |= await self._plainly_waiting(job_ids[start : start + ASKED_AT_ONCE])
        others = [job_id for job_id in job_ids if job_id not in waiting]
        waiting |= {job_id for job_id, waits in zip(others, await self._are_waiting(others), strict=True) if waits}
        return [job_id in waiting for job_id in job_ids]

    async def _plainly_waiting(self, job_ids: list[str]) -> set[str]:
        """Those that are in the queue, where all of these jobs have their payloads and no worker has taken any."""
        marks, jobs = ([prefix + job_id for job_id in job_ids] for prefix in (in_progress_key_prefix, job_key_prefix))
        commands: list[Command] = [("ZMSCORE", keys.QUEUE, *job_ids), ("EXISTS", *marks), ("EXISTS", *jobs)]
        scores, taken, known = checked(await self._server.execute_many(commands))
        if taken or known < len(job_ids):
            return set()
        return {
            job_id for job_id, score in zip(job_ids, scores, strict=True) if score is not None and float(score) < CLOCK
        }

    async def _are_waiting(self, job_ids: list[str]) -> list[bool]:
        commands: list[Command] = []
        for job_id in job_ids:
            mark = in_progress_key_prefix + job_id
            commands += [
                ("ZSCORE", keys.QUEUE, job_id), ("EXISTS", mark, job_key_prefix + job_id), ("EXISTS", mark),
                ("ZSCORE", keys.parked(owner_of(job_id)), job_id),
            ]  # fmt: skip
        replies = checked(await self._server.execute_many(commands))
        return [
            known == 1 and not taken and (parked is not None or (score is not None and float(score) < CLOCK))
            for score, known, taken, parked in zip(*(replies[start::4] for start in range(4)), strict=True)
        ]

    async def position(self, job_id: str) -> int | None:
        """Place in the queue, from 1; None once a worker has taken the job. Behind a parked one are those of its owner
        that were parked later."""
        parked = keys.parked(owner_of(job_id))
        commands: list[Command] = [
            ("ZRANK", keys.QUEUE, job_id), ("ZRANK", parked, job_id), ("ZSCORE", parked, job_id),
        ]  # fmt: skip
        rank, parked_rank, tag = checked(await self._server.execute_many(commands))
        if rank is None and parked_rank is not None:
            rank = parked_rank + await self._server.execute("ZCOUNT", keys.QUEUE, "-inf", f"({float(tag)!r}")
        return None if rank is None else int(rank) + 1

    async def depth(self) -> int:
        """The number of jobs that wait."""
        commands: list[Command] = [("ZCARD", keys.QUEUE), ("HVALS", keys.PARKED)]
        queued, parked = checked(await self._server.execute_many(commands))
        return int(queued) + sum(map(int, parked))

    async def oldest_wait_s(self) -> float:
        """For how many seconds the generation has been waiting, in the queue or parked, whose job was enqueued first; 0
        where none waits.

        Jobs that do not wait any more leave the list here, if the worker that took them is of an earlier version.
        """
        while True:
            commands: list[Command] = [("TIME",), ("ZRANGE", keys.WAITING, 0, OLDEST - 1, "WITHSCORES")]
            (seconds, micros), listed = checked(await self._server.execute_many(commands))
            if not listed:
                return 0.0
            job_ids = [job_id.decode() for job_id in listed[::2]]
            waiting = await self.is_waiting(job_ids)
            for waits, since in zip(waiting, listed[1::2], strict=True):
                if waits:
                    return max(0.0, int(seconds) + int(micros) / 1e6 - float(since) / 1000)
            await self._server.execute("ZREM", keys.WAITING, *job_ids)
