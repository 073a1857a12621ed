"""Ends that another process than the running worker writes: by a cancel, a delete, or a limit.

    acquire(end) ──▶ the worker is fenced and notified, the log stands still ──▶ fold ──▶ finish ──▶ finalize

This works in any process, with a dead worker, and while the generation is queued. Where the process dies half-way, the
state's `terminating` has the status, and a sweeper writes the end. Concurrent callers back off at random when another
one has fenced them; in lock-step they would keep fencing each other (20 of them: up to 7,588 acquires, measured; with
the backoff a few dozen).
"""

import asyncio
import random
from itertools import count

from tailrace.events import Failure, FinalStatus
from tailrace.ids import new_token
from tailrace.lifecycle.finalization import finalize
from tailrace.log import Log, Outcome
from tailrace.log.codec import from_row
from tailrace.log.output import Output
from tailrace.prompt_size import prompt_bytes
from tailrace.queue import Queue

BACKOFF_S = 0.002
"""Upper bound of the first random pause; doubled each time, up to an eighth of a second."""

CONFIRM_S = 2.5
"""By then an end is on disk: Redis syncs every second, and a busy disk may delay that. A worker checks its end then."""


async def terminate(
    log: Log, queue: Queue, generation_id: str, status: FinalStatus, error: Failure | None = None
) -> None:
    """End the generation with this status, unless it has ended. Returns when its `done` is in the log.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
        RedisUnavailable: a server could not be reached; the call may be repeated.
    """
    for fenced in count():
        grant = await log.acquire(generation_id, new_token(), terminating=status)
        if grant.outcome is Outcome.DONE:
            return
        if grant.state is None:
            await log.state(generation_id)  # raises NotFound or Gone, unless a worker has just restored it
            continue
        await log.notify_worker(grant.state)
        output = Output(map(from_row, grant.rows), logprobs=grant.state.record.logprobs)
        size = prompt_bytes(grant.request)
        done = output.build_done(status, grant.now / 1000, error=error, prompt_bytes=size)
        answer = await log.finish(generation_id, grant.epoch, output.last_seq, done)
        if answer.outcome in (Outcome.OK, Outcome.DONE):
            await finalize(log, queue, grant.state)
            return
        await asyncio.sleep(random.uniform(0, BACKOFF_S * 2 ** min(fenced, 6)))  # noqa: S311 - spreads load
