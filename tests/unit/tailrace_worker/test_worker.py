"""The parts of a worker process: its jobs, its servers, its control channel, and how it drains."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.hub_harness import until
from support.stored_log import done_of_log
from support.subscriptions import connection_of
from support.worker_harness import WorkerHarness, answer_hi, worker_harness
from tailrace.errors import Misconfigured, RedisRefused, RedisUnavailable
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle.worker_control import send_command
from tailrace.log import Log, Outcome
from tailrace.queue import DELIVER_WEBHOOKS, Parked, Taken, arq_jobs
from tailrace.settings import WORKER_NAME, Settings
from tailrace.webhooks import EndpointRef
from tailrace_cli.embedded import EmbeddedServer
from tailrace_worker import worker
from tailrace_worker.worker import JOBS, GenerationWorker

READ_ONLY_WHILE_READ = Options(60, 60, on_disconnect="cancel")


@pytest.fixture
async def harness(redis: Redis, valkey: EmbeddedServer) -> AsyncIterator[WorkerHarness]:
    async with worker_harness(valkey.url) as harness:
        yield harness


@pytest.fixture
def endless(harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    return answer_hi(harness, monkeypatch)


# jobs


async def test_job_runner_knows_every_job_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def another_job(self: GenerationWorker, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        """A third kind."""

    monkeypatch.setattr(worker, "JOBS", {**JOBS, "another_job": another_job})
    process = GenerationWorker(Settings())
    assert sorted(process.job_runner.functions) == ["another_job", "deliver_webhooks", "run_generation"]
    await process._close()


async def test_worker_takes_no_job_before_it_knows_the_limits_of_callers(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def take() -> None:
        began.set()

    monkeypatch.setattr(harness.process.job_runner, "main", take)
    taking = asyncio.create_task(harness.process._take_jobs())
    await asyncio.sleep(0)
    assert not began.is_set()
    await harness.process.policies.refresh()
    await taking
    assert began.is_set()


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
    harness: WorkerHarness, endless: asyncio.Event
) -> None:
    """Another job of it may have been enqueued where a sweeper took its lease for expired."""
    assert harness.dialect is not None
    generation_id = await harness.run()
    run, state = harness.process.running[generation_id], await harness.log.state(generation_id)
    await harness.process.run_generation({}, generation_id, "another job")
    assert harness.process.running[generation_id] is run
    assert (await harness.log.state(generation_id)).epoch == state.epoch
    assert harness.dialect.opened == 1


async def test_delivery_of_webhooks_holds_no_slot(harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
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
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def problems(*_: Any) -> tuple[list[str], list[str]]:
        return ["maxmemory-policy is allkeys-lru", "no streams"], ["appendonly is off"]

    monkeypatch.setattr(harness.log.server, "problems", problems)
    with pytest.raises(Misconfigured, match="allkeys-lru; no streams"):
        await harness.process.health.check_servers()
    assert "redis: appendonly is off" in caplog.messages


async def test_worker_accepts_fit_servers(harness: WorkerHarness) -> None:
    await harness.process.health.check_servers()


# the control channel


async def test_control_message_stops_the_generation_that_it_names(
    harness: WorkerHarness, endless: asyncio.Event
) -> None:
    fenced, other = await harness.run(), await harness.run()
    harness.process._on_control_message(new_generation_id().encode())
    harness.process._on_control_message(fenced.encode())
    await harness.ended(fenced)
    assert list(harness.process.running) == [other]
    assert await done_of_log(harness.log, fenced) is None


async def test_control_connection_that_was_lost_renews_the_leases_at_once(harness: WorkerHarness) -> None:
    waiting = asyncio.create_task(harness.process.reconnects.wait(60))
    await asyncio.sleep(0)
    connection_of(harness.process.control)._on_connected()
    assert await waiting


# draining


async def test_drain_hands_over_what_still_runs_after_drain_s(
    harness: WorkerHarness, endless: asyncio.Event, caplog: pytest.LogCaptureFixture
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
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
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
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
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
    log: Log, harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
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
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch, error: Exception
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


async def test_worker_that_is_to_drain_takes_nothing_and_reports_it(harness: WorkerHarness) -> None:
    process = harness.process
    process._on_control_message(b"drain")
    process._on_control_message(b"drain")
    assert not process.job_runner.allow_pick_jobs
    assert (await process._status_now()).draining
    assert not process._stopping.is_set()


async def test_worker_that_is_to_stop_stops(harness: WorkerHarness) -> None:
    harness.process._on_control_message(b"stop")
    assert harness.process._stopping.is_set()


async def test_commands_reach_the_worker_that_listens(harness: WorkerHarness) -> None:
    process, server = harness.process, harness.log.server
    assert not await send_command(server, process.name, "drain")
    process._listen()
    await until(lambda: process.control.connected)
    while not await send_command(server, process.name, "drain"):  # noqa: ASYNC110 - until it is subscribed
        await asyncio.sleep(0.01)
    await until(lambda: not process.job_runner.allow_pick_jobs)


async def test_no_heartbeat_follows_the_end_of_a_worker(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as alive for three leases."""
    process, ended = harness.process, list[bool]()
    heartbeats = asyncio.create_task(process._send_heartbeats())
    deregister = process.queue.presence.deregister

    async def checked(name: str) -> None:
        ended.append(heartbeats.done())
        await deregister(name)

    monkeypatch.setattr(process.queue.presence, "deregister", checked)
    await asyncio.sleep(0)
    await process._drain(heartbeats)
    assert ended == [True]
