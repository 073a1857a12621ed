"""The parts of a worker process: its jobs, its servers, its control channel, its leases, and how it drains."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.attempts import ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.hub_harness import until
from support.logs import record as record_of
from support.queues import submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.errors import Misconfigured, RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle.worker_control import send_command
from tailrace.log import Log, Outcome
from tailrace.log.state import ABANDONED_MS
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import DELIVER_WEBHOOKS, Parked, Taken, arq_jobs
from tailrace.settings import WORKER_NAME, Settings
from tailrace.webhooks import EndpointRef
from tailrace_cli.embedded import EmbeddedServer
from tailrace_worker import worker
from tailrace_worker.attempt import Attempt
from tailrace_worker.worker import JOBS, GenerationWorker

READ_ONLY_WHILE_READ = Options(60, 60, on_disconnect="cancel")


class Harness:
    """A worker process on the real server: its appender runs, the rest is called by the test."""

    def __init__(self, url: str) -> None:
        self.process = GenerationWorker(Settings(redis_url=url, drain_s=0.2))
        self.log, self.queue = self.process.log, self.process.queue
        self.dialect: ScriptedDialect | None = None

    async def run(self, **changes: Any) -> str:
        """Have the worker take a new generation; its id, once its upstream is open."""
        assert self.dialect is not None
        record = record_of(id=new_generation_id(), **changes)
        await submit(self.log, self.queue, record)
        job_id = (await self.log.state(record.id)).job_id
        opened = self.dialect.opened
        await self.process.job_runner.start_jobs([job_id.encode()])
        async with asyncio.timeout(5):
            while self.dialect.opened == opened:  # noqa: ASYNC110 - the dialect signals nothing
                await asyncio.sleep(0.01)
        return record.id

    def connect(self, seconds: float) -> None:
        """The control channel has been connected for so many seconds."""
        self.process.control.disconnected_since = None
        self.process.control.connected_at = time.monotonic() - seconds

    async def ended(self, generation_id: str) -> None:
        """Wait until the worker runs the generation no more."""
        async with asyncio.timeout(5):
            while generation_id in self.process.running:  # noqa: ASYNC110 - the worker signals nothing
                await asyncio.sleep(0.01)


@pytest.fixture
async def harness(redis: Redis, valkey: EmbeddedServer) -> AsyncIterator[Harness]:
    harness = Harness(valkey.url)
    appending = asyncio.create_task(harness.process.appender.run())
    confirming = asyncio.create_task(harness.process.confirmations.run())
    yield harness
    for job in harness.process.job_runner.job_tasks.values():
        job.cancel()
    await asyncio.gather(*harness.process.job_runner.tasks.values(), return_exceptions=True)
    await cancel_and_wait(appending, confirming)
    await harness.process._close()


@pytest.fixture
def endless(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Every answer of the upstream is `Hi`, and ends once this event is set."""
    finish = asyncio.Event()
    harness.dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), finish, end())
    return finish


def raising(*errors: BaseException) -> Callable[[], Awaitable[None]]:
    """A call that raises one error a time."""
    left = iter(errors)

    async def call() -> None:
        raise next(left)

    return call


# jobs


async def test_job_runner_knows_every_job_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def another_job(self: GenerationWorker, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        """A third kind."""

    monkeypatch.setattr(worker, "JOBS", {**JOBS, "another_job": another_job})
    process = GenerationWorker(Settings())
    assert sorted(process.job_runner.functions) == ["another_job", "deliver_webhooks", "run_generation"]
    await process._close()


async def test_worker_has_the_name_that_its_parent_has_given_it_or_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKER_NAME, raising=False)
    processes = [GenerationWorker(Settings()), GenerationWorker(Settings())]
    monkeypatch.setenv(WORKER_NAME, "given")
    processes.append(GenerationWorker(Settings()))
    first, second, third = (process.name for process in processes)
    assert len({first, second, ""}) == 3
    assert third == "given"
    for process in processes:
        await process._close()


@pytest.mark.parametrize(("jobs", "neighbours"), [(0, 0), (1, 0), (3, 2)])
async def test_neighbours_of_a_generation_are_the_worker_s_other_jobs(jobs: int, neighbours: int) -> None:
    process = GenerationWorker(Settings())
    process.job_runner.job_counter = jobs
    assert process._count_neighbours() == neighbours
    await process._close()


async def test_generation_that_the_worker_runs_already_is_not_run_twice(
    harness: Harness, endless: asyncio.Event
) -> None:
    """Another job of it may have been enqueued where a sweeper took its lease for expired."""
    assert harness.dialect is not None
    generation_id = await harness.run()
    run, state = harness.process.running[generation_id], await harness.log.state(generation_id)
    await harness.process.run_generation({}, generation_id, "another job")
    assert harness.process.running[generation_id] is run
    assert (await harness.log.state(generation_id)).epoch == state.epoch
    assert harness.dialect.opened == 1


