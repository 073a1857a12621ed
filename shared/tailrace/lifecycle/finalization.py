"""The consequences of the end of a generation: one function, called by everything that writes or finds a `done`.

    worker    ending.write        the attempt has written `done`, or found it lost and written it again
    any       terminate           a cancel, a delete or a limit has written `done`
    any       sweeper             `done` is in the log, and the generation still in the index of unfinished ones

`STEPS` run in order, each at least once for each end: where the process dies between two of them, the sweeper runs all
of them again. A step is therefore idempotent, and the removal from the index, where the sweeper finds the generation,
is the last one. A step takes a few round trips to Redis; anything longer is a job that a step enqueues.
"""

from collections.abc import Awaitable, Callable

from tailrace.lifecycle.webhook_jobs import note_webhooks
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import Queue

Step = Callable[[Log, Queue, GenerationState], Awaitable[None]]


async def remove_from_queue(_: Log, queue: Queue, state: GenerationState) -> None:
    """Remove its job from the queue, and the generation from its owner's count; charge the owner what it has used."""
    record, charges = state.record, queue.quotas.settle_commands(state)
    await queue.remove(record.id, record.owner, state.job_id, charges)


async def remove_from_index(log: Log, _: Queue, state: GenerationState) -> None:
    """Remove the generation from the unfinished ones."""
    await log.unfinished.remove(state.record.id)


STEPS: tuple[Step, ...] = (note_webhooks, remove_from_queue, remove_from_index)
"""Webhooks come first: they are noted on the log's server, also while the queue's is away."""


async def finalize(log: Log, queue: Queue, state: GenerationState) -> None:
    """Run what hangs on the end of this generation. Its `done` is in the log.

    Raises: RedisUnavailable, RedisFull, RedisRefused. The sweeper then runs the steps again.
    """
    for step in STEPS:
        await step(log, queue, state)
