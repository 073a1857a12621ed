"""Which appender a writer has, and when it ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.scripted_cluster import ScriptedCluster
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import GenerationRecord
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.cluster import RedisCluster
from tailrace.redis.hash_slots import slot_of
from tailrace_worker.appenders import Appenders

HALVES = {1: (0, 8191), 2: (8192, 16383)}


@pytest.fixture
async def cluster() -> AsyncIterator[ScriptedCluster]:
    cluster = ScriptedCluster(dict(HALVES))
    await cluster.primaries.known()
    yield cluster
    await cluster.primaries.close()


@pytest.fixture
async def appenders(cluster: ScriptedCluster) -> AsyncIterator[Appenders]:
    async def on_restored(_: GenerationRecord) -> None: ...

    appenders = Appenders(Log(RedisCluster(cluster.primaries), 5000), on_restored)
    running = asyncio.create_task(appenders.run())
    yield appenders
    await cancel_and_wait(running)


def generation(slots: tuple[int, int], number: int = 0) -> str:
    """The id of a generation whose slot is among these."""
    fitting = (str(i) for i in range(10_000) if slots[0] <= slot_of(keys.log(str(i))) <= slots[1])
    return [next(fitting) for _ in range(number + 1)][number]


async def tasks() -> int:
    """Appenders that run."""
    for _ in range(3):
        await asyncio.sleep(0)
    return sum(task.get_name() == "appender" for task in asyncio.all_tasks())


async def test_writers_of_one_primary_share_an_appender(appenders: Appenders) -> None:
    first, second, other = (appenders.join(generation(*each)) for each in ((HALVES[1],), (HALVES[1], 1), (HALVES[2],)))
    assert first is second
    assert first is not other
    assert await tasks() == 2


async def test_appender_ends_with_its_last_writer(appenders: Appenders) -> None:
    appender = appenders.join(generation(HALVES[1]))
    assert appenders.join(generation(HALVES[1], 1)) is appender
    appenders.leave(appender)
    assert await tasks() == 1
    appenders.leave(appender)
    assert await tasks() == 0
    assert appenders.join(generation(HALVES[1])) is not appender
    assert await tasks() == 1


async def test_appender_of_a_primary_that_was_failed_over_ends_with_its_writers(
    appenders: Appenders, cluster: ScriptedCluster
) -> None:
    before = appenders.join(generation(HALVES[1]))
    cluster.owners = {3: HALVES[1], 2: HALVES[2]}
    await cluster.primaries.read()
    after = appenders.join(generation(HALVES[1]))
    assert after is not before
    assert await tasks() == 2
    appenders.leave(before)
    assert await tasks() == 1
    assert appenders.join(generation(HALVES[1])) is after


async def test_writer_whose_slot_has_no_server_is_refused() -> None:
    async def on_restored(_: GenerationRecord) -> None: ...

    cluster = ScriptedCluster(dict(HALVES))
    with pytest.raises(RedisUnavailable):
        Appenders(Log(RedisCluster(cluster.primaries), 5000), on_restored).join("g")
    await cluster.primaries.close()
