"""Jobs in arq's queue. Only this module, and the worker's `JobRunner`, know arq.

A job carries the generation's id and nothing else, and each run of a generation has a job of its own: a job id that is
used twice is blocked by the in-progress mark of a dead worker (42.5 s, measured). Which worker may write is decided by
the log's lease, not by arq.
"""

import time
from typing import Any

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job

from tailrace import jsoncodec, keys, scripts
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
"""Jobs are scored this far in the past: arq compares the enqueuer's clock with the worker's. Those that are not
generations are scored twice as far, and so go first: they end at once, and must not wait behind a full queue."""

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


def job_keys(job_id: str) -> list[str]:
    """The keys of a waiting job."""
    return [keys.QUEUE, job_key_prefix + job_id]


def job_arguments(generation_id: str, job_id: str, expires_s: int, job: str = JOB) -> list[Any]:
    """The arguments with which a script enqueues a job."""
    now_ms = int(1000 * time.time())
    payload = serialize_job(job, (generation_id, job_id), {}, None, now_ms, serializer=dump_job)
    past_s = CLOCK_SKEW_S if job == JOB else 2 * CLOCK_SKEW_S
    return [job_id, payload, expires_s * 1000, 1000 * past_s, keys.WAKE]


class Jobs:
    """The jobs that wait, and those that workers have taken."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.arq = ArqRedis(
            server.client.connection_pool,
            job_serializer=dump_job,
            job_deserializer=load_job,
            default_queue_name=keys.QUEUE,
        )

    async def enqueue(self, generation_id: str, job_id: str, expires_s: int, *, job: str = JOB) -> int:
        """Ask for a run of a job (a row of `tailrace_worker.worker.JOBS`). Returns the place in the queue, from 1.

        The same job id twice is one job.
        """
        _, position = await self._server.execute(*self.enqueue_command(generation_id, job_id, expires_s, job=job))
        return int(position)

    def enqueue_command(self, generation_id: str, job_id: str, expires_s: int, *, job: str = JOB) -> Command:
        """The command of `enqueue`, to be sent together with others."""
        return scripts.ENQUEUE.on(job_keys(job_id), *job_arguments(generation_id, job_id, expires_s, job))

    async def take(self, job_id: str, worker: str, life_ms: int) -> int | None:
        """The job's score, if this worker may run it now; None if another worker has it, or it waits no longer."""
        outcome, *score = await self._take(job_id, worker, life_ms, self._server.known_run or await self._server.run())
        if outcome == b"CHANGED":
            outcome, *score = await self._take(job_id, worker, life_ms, await self._server.run())
        return int(float(score[0])) if outcome == b"OK" else None

    async def _take(self, job_id: str, worker: str, life_ms: int, run: ServerRun) -> list[Any]:
        """The reply to `take.lua`. `run`: the server's, as this process knows it."""
        names = [keys.QUEUE, in_progress_key_prefix + job_id]
        command = scripts.TAKE.on(
            names, job_id, worker, life_ms, 1000 * HOLD_S, 1000 * CLOCK_SKEW_S, run.run_id, run.began_ms
        )
        reply: list[Any] = await self._server.execute(*command)
        return reply

    async def mark_started(self, job_id: str) -> None:
        """Take a running job out of the queue: arq leaves it there, where it hides waiting jobs behind it (11.8 s,
        measured)."""
        await self._server.execute("ZREM", keys.QUEUE, job_id)

    async def remove(self, job_id: str) -> None:
        """Remove a job and all that arq keeps of it; harmless if there is none."""
        checked(await self._server.execute_many(self.remove_commands(job_id)))

    def remove_commands(self, job_id: str) -> list[Command]:
        """The commands of `remove`, to be sent together with others."""
        prefixes = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
        return [("ZREM", keys.QUEUE, job_id), ("DEL", *(prefix + job_id for prefix in prefixes))]

    async def is_waiting(self, job_ids: list[str]) -> list[bool]:
        """For each job, whether a worker will still find it. A worker does not find one that was taken and not
        begun."""
        commands: list[Command] = []
        for job_id in job_ids:
            mark = in_progress_key_prefix + job_id
            commands += [
                ("ZSCORE", keys.QUEUE, job_id), ("EXISTS", mark, job_key_prefix + job_id), ("EXISTS", mark),
            ]  # fmt: skip
        replies = checked(await self._server.execute_many(commands))
        return [
            score is not None and known == 1 and not taken
            for score, known, taken in zip(replies[::3], replies[1::3], replies[2::3], strict=True)
        ]

    async def position(self, job_id: str) -> int | None:
        """Place in the queue, from 1; None once a worker has taken the job."""
        rank = await self._server.execute("ZRANK", keys.QUEUE, job_id)
        return None if rank is None else int(rank) + 1

    async def depth(self) -> int:
        """The number of jobs that wait."""
        return int(await self._server.execute("ZCARD", keys.QUEUE))
