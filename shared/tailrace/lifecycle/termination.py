"""Ending what somebody else runs: cancel, delete, and whoever finds that a generation cannot go on.

    acquire(end) ──▶ the worker is fenced and notified, the log stands still ──▶ fold ──▶ finish

It works from any node, with a dead worker, and while the generation still waits. If whoever does it dies half-way, the
head's `terminating` says what was begun. Whoever is fenced by another who ends it gives that one a moment: many at
once, in step, would fence each other for ever (20 of them: up to 7,588 take-overs, measured; with it a few dozen).
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
from tailrace.queue import Queue

PAUSE_S = 0.002  # twice as long each time, up to an eighth of a second

CONFIRM_S = 2.5
"""After that an end is on disk (an fsync every second, and what may delay it), or its worker writes it again."""


async def terminate(
    log: Log, queue: Queue, generation_id: str, status: FinalStatus, error: Failure | None = None
) -> None:
    """Write the one `done`, unless there is one already.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
    """
    for fenced in count():
        taken = await log.acquire(generation_id, new_token(), terminating=status)
        if taken.outcome is Outcome.DONE:
            return
        if taken.state is None:
            await log.state(generation_id)  # raises what became of it; if it is back: once more
            continue
        await log.notify_worker(taken.state)
        output = Output(map(from_row, taken.rows), logprobs=taken.state.record.logprobs)
        done = output.build_done(status, taken.now / 1000, error=error, request=taken.request)
        answer = await log.finish(generation_id, taken.epoch, output.last_seq, done)
        if answer.outcome in (Outcome.OK, Outcome.DONE):
            await finalize(queue, taken.state)
            return
        await asyncio.sleep(random.uniform(0, PAUSE_S * 2 ** min(fenced, 6)))  # noqa: S311 - spreads load
