"""Ends that another process than the running worker writes: by a cancel, a delete, or a limit.

    acquire(end) ──▶ the worker is fenced and notified, the log stands still ──▶ fold ──▶ finish ──▶ finalize, confirm

This works in any process, with a dead worker, and while the generation is queued. Where the process dies half-way, the
state's `terminating` and `terminating_error` have the end, and a sweeper writes it. Concurrent callers back off at
random when another one has fenced them; in lock-step they would keep fencing each other (20 of them: up to 7,588
acquires, measured; with the backoff a few dozen).
"""

import asyncio
import random
import time

import msgspec

from tailrace.events import NO_EXTRA, Failure, FinalStatus, seq_span
from tailrace.ids import START, EntryId, new_token
from tailrace.lifecycle.written_end import WrittenEnd
from tailrace.log import Log, Outcome
from tailrace.log.measures import with_measures
from tailrace.log.output import Output
from tailrace.log.packed_rows import PackedRows
from tailrace.log.reading import Fold
from tailrace.prompt_size import prompt_bytes

BACKOFF_S = 0.002
"""Upper bound of the first random pause; doubled each time, up to an eighth of a second."""

CONFIRM_S = 2.5
"""By then an end is on disk: Redis syncs every second, and a busy disk may delay that. It is checked then
(`confirmation`)."""

MAX_ROWS_BYTES = 8 * 1024 * 1024
"""Memory of the rows that are kept with an end: 200,000 short ones. An end of more is written again without them: with
the same status, onto what the server still has."""


async def write_end(
    log: Log, generation_id: str, status: FinalStatus, error: Failure | None = None
) -> WrittenEnd | None:
    """End the generation with this status. Returns when its `done` is in the log: what was written, to be finalized and
    confirmed; None where the generation had ended.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
        RedisUnavailable: a server could not be reached; the call may be repeated.
    """
    folded, fold, fenced = START, Fold(Output(), PackedRows(), 0), 0
    while True:
        grant = await log.acquire(generation_id, new_token(), terminating=status, error=error, rows=False)
        if grant.outcome is Outcome.DONE:
            return None
        if grant.state is None:
            await log.state(generation_id)  # raises NotFound or Gone, unless a worker has just restored it
            continue
        await log.notify_worker(grant.state)
        if grant.last_id != folded:  # the id of an entry names all entries before it
            logprobs = grant.state.record.logprobs
            fold = await log.output_and_rows(generation_id, grant.last_id, MAX_ROWS_BYTES, logprobs=logprobs)
            folded = grant.last_id
        written_at, (output, rows, row_bytes) = time.monotonic(), fold
        size = prompt_bytes(grant.request)
        measures = grant.measures
        done = output.build_done(status, grant.now / 1000, error=error, prompt_bytes=size, price=measures.price)
        done = with_measures(done, measures, grant.state.attempt)
        answer = await log.finish(generation_id, grant.epoch, output.last_id.seq, done)
        end_id = EntryId(grant.epoch, output.last_id.seq + seq_span(done))
        if answer.outcome is Outcome.DONE and (answer.done is None or answer.done.id != end_id):
            return None  # another process has ended it meanwhile
        if answer.outcome in (Outcome.OK, Outcome.DONE):  # DONE: the reply to an earlier call was lost
            request = msgspec.Raw(grant.stored_request)
            return WrittenEnd(
                end_id, output.last_id.seq, grant.state, request, rows, done, NO_EXTRA, written_at,
                may_fence=True, output_bytes=2 * row_bytes,
            )  # fmt: skip
        await asyncio.sleep(random.uniform(0, BACKOFF_S * 2 ** min(fenced, 6)))  # noqa: S311 - spreads load
        fenced += 1
