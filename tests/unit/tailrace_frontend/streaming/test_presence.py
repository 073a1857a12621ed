import asyncio
from collections.abc import AsyncIterator

import pytest

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import Options
from tailrace.process.tasks import cancel_and_wait

WATCHED = record(id="gen_bcdefghijklmnopqrstuvwxyza", options=Options(60, 60, on_disconnect="cancel"))
OTHER = record()
ENTRIES = LOGS["text"](OTHER)


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness()
    for each in (WATCHED, OTHER):
        await harness.create(each, ENTRIES[:3])
    yield harness
    await harness.close()


@pytest.fixture
def interval_s() -> float:
    return 60.0


@pytest.fixture
async def reports(
    harness: HubHarness, interval_s: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[list[str]]]:
    """The reports that the loop sends."""
    reports: list[list[str]] = []

    async def touch(generation_ids: list[str]) -> None:
        reports.append(generation_ids)

    monkeypatch.setattr(harness.hub.presence, "_interval_s", interval_s)
    monkeypatch.setattr(harness.log, "touch_presence", touch)
    task = asyncio.create_task(harness.hub.presence.run())
    yield reports
    await cancel_and_wait(task)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_presence_is_reported_when_the_first_reader_comes_and_when_the_last_one_goes(
    harness: HubHarness, reports: list[list[str]]
) -> None:
    await settled()
    clients = [await harness.connect(WATCHED)]
    await until(lambda: len(reports) == 1)
    clients.append(await harness.connect(WATCHED))
    clients[0].disconnect()
    await until(lambda: harness.hub.count == 1)
    await settled()
    assert reports == [[WATCHED.id]]
    clients[1].disconnect()
    await until(lambda: len(reports) == 2)
    assert reports == [[WATCHED.id], [WATCHED.id]]


@pytest.mark.parametrize("interval_s", [0.002])
async def test_presence_is_reported_again_every_interval(harness: HubHarness, reports: list[list[str]]) -> None:
    await harness.connect(WATCHED)
    await until(lambda: len(reports) > 3)
    assert all(report == [WATCHED.id] for report in reports)


async def test_presence_is_not_reported_for_generations_that_run_without_readers(
    harness: HubHarness, reports: list[list[str]]
) -> None:
    client = await harness.connect(OTHER)
    client.disconnect()
    await until(lambda: harness.hub.count == 0)
    await settled()
    assert reports == []


async def test_presence_that_redis_does_not_take_is_reported_by_the_next_interval(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[list[str]] = []

    async def unreachable(generation_ids: list[str]) -> None:
        failed.append(generation_ids)
        raise RedisUnavailable

    monkeypatch.setattr(harness.hub.presence, "_interval_s", 0.002)
    monkeypatch.setattr(harness.log, "touch_presence", unreachable)
    task = asyncio.create_task(harness.hub.presence.run())
    await harness.connect(WATCHED)
    await until(lambda: len(failed) > 2)
    await cancel_and_wait(task)


@pytest.mark.parametrize("error", [RedisUnavailable, RedisFull, RedisRefused])
async def test_presence_that_redis_does_not_take_is_reported_again_where_the_reader_has_gone(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    attempts: list[list[str]] = []

    async def failing_twice(generation_ids: list[str]) -> None:
        attempts.append(generation_ids)
        if len(attempts) <= 2:
            raise error

    monkeypatch.setattr(harness.hub.presence, "_interval_s", 0.02)
    monkeypatch.setattr(harness.log, "touch_presence", failing_twice)
    client = await harness.connect(WATCHED)
    client.disconnect()
    await until(lambda: harness.hub.count == 0)
    task = asyncio.create_task(harness.hub.presence.run())
    await until(lambda: len(attempts) == 3 or task.done())
    await asyncio.sleep(0.05)
    await cancel_and_wait(task)
    assert attempts == [[WATCHED.id]] * 3


async def test_operator_who_watches_is_no_reader(harness: HubHarness, reports: list[list[str]]) -> None:
    await settled()
    hub = harness.hub
    watching = [await harness.connect(WATCHED, watcher="ops") for _ in range(2)]
    await settled()
    assert (reports, hub.readers_of(WATCHED.id), hub.is_followed(WATCHED.id)) == ([], 0, True)
    assert (hub.count_of("anna"), hub.count_of("ops")) == (0, 2)
    reader = await harness.connect(WATCHED)
    await until(lambda: len(reports) == 1)
    watching[0].disconnect()
    await until(lambda: hub.count == 2)
    assert (len(reports), hub.readers_of(WATCHED.id)) == (1, 1)
    reader.disconnect()
    await until(lambda: len(reports) == 2)
    assert hub.tails == 1
    watching[1].disconnect()
    await until(lambda: hub.tails == 0)
    await settled()
    assert len(reports) == 2
