"""The step from a generation's end to its webhooks, and the jobs that deliver them.

The step of `finalization` notes one webhook for each endpoint of the owner that asks for this event, and enqueues a job
for the endpoint. Which event it is follows from the `done` in the log: where two processes end a generation, only one
of the ends is there. A sweeper enqueues the job again for each endpoint where something is due: that is how a delivery
is retried, and how one is found whose worker or whose job was lost.

A job is named after its endpoint, so an endpoint has at most one in the queue, however many webhooks wait there: what
one receiver does not accept fills no queue.
"""

import asyncio

from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import DELIVER_WEBHOOKS, Queue
from tailrace.webhooks import EndpointRef, Endpoints, Outbox
from tailrace.webhooks.events import event_body, event_kind, webhook_id

JOB_LIFE_S = 3600
KNOWN_MARGIN_S = 60
"""So long beyond its retention a generation's webhooks are known: its end can be finalized again until its state has
expired."""

ENQUEUED_AT_ONCE = 50


async def note_webhooks(log: Log, queue: Queue, state: GenerationState) -> None:
    """Note the webhooks of a generation that has ended, and have them delivered. Repeating it changes nothing."""
    record, kind = state.record, event_kind(state.record)
    if kind is None:
        return
    asking = [each for each in await Endpoints(log.server).list(record.owner) if each.asks_for(kind)]
    done = await log.done(record.id) if asking else None
    if done is None:
        return  # (or it was deleted: its end was noted before)
    type_ = f"{kind}.{done.status}"
    body, outbox = event_body(record.id, type_, done.at), Outbox(log.server)
    known_s = record.options.retention_s + KNOWN_MARGIN_S
    for endpoint in asking:
        ref, name = EndpointRef(record.owner, endpoint.id), webhook_id(record.id, type_, endpoint.id)
        if type_ in endpoint.event_types and await outbox.add(ref, name, body, known_s):
            await queue.jobs.enqueue(str(ref), _job_id(ref), JOB_LIFE_S, job=DELIVER_WEBHOOKS)


async def enqueue_due_webhooks(log: Log, queue: Queue, period_ms: int) -> None:
    """Have workers deliver what is due, unless another process has done so in this period.

    Raises:
        RedisUnavailable: a server cannot be reached.
    """
    outbox = Outbox(log.server)
    if not await outbox.claim_sweep(period_ms):
        return
    due = await outbox.due()
    for start in range(0, len(due), ENQUEUED_AT_ONCE):
        await asyncio.gather(*(_enqueue_again(queue, ref) for ref in due[start : start + ENQUEUED_AT_ONCE]))


async def _enqueue_again(queue: Queue, ref: EndpointRef) -> None:
    """Replace the job: a worker that took it and died has left a mark that keeps the others from it."""
    await queue.jobs.remove(_job_id(ref))
    await queue.jobs.enqueue(str(ref), _job_id(ref), JOB_LIFE_S, job=DELIVER_WEBHOOKS)


def _job_id(ref: EndpointRef) -> str:
    return f"webhooks-{ref.id}"
