"""The leases of a worker that is known to be dead.

Where the death of a worker is not known, its leases end by their time, and a sweeper has its generations run again.
The parent of a worker process knows of its exit, and ends them at once. The sweeper decides what follows, as it does
for every expired lease: which attempts are charged, and what ends.

Where a user had the worker killed, no generation was the cause. Its parent then hands its generations over, as a worker
that stops does: no attempt is charged, none counts towards the quarantine, and no sweep is awaited.
"""

import asyncio
from collections.abc import AsyncIterator

from tailrace.lifecycle.limits import enqueue_again, new_job_id
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.queue import Queue


async def expire_leases(log: Log, worker: str) -> None:
    """End every lease of this worker, whose process must have exited.

    Raises:
        RedisUnavailable, RedisRefused
    """
    async for state in _held_by(log, worker):
        await log.expire(state)


async def hand_over(log: Log, queue: Queue, worker: str) -> None:
    """Queue again what this worker ran, whose process must have exited; the lost attempts are handovers.

    Raises:
        RedisUnavailable, RedisRefused
        RedisFull: the queue takes no job. A sweeper finds those that are not in the queue.
    """
    held = [state async for state in _held_by(log, worker)]
    await asyncio.gather(*(_queue_again(log, queue, state) for state in held))


async def _queue_again(log: Log, queue: Queue, state: GenerationState) -> None:
    generation_id, job_id = state.record.id, new_job_id(state)
    await queue.jobs.remove(state.job_id)  # first: afterwards no state names this job any more
    if await log.release(generation_id, state.epoch, job_id) is Outcome.OK:
        await enqueue_again(queue, state, job_id)


async def _held_by(log: Log, worker: str) -> AsyncIterator[GenerationState]:
    """Every generation that runs by a lease of this worker."""
    for shard in await log.unfinished.shards():
        if generation_ids := await shard.list():
            for state in await log.states(generation_ids):
                if isinstance(state, GenerationState) and _is_run_by(state, worker):
                    yield state


def _is_run_by(state: GenerationState, worker: str) -> bool:
    """Whether the lease is the worker's. That of a generation which is ended is another process' (`acquire.lua`)."""
    return state.status == "running" and state.worker == worker and not state.terminating
