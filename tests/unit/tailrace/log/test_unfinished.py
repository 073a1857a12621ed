"""The index of unfinished generations: its members, its shards, and how long something seems to be stuck."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from support.logs import REQUEST
from support.logs import record as record_of
from support.stored_log import create_generation
from tailrace import keys
from tailrace.errors import Gone, RedisFull
from tailrace.ids import new_generation_id
from tailrace.log import Log, Outcome
from tailrace.log.unfinished import UnfinishedShard
from tailrace.redis.server import LARGE_BYTES

LARGE = REQUEST | {"padding": "x" * LARGE_BYTES}


async def members(log: Log) -> list[str]:
    return [each for shard in await log.unfinished.shards() for each in await shard.list()]


async def shard_of(log: Log, number: int) -> UnfinishedShard:
    return (await log.unfinished.shards())[number]


@pytest.mark.parametrize("request_body", [REQUEST, LARGE], ids=["small", "large"])
async def test_index_has_a_generation_before_its_state_is_written(
    log: Log, redis: Redis, request_body: dict[str, object]
) -> None:
    """A server that goes back to any moment has no unfinished state that is not in the index."""
    await log.create(record_of(id=new_generation_id()), REQUEST, "job")  # the server knows the script
    record = record_of(id=new_generation_id())
    async with redis.monitor() as monitor:
        await log.create(record, request_body, "job")
        commands: list[str] = []
        while not any("HSET" in command for command in commands):
            commands.append((await monitor.next_command())["command"])
    assert any("SADD" in command and record.id in command for command in commands)


async def test_index_has_a_generation_once_after_a_repeated_creation(log: Log) -> None:
    record = record_of(id=new_generation_id())
    for _ in range(2):
        await log.create(record, REQUEST, "job")
    assert await members(log) == [record.id]


async def test_index_has_no_generation_that_is_gone(log: Log) -> None:
    record = record_of(id=new_generation_id())
    await log.create(record, REQUEST, "job")
    await log.delete(record.id)
    with pytest.raises(Gone):
        await log.create(record, REQUEST, "job")
    assert await members(log) == []


@pytest.mark.parametrize("request_body", [REQUEST, LARGE], ids=["small", "large"])
async def test_index_of_a_full_server_takes_no_new_generation(
    log: Log, fill_memory: Callable[[], Awaitable[None]], request_body: dict[str, object]
) -> None:
    await fill_memory()
    with pytest.raises(RedisFull):
        await log.create(record_of(id=new_generation_id()), request_body, "job")
    assert await members(log) == []


async def test_index_of_a_full_server_takes_a_restored_generation(
    log: Log, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    await log.unfinished.add_restored("gen")
    assert await members(log) == ["gen"]


async def test_index_loses_a_discarded_generation_and_keeps_one_that_is_relied_on(log: Log) -> None:
    discarded, kept = record_of(id=new_generation_id()), record_of(id=new_generation_id())
    for record in (discarded, kept, kept):
        await log.create(record, REQUEST, "job")
    assert [await log.discard(record.id, "job") for record in (discarded, kept)] == [Outcome.OK, Outcome.HELD]
    assert await members(log) == [kept.id]


async def test_removal_of_a_missing_generation_leaves_one_that_was_created_meanwhile(log: Log) -> None:
    there, missing = await create_generation(log), new_generation_id()
    for generation_id in (there, missing):
        await log.server.execute(*log.unfinished.add_command(generation_id))
        await log.unfinished.remove_missing(generation_id)
    assert await members(log) == [there]
    await log.unfinished.remove(there)
    assert await members(log) == []


# Shards


async def test_shard_is_claimed_by_one_process_in_a_period(redis: Redis, log: Log) -> None:
    shard = await shard_of(log, 3)
    asked = await asyncio.gather(*(shard.claim(60_000) for _ in range(10)))
    assert sorted(asked) == [False] * 9 + [True]
    assert await (await shard_of(log, 4)).claim(60_000)
    assert 0 < await redis.pttl(keys.swept(3)) <= 60_000


async def test_shard_is_claimed_by_all_on_a_full_server(log: Log, fill_memory: Callable[[], Awaitable[None]]) -> None:
    await fill_memory()
    assert [await (await shard_of(log, 3)).claim(60_000) for _ in range(2)] == [True, True]


# Suspicions


async def test_suspicion_lasts_from_the_first_of_the_sweeps_that_found_it(log: Log, redis: Redis) -> None:
    assert await (await shard_of(log, 3)).suspect(["a", "b"]) == {"a": 0, "b": 0}
    await redis.zincrby(keys.suspected(3), -4000, "a")
    again = await (await shard_of(log, 3)).suspect(["b", "a"])
    assert list(again) == ["b", "a"]
    assert 4000 <= again["a"] < 64_000
    assert 0 <= again["b"] < 60_000
    assert await redis.pttl(keys.suspected(3)) > 0


async def test_suspicion_ends_with_a_sweep_that_does_not_find_it(log: Log, redis: Redis) -> None:
    await (await shard_of(log, 3)).suspect(["a", "b"])
    await redis.zincrby(keys.suspected(3), -4000, "a")
    await (await shard_of(log, 3)).suspect(["b"])
    assert (await (await shard_of(log, 3)).suspect(["a"]))["a"] < 4000
    assert await (await shard_of(log, 3)).suspect([]) == {}
    assert not await redis.exists(keys.suspected(3))


async def test_suspicion_of_another_shard_is_another(log: Log, redis: Redis) -> None:
    await (await shard_of(log, 3)).suspect(["a"])
    await redis.zincrby(keys.suspected(3), -4000, "a")
    assert (await (await shard_of(log, 4)).suspect(["a"]))["a"] < 4000


async def test_suspicion_is_noted_on_a_full_server(log: Log, fill_memory: Callable[[], Awaitable[None]]) -> None:
    await fill_memory()
    assert await (await shard_of(log, 3)).suspect(["a"]) == {"a": 0}
    assert await (await shard_of(log, 3)).suspect(["a"]) != {}
