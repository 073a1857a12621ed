"""From an end to a job that delivers it, on a real server; and what is left of it after each kind of loss."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.asyncio import Redis

from support.ends import confirmations_on, terminate
from support.log_writer import LogWriter
from support.logs import record as record_of
from support.queues import queue_on, submit
from tailrace import keys
from tailrace.errors import RedisFull, RedisUnavailable
from tailrace.events import FinalStatus
from tailrace.ids import new_generation_id
from tailrace.lifecycle import finalization, sweeper
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.lifecycle.webhook_jobs import KNOWN_MARGIN_S, enqueue_due_webhooks, note_webhooks
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import DELIVER_WEBHOOKS, load_job
from tailrace.webhooks import Endpoint, EndpointRef, Endpoints, Outbox
from tailrace.webhooks.events import EVENT_TYPES, webhook_id

OWNER = "anna"
PERIOD_MS = 60_000


class Harness:
    """A log, a queue, and an endpoint of the owner that asks for every event."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.redis, self.log, self.queue = redis, log, queue_on(redis)
        self.endpoints, self.outbox = Endpoints(log.server), Outbox(log.server)

    async def add_endpoint(self, *event_types: str, owner: str = OWNER) -> EndpointRef:
        endpoint: Endpoint = await self.endpoints.add(owner, "billing", "https://example.org/", list(event_types))
        return EndpointRef(owner, endpoint.id)

    async def ended(self, status: FinalStatus = "completed", **changes: Any) -> GenerationState:
        """The state of a generation that was ended and not finalized, as its worker has it."""
        record = record_of(id=new_generation_id(), owner=OWNER, **changes)
        await submit(self.log, self.queue, record)
        writer = await LogWriter.start(self.log, record.id)
        await writer.end(status)
        return writer.state

    async def waiting(self, ref: EndpointRef) -> list[tuple[str, Any]]:
        """Ids and events of the webhooks that wait at the endpoint."""
        bodies = await self.redis.execute_command("HGETALL", keys.webhook_bodies(ref.id))
        return [(name.decode(), json.loads(body)) for name, body in bodies.items()]

    async def jobs(self) -> list[str]:
        """The ids of the jobs that wait."""
        return [each.decode() for each in await self.redis.zrange(keys.QUEUE, 0, -1)]

    async def take_all(self, ref: EndpointRef) -> None:
        """A worker delivers all that is due, and its job is done."""
        for webhook in await self.outbox.claim(ref, 100):
            await self.outbox.remove(ref, webhook.id)
        await self.queue.jobs.remove(f"webhooks-{ref.id}")

    async def sweep(self) -> None:
        """As any process of the fleet would in the next period."""
        await self.redis.delete(keys.WEBHOOKS_SWEPT)
        await enqueue_due_webhooks(self.log, self.queue, PERIOD_MS)


@pytest.fixture
def harness(redis: Redis, log: Log) -> Harness:
    return Harness(redis, log)


# An end becomes a webhook


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
async def test_end_is_noted_for_the_endpoints_that_ask_for_it(
    harness: Harness, status: FinalStatus, background: bool
) -> None:
    type_ = f"{'response' if background else 'generation'}.{status}"
    asking = await harness.add_endpoint(type_)
    another = await harness.add_endpoint(*(each for each in EVENT_TYPES if each != type_))
    stranger = await harness.add_endpoint(*EVENT_TYPES, owner="ben")
    state = await harness.ended(status, background=background)
    await note_webhooks(harness.log, harness.queue, state)
    ((name, event),) = await harness.waiting(asking)
    assert name == webhook_id(state.record.id, type_, asking.id)
    done = await harness.log.done(state.record.id)
    assert done is not None
    assert (event["type"], event["created_at"]) == (type_, int(done.at))
    assert event["data"]["id"].partition("_")[2] == state.record.id.partition("_")[2]
    assert [await harness.waiting(ref) for ref in (another, stranger)] == [[], []]


