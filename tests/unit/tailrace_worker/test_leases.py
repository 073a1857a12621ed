"""The leases of a worker's generations: their renewal, and what its answers lead to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from support.stored_log import done_of_log
from support.subscriptions import connection_of
from support.worker_harness import WorkerHarness, answer_hi, worker_harness
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import Options
from tailrace.log import Outcome
from tailrace.log.state import ABANDONED_MS
from tailrace.process.tasks import cancel_and_wait
from tailrace_cli.embedded import EmbeddedServer
from tailrace_worker.attempt import Attempt

READ_ONLY_WHILE_READ = Options(60, 60, on_disconnect="cancel")


@pytest.fixture
async def harness(redis: Redis, valkey: EmbeddedServer) -> AsyncIterator[WorkerHarness]:
    async with worker_harness(valkey.url) as harness:
        yield harness


@pytest.fixture
def endless(harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    return answer_hi(harness, monkeypatch)


def raising(*errors: BaseException) -> Callable[[], Awaitable[None]]:
    """A call that raises one error a time."""
    left = iter(errors)

    async def call() -> None:
        raise next(left)

    return call


async def test_renewal_goes_on_after_errors_of_redis(
    harness: WorkerHarness,
    endless: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [RedisUnavailable(), RedisFull(), RedisRefused(detail="no permission")]
    renewed = asyncio.Event()

    async def renew(*_: object, **__: object) -> list[Outcome]:
        if errors:
            raise errors.pop(0)
        renewed.set()
        return [Outcome.OK]

    async def wait(_: float) -> bool:
        await asyncio.sleep(0)
        return False

    await harness.run()
    monkeypatch.setattr(harness.process.log, "renew", renew)
    monkeypatch.setattr(harness.process.reconnects, "wait", wait)
    running = asyncio.create_task(harness.process.leases.run())
    async with asyncio.timeout(5):
        await renewed.wait()
    await cancel_and_wait(running)
    names = [message.split(": ")[1] for message in caplog.messages if message.startswith("renew: ")]
    assert names == ["RedisFull", "RedisRefused"]  # an outage is logged elsewhere


async def test_renewal_on_one_server_waits_for_none_on_another(
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that does not reply keeps no lease elsewhere from being renewed, and gets no second call meanwhile."""
    stuck, other = await harness.run(), await harness.run()
    servers = {stuck: "away", other: "here"}
    monkeypatch.setattr(harness.log.server, "primary_of", lambda key: servers[key.split("{")[1].split("}")[0]])
    calls: list[str] = []
    renewed, never = asyncio.Event(), asyncio.Event()

    async def renew(leases: Sequence[tuple[str, int, bool]], **_: object) -> list[Outcome]:
        generation_id = leases[0][0]
        calls.append(generation_id)
        if generation_id == stuck:
            await never.wait()
        if calls.count(other) == 3:
            renewed.set()
        return [Outcome.OK]

    async def wait(_: float) -> bool:
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(harness.process.log, "renew", renew)
    monkeypatch.setattr(harness.process.reconnects, "wait", wait)
    running = asyncio.create_task(harness.process.leases.run())
    async with asyncio.timeout(5):
        await renewed.wait()
    await cancel_and_wait(running)
    assert calls.count(stuck) == 1


async def test_renewal_extends_the_leases_of_running_generations(
    harness: WorkerHarness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await redis.execute_command("HSET", keys.state(generation_id), "lease", 1)
    await harness.process.leases.renew()
    state = await harness.log.state(generation_id)
    assert state.lease > await harness.log.server.now()
    assert generation_id in harness.process.running


async def test_renewal_cancels_a_generation_that_no_client_reads(
    harness: WorkerHarness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run(options=READ_ONLY_WHILE_READ)
    long_ago = await harness.log.server.now() - ABANDONED_MS - 1
    await redis.execute_command("HSET", keys.state(generation_id), "seen", long_ago)
    for seconds in (0.0, ABANDONED_MS / 1000 - 1):  # a reader may have been unable to report
        harness.connect(seconds)
        await harness.process.leases.renew()
        assert (await harness.log.state(generation_id)).status == "running"
    connection_of(harness.process.control)._on_disconnected()
    await harness.process.leases.renew()
    assert (await harness.log.state(generation_id)).status == "running"
    harness.connect(ABANDONED_MS / 1000 + 1)
    await harness.process.leases.renew()
    done = await done_of_log(harness.log, generation_id)
    assert done is not None
    assert (done.status, done.error and done.error.code) == ("cancelled", "client_disconnected")


async def test_renewal_of_an_abandoned_generation_that_was_deleted_meanwhile_goes_on(
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, other = await harness.run(options=READ_ONLY_WHILE_READ), await harness.run()

    async def delete_after_renewal(*_: Any, **__: Any) -> list[Outcome]:
        await harness.log.delete(deleted)
        return [Outcome.ABANDONED, Outcome.FENCED]

    monkeypatch.setattr(harness.log, "renew", delete_after_renewal)
    harness.connect(ABANDONED_MS / 1000 + 1)
    await harness.process.leases.renew()
    await harness.ended(other)


async def test_renewal_stops_a_generation_that_another_process_has_acquired(
    harness: WorkerHarness, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await harness.log.acquire(generation_id, "a canceller", terminating="cancelled")
    await harness.process.leases.renew()
    await harness.ended(generation_id)
    assert await done_of_log(harness.log, generation_id) is None


async def test_renewal_restores_a_log_that_redis_has_lost(
    harness: WorkerHarness, redis: Redis, endless: asyncio.Event
) -> None:
    generation_id = await harness.run()
    await redis.delete(*keys.of_generation(generation_id))
    await harness.process.leases.renew()
    endless.set()
    await harness.ended(generation_id)
    done = await done_of_log(harness.log, generation_id)
    assert done is not None
    assert [item.text for item in done.output] == ["Hi"]


@pytest.mark.parametrize("outcome", [Outcome.FENCED, Outcome.UNKNOWN])
async def test_late_answer_to_the_renewal_of_an_attempt_does_not_concern_the_next_one(
    harness: WorkerHarness, endless: asyncio.Event, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    generation_id = await harness.run()
    process, run = harness.process, harness.process.running[generation_id]

    async def acquired_again(*_: Any, **__: Any) -> list[Outcome]:
        """The upstream has interrupted the attempt while its renewal was on its way."""
        grant = await harness.log.acquire(generation_id, "next", worker=process.name)
        appender = process.appenders.join(generation_id)
        run._current = Attempt(
            process.settings, process.log, process.queue, process.confirmations, appender, process.pool,
            grant, process.json_checker,
        )  # fmt: skip
        return [outcome]

    first = run._current
    monkeypatch.setattr(harness.log, "renew", acquired_again)
    await process.leases.renew()
    assert run._current is not None
    assert run._current is not first
    assert not run._current.writer.stopped.done()
    assert run._current.writer.freeze() is None
    run._current = first