async def test_delivery_of_webhooks_holds_no_slot(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[EndpointRef] = []
    monkeypatch.setattr(harness.process.webhooks, "start", started.append)
    await harness.queue.jobs.enqueue("anna/whe_1", "webhooks-whe_1", 60, job=DELIVER_WEBHOOKS)
    monkeypatch.setattr(arq_jobs, "HOLD_S", 0)  # the server of the tests may have just started
    await harness.process.job_runner.start_jobs([b"webhooks-whe_1"])
    await asyncio.gather(*harness.process.job_runner.tasks.values())
    assert started == [EndpointRef("anna", "whe_1")]
    assert harness.process.job_runner.job_counter == 0
    assert await harness.queue.jobs.depth() == 0


# servers


async def test_worker_refuses_a_server_that_would_lose_logs(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def problems() -> tuple[list[str], list[str]]:
        return ["maxmemory-policy is allkeys-lru", "version 6"], ["appendonly is off"]

    monkeypatch.setattr(harness.log.server, "problems", problems)
    with pytest.raises(Misconfigured, match="allkeys-lru; version 6"):
        await harness.process.health.check_servers()
    assert "redis: appendonly is off" in caplog.messages


async def test_worker_accepts_fit_servers(harness: Harness) -> None:
    await harness.process.health.check_servers()


# the control channel


async def test_control_message_stops_the_generation_that_it_names(harness: Harness, endless: asyncio.Event) -> None:
    fenced, other = await harness.run(), await harness.run()
    harness.process._on_control_message(new_generation_id().encode())
    harness.process._on_control_message(fenced.encode())
    await harness.ended(fenced)
    assert list(harness.process.running) == [other]
    assert await done_of_log(harness.log, fenced) is None


async def test_control_connection_that_was_lost_renews_the_leases_at_once(harness: Harness) -> None:
    waiting = asyncio.create_task(harness.process.reconnects.wait(60))
    await asyncio.sleep(0)
    harness.process._on_control_message(None)
    assert await waiting


# leases


async def test_renewal_goes_on_after_errors_of_redis(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(_: float) -> bool:
        return False

    errors = [RedisUnavailable(), RedisFull(), RedisRefused(detail="no permission"), asyncio.CancelledError()]
    monkeypatch.setattr(harness.process, "_renew_leases", raising(*errors))
    monkeypatch.setattr(harness.process.reconnects, "wait", wait)
    with pytest.raises(asyncio.CancelledError):
        await harness.process._renew()
    names = [message.split(": ")[1] for message in caplog.messages if message.startswith("renew: ")]
    assert names == ["RedisFull", "RedisRefused"]  # an outage is logged elsewhere


async def test_renewal_extends_the_leases_of_running_generations(
    harness: Harness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await redis.execute_command("HSET", keys.state(generation_id), "lease", 1)
    await harness.process._renew_leases()
    state = await harness.log.state(generation_id)
    assert state.lease > await harness.log.server.now()
    assert generation_id in harness.process.running


async def test_renewal_cancels_a_generation_that_no_client_reads(
    harness: Harness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run(options=READ_ONLY_WHILE_READ)
    long_ago = await harness.log.server.now() - ABANDONED_MS - 1
    await redis.execute_command("HSET", keys.state(generation_id), "seen", long_ago)
    for seconds in (0.0, ABANDONED_MS / 1000 - 1):  # a reader may have been unable to report
        harness.connect(seconds)
        await harness.process._renew_leases()
        assert (await harness.log.state(generation_id)).status == "running"
    harness.process.control._on_disconnected()
    await harness.process._renew_leases()
    assert (await harness.log.state(generation_id)).status == "running"
    harness.connect(ABANDONED_MS / 1000 + 1)
    await harness.process._renew_leases()
    done = await done_of_log(harness.log, generation_id)
    assert done is not None
    assert (done.status, done.error and done.error.code) == ("cancelled", "client_disconnected")


async def test_renewal_of_an_abandoned_generation_that_was_deleted_meanwhile_goes_on(
    harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, other = await harness.run(options=READ_ONLY_WHILE_READ), await harness.run()

    async def delete_after_renewal(*_: Any, **__: Any) -> list[Outcome]:
        await harness.log.delete(deleted)
        return [Outcome.ABANDONED, Outcome.FENCED]

    monkeypatch.setattr(harness.log, "renew", delete_after_renewal)
    harness.connect(ABANDONED_MS / 1000 + 1)
    await harness.process._renew_leases()
    await harness.ended(other)


async def test_renewal_stops_a_generation_that_another_process_has_acquired(
    harness: Harness, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await harness.log.acquire(generation_id, "a canceller", terminating="cancelled")
    await harness.process._renew_leases()
    await harness.ended(generation_id)
    assert await done_of_log(harness.log, generation_id) is None


async def test_renewal_restores_a_log_that_redis_has_lost(
    harness: Harness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await redis.delete(*keys.of_generation(generation_id))
    await harness.process._renew_leases()
    endless.set()
    await harness.ended(generation_id)
    done = await done_of_log(harness.log, generation_id)
    assert done is not None
    assert [item.text for item in done.output] == ["Hi"]


@pytest.mark.parametrize("outcome", [Outcome.FENCED, Outcome.UNKNOWN])
async def test_late_answer_to_the_renewal_of_an_attempt_does_not_concern_the_next_one(
    harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    generation_id = await harness.run()
    process, run = harness.process, harness.process.running[generation_id]

    async def acquired_again(*_: Any, **__: Any) -> list[Outcome]:
        """The upstream has interrupted the attempt while its renewal was on its way."""
        grant = await harness.log.acquire(generation_id, "next", worker=process.name)
        run._current = Attempt(
            process.settings, process.log, process.queue, process.confirmations, process.appender, process.pool,
            grant, process.json_checker,
        )  # fmt: skip
        return [outcome]

    first = run._current
    monkeypatch.setattr(harness.log, "renew", acquired_again)
    await process._renew_leases()
    assert run._current is not None
    assert run._current is not first
    assert not run._current.writer.stopped.done()
    assert run._current.writer.freeze() is None
    run._current = first


# draining


async def test_drain_hands_over_what_still_runs_after_drain_s(
    harness: Harness, endless: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    generation_id = await harness.run()
    attempt = harness.process.running[generation_id]._current
    assert attempt is not None
    attempt._timings.malformed = 3
    await harness.process._drain()
    state = await harness.log.state(generation_id)
    assert (state.status, state.handovers, state.failed_attempts) == ("queued", 1, 0)
    assert (await harness.log.measures(generation_id)).stream.malformed == 3, "the next attempt begins with them"
    assert await harness.queue.jobs.position(state.job_id) == 1
    assert "draining 1 generations for up to 0.2 s" in caplog.messages


async def test_drain_hands_over_a_job_that_was_being_taken(
    harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, take, taken, replies = harness.process, harness.queue.jobs.take, asyncio.Event(), asyncio.Event()

    async def reply_late(*arguments: Any) -> Taken | Parked | None:
        score = await take(*arguments)
        taken.set()
        await replies.wait()
        return score

    monkeypatch.setattr(process.queue.jobs, "take", reply_late)
    process.settings = process.settings.model_copy(update={"drain_s": 1.0})
    running = asyncio.create_task(harness.run())
    await taken.wait()
    draining = asyncio.create_task(process._drain())
    await until(lambda: not process.job_runner.allow_pick_jobs)
    replies.set()
    state = await harness.log.state(await running)
    await draining
    state = await harness.log.state(state.record.id)
    assert (state.status, state.handovers) == ("queued", 1)
    assert await harness.queue.jobs.position(state.job_id) == 1


async def test_drain_leaves_what_another_process_has_acquired(
    harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = await harness.run()
    release = harness.log.release

    async def cancel_first(*arguments: Any) -> Outcome:
        await harness.log.acquire(generation_id, "a canceller", terminating="cancelled")
        return await release(*arguments)

    monkeypatch.setattr(harness.log, "release", cancel_first)
    await harness.process._drain()
    assert await harness.queue.jobs.depth() == 0
    assert (await harness.log.state(generation_id)).status == "running"


async def test_drain_lets_a_generation_finish_within_drain_s(
    log: Log, harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.lifecycle.confirmation.CONFIRM_S", 0.1)
    harness.process.settings = harness.process.settings.model_copy(update={"drain_s": 5.0})
    generation_id = await harness.run()
    draining = asyncio.create_task(harness.process._drain())
    await until(lambda: not harness.process.job_runner.allow_pick_jobs)
    assert not draining.done()
    endless.set()
    await draining
    done = await done_of_log(log, generation_id)
    assert done is not None
    assert done.status == "completed"
    assert await harness.queue.jobs.depth() == 0


@pytest.mark.parametrize("error", [RedisUnavailable(), RedisRefused(detail="no permission")])
async def test_drain_ends_where_redis_takes_no_handover(
    harness: Harness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The lease then runs out, and a sweeper queues the generation."""

    async def refuse(*_: Any) -> Outcome:
        raise error

    generation_id = await harness.run()
    monkeypatch.setattr(harness.log, "release", refuse)
    await harness.process._drain()
    assert harness.process.running == {}
    assert (await harness.log.state(generation_id)).status == "running"


# An operator's commands


async def test_worker_that_is_to_drain_takes_nothing_and_reports_it(harness: Harness) -> None:
    process = harness.process
    process._on_control_message(b"drain")
    process._on_control_message(b"drain")
    assert not process.job_runner.allow_pick_jobs
    assert process._status_now().draining
    assert not process._stopping.is_set()


async def test_worker_that_is_to_stop_stops(harness: Harness) -> None:
    harness.process._on_control_message(b"stop")
    assert harness.process._stopping.is_set()


async def test_commands_reach_the_worker_that_listens(harness: Harness) -> None:
    process, server = harness.process, harness.log.server
    assert not await send_command(server, process.name, "drain")
    process._listen()
    await until(lambda: process.control.connected)
    while not await send_command(server, process.name, "drain"):  # noqa: ASYNC110 - until it is subscribed
        await asyncio.sleep(0.01)
    await until(lambda: not process.job_runner.allow_pick_jobs)
