"""`create.lua`, and the request that it stores."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import REQUEST
from support.logs import record as record_of
from support.stored_log import HOUR_MS, create_generation, entries_of, expire, stored_entries
from tailrace import keys
from tailrace.errors import Gone, NotFound, RedisFull
from tailrace.events import Created, Entry, GenerationRecord
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import Log, Outcome
from tailrace.log.codec import to_row
from tailrace.log.state import GenerationState

DEADLINE_MS = HOUR_MS


async def test_create_begins_the_log_with_one_entry_at_redis_time(log: Log) -> None:
    before = await log.server.now()
    record = record_of(id=new_generation_id(), background=True)
    request = {"messages": "naïve \u2028 \x00"}
    created, _ = await log.create(record, request, "first job")
    assert before <= created <= await log.server.now()
    state = await log.state(record.id, "anna")
    assert state == GenerationState(
        GenerationRecord(**{name: getattr(record, name) for name in GenerationRecord.__struct_fields__} | {"created":
        created}), status="queued", epoch=created, attempt=0, seq=1, lease=0, deadline=created + DEADLINE_MS,
        job_id="first job",
    )  # fmt: skip
    assert await log.request(record.id) == request
    assert await entries_of(log, record.id) == [Entry(EntryId(created, 1), Created(created / 1000, queued=True))]


async def test_generation_that_is_shared_cannot_be_discarded(log: Log) -> None:
    record = record_of(id=new_generation_id())
    creation = await log.create(record, REQUEST, "job")
    shared = await log.share(record.id)
    assert shared == (*creation, await log.request_bytes(record.id)) == await log.share(record.id)
    assert shared[2] == len(await log.stored_request(record.id)) > 0
    assert await log.discard(record.id, "job") is Outcome.HELD


async def test_only_a_generation_that_waits_is_shared(log: Log, redis: Redis) -> None:
    missing, started = new_generation_id(), await create_generation(log)
    await LogWriter.start(log, started)
    before = await redis.dbsize()
    for generation_id in (missing, started):
        assert await log.share(generation_id) is None
    assert (await redis.dbsize(), await log.request_bytes(missing)) == (before, 0)


async def test_created_is_stored_as_a_worker_encodes_it_on_restoring(log: Log, redis: Redis) -> None:
    for _ in range(50):  # one time in ten ends with a zero
        record = record_of(id=new_generation_id())
        await log.create(record, REQUEST, "job_id")
        ((_, fields),) = await redis.xrange(keys.log(record.id))
        (created,) = await entries_of(log, record.id)
        assert list(fields.values()) == [to_row(created).value.encode()]


async def test_request_is_stored_beside_the_state_and_restored_with_it(log: Log, redis: Redis) -> None:
    record, request = record_of(id=new_generation_id()), {"messages": ["x" * 100_000]}
    await log.create(record, request, "job_id")
    assert await log.states([record.id]) == [await log.state(record.id)]
    grant = await log.acquire(record.id, "token", worker="w")
    assert grant.state is not None
    assert grant.request == await log.request(record.id) == request
    await redis.delete(*keys.of_generation(record.id))
    with pytest.raises(NotFound):
        await log.request(record.id)
    assert await log.restore(grant.state, grant.request, grant.rows) is Outcome.OK
    assert (await log.state(record.id)).record == grant.state.record
    assert await log.request(record.id) == request


async def test_request_of_a_deleted_generation_is_gone(log: Log, generation_id: str) -> None:
    await log.delete(generation_id)
    with pytest.raises(Gone):
        await log.request(generation_id)


async def test_create_again_returns_the_same_time_and_changes_nothing(log: Log, redis: Redis) -> None:
    record = record_of(id=new_generation_id())
    created, _ = await log.create(record, REQUEST, "first job")
    assert await log.create(record, REQUEST, "another job") == (created, "first job")
    before = await stored_entries(redis, record.id), await log.state(record.id)
    writer = await LogWriter.acquire(log, record.id, "one")
    assert await log.create(record, REQUEST, "another job") == (created, None)
    await writer.finish()
    assert await log.create(record, REQUEST, "another job") == (created, None)
    assert (await stored_entries(redis, record.id))[:1] == before[0]
    assert (await log.state(record.id)).job_id == "first job"


@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_create_of_a_deleted_or_expired_generation_is_gone(
    log: Log, redis: Redis, generation_id: str, fate: str
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await expire(redis, generation_id)
    with pytest.raises(Gone) as gone:
        await log.create(record_of(id=generation_id), REQUEST, "another job")
    assert gone.value.code == fate
    assert not await redis.exists(keys.state(generation_id), keys.log(generation_id))


async def test_create_out_of_memory_is_refused_and_leaves_nothing(
    log: Log, redis: Redis, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    with pytest.raises(RedisFull):
        await create_generation(log)
    assert await redis.dbsize() == 0