async def test_job_names_the_endpoint(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    await harness.queue.jobs.remove(state.job_id)
    await note_webhooks(harness.log, harness.queue, state)
    assert await harness.jobs() == [f"webhooks-{ref.id}"]
    job = load_job(await harness.redis.get(f"{job_key_prefix}webhooks-{ref.id}"))
    assert (job["f"], job["a"]) == (DELIVER_WEBHOOKS, [str(ref), f"webhooks-{ref.id}"])


async def test_webhooks_of_one_endpoint_share_a_job(harness: Harness) -> None:
    refs = [await harness.add_endpoint(*EVENT_TYPES) for _ in range(2)]
    for _ in range(5):
        state = await harness.ended()
        await finalize(harness.log, harness.queue, state)
    assert [len(await harness.waiting(ref)) for ref in refs] == [5, 5]
    assert sorted(await harness.jobs()) == sorted(f"webhooks-{ref.id}" for ref in refs)


async def test_generation_whose_client_waits_has_no_webhook(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    await note_webhooks(harness.log, harness.queue, await harness.ended(foreground=True))
    assert await harness.waiting(ref) == []


async def test_end_is_not_read_where_no_endpoint_asks_for_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the whole output, which may be megabytes."""

    async def read(_: str) -> None:
        raise AssertionError("the end was read")

    await harness.add_endpoint("response.completed", "response.failed")
    state = await harness.ended()
    monkeypatch.setattr(harness.log, "done", read)
    await note_webhooks(harness.log, harness.queue, state)
    assert await harness.redis.keys("tailrace:{webhooks}*") == [keys.webhook_endpoints(OWNER).encode()]


async def test_generation_that_was_deleted_has_no_end_to_note(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    await harness.log.delete(state.record.id)
    await note_webhooks(harness.log, harness.queue, state)
    assert await harness.waiting(ref) == []


# Once, whatever happens


async def test_end_that_is_finalized_again_is_noted_once(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    await asyncio.gather(*(finalize(harness.log, harness.queue, state) for _ in range(5)))
    assert len(await harness.waiting(ref)) == 1
    await harness.take_all(ref)
    await finalize(harness.log, harness.queue, state)
    assert (await harness.waiting(ref), await harness.jobs()) == ([], [])


async def test_webhook_is_known_for_as_long_as_its_generation_can_be_finalized(harness: Harness) -> None:
    await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    await note_webhooks(harness.log, harness.queue, state)
    (known,) = await harness.redis.keys("tailrace:{webhooks}:known:*")
    kept_ms = await harness.redis.pttl(keys.state(state.record.id))
    assert await harness.redis.pttl(known) > kept_ms + 1000 * (KNOWN_MARGIN_S - 5)


async def test_cancel_that_races_with_the_end_is_one_webhook(harness: Harness) -> None:
    """The worker finalizes as well where a cancel was first: the event is the one that the log has."""
    ref = await harness.add_endpoint(*EVENT_TYPES)
    for _ in range(50):
        record = record_of(id=new_generation_id(), owner=OWNER)
        await submit(harness.log, harness.queue, record)
        writer = await LogWriter.start(harness.log, record.id)

        async def end(writer: LogWriter = writer) -> None:
            await writer.finish()
            await finalize(harness.log, harness.queue, writer.state)

        await asyncio.gather(end(), terminate(harness.log, harness.queue, record.id, "cancelled"))
        await finalize(harness.log, harness.queue, writer.state)
        done = await harness.log.done(record.id)
        assert done is not None
        ((_, event),) = await harness.waiting(ref)
        assert event["type"] == f"generation.{done.status}"
        await harness.take_all(ref)


async def test_end_that_the_log_lost_has_the_same_webhook_when_it_is_written_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server restarts without data, and the process that cancelled writes the end again."""
    monkeypatch.setattr("tailrace.lifecycle.confirmation.CONFIRM_S", 0.1)
    ref = await harness.add_endpoint(*EVENT_TYPES)
    endpoint = await harness.redis.dump(keys.webhook_endpoints(OWNER))
    confirmations = confirmations_on(harness.log, harness.queue)
    record = record_of(id=new_generation_id(), owner=OWNER)
    await submit(harness.log, harness.queue, record)
    await confirmations.terminate(record.id, "cancelled")
    before = await harness.waiting(ref)
    await harness.redis.flushall()
    await harness.redis.restore(keys.webhook_endpoints(OWNER), 0, endpoint)
    confirming = asyncio.create_task(confirmations.run())
    await confirmations.drain(5)
    await cancel_and_wait(confirming)
    assert len(before) == 1
    assert await harness.waiting(ref) == before


async def test_process_that_dies_between_the_end_and_its_webhook_is_replaced_by_a_sweeper(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -harness.log.lease_ms / 1000)  # the test's server may have just started
    ref = await harness.add_endpoint(*EVENT_TYPES)
    await harness.ended()
    confirmations = confirmations_on(harness.log, harness.queue)
    await Sweeper(harness.log, harness.queue, confirmations, max_attempts=5, connected_for=lambda: 0.0).sweep()
    assert len(await harness.waiting(ref)) == 1
    assert await harness.jobs() == [f"webhooks-{ref.id}"]


async def test_webhooks_are_noted_before_the_queue_is_asked(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be away for longer than the generation is kept."""

    async def away(*_: Any, **__: Any) -> int:
        raise RedisUnavailable

    assert finalization.STEPS[0] is note_webhooks
    ref = await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    with monkeypatch.context() as failing:
        failing.setattr(harness.queue.jobs, "enqueue", away)
        with pytest.raises(RedisUnavailable):
            await finalize(harness.log, harness.queue, state)
    assert len(await harness.waiting(ref)) == 1
    await harness.sweep()
    assert f"webhooks-{ref.id}" in await harness.jobs()


async def test_end_on_a_server_without_room_is_noted(
    harness: Harness, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    state = await harness.ended()
    await fill_memory()
    with pytest.raises(RedisFull):  # of the job
        await finalize(harness.log, harness.queue, state)
    assert len(await harness.waiting(ref)) == 1


# Jobs that are lost


async def test_sweep_enqueues_what_is_due_and_has_no_job(harness: Harness) -> None:
    refs = [await harness.add_endpoint(*EVENT_TYPES) for _ in range(3)]
    state = await harness.ended()
    await finalize(harness.log, harness.queue, state)
    await harness.redis.delete(keys.QUEUE, *await harness.redis.keys("arq:*"))
    await harness.sweep()
    assert sorted(await harness.jobs()) == sorted(f"webhooks-{ref.id}" for ref in refs)


async def test_sweep_replaces_the_job_that_a_worker_took_before_it_died(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    await finalize(harness.log, harness.queue, await harness.ended())
    job_id = f"webhooks-{ref.id}"
    await harness.queue.jobs.mark_started(job_id)
    await harness.redis.set(in_progress_key_prefix + job_id, b"a dead worker")
    await harness.sweep()
    assert await harness.queue.jobs.is_waiting([job_id]) == [True]


async def test_sweep_leaves_alone_what_is_not_due(harness: Harness) -> None:
    ref = await harness.add_endpoint(*EVENT_TYPES)
    await finalize(harness.log, harness.queue, await harness.ended())
    (webhook,) = await harness.outbox.claim(ref, 10)
    await harness.queue.jobs.remove(f"webhooks-{ref.id}")
    await harness.sweep()
    assert await harness.jobs() == []
    await harness.outbox.defer(ref, webhook.id, webhook.now)
    await harness.sweep()
    assert await harness.jobs() == [f"webhooks-{ref.id}"]


async def test_sweep_of_another_process_in_the_same_period_does_nothing(harness: Harness) -> None:
    await harness.add_endpoint(*EVENT_TYPES)
    await harness.sweep()
    await finalize(harness.log, harness.queue, await harness.ended())
    await harness.redis.delete(keys.QUEUE)  # the job is lost
    await enqueue_due_webhooks(harness.log, harness.queue, PERIOD_MS)
    assert await harness.jobs() == []
