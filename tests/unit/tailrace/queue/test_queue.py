import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.asyncio import Redis

from conftest import LEASE_MS
from support.api import eventually
from support.logs import REQUEST
from support.logs import record as record_of
from tailrace import keys
from tailrace.errors import Gone, IdempotencyKeyReused, Unavailable
from tailrace.events import GenerationRecord, Json, Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle.termination import terminate
from tailrace.log import Log
from tailrace.queue.queue import CLAIM_GRACE_S, CLOCK_SKEW_S, HOLD_S, JOB, Queue, dump_job, load_job
from tailrace.redis import connection
from tailrace.redis.connection import connect
from tailrace.redis.subscriber import Subscriber
from tailrace_cli.embedded import EmbeddedServer

HOUR_S = 3600


@pytest.fixture
def queue(redis: Redis, log: Log) -> Queue:
    return Queue(redis, log)


def new_record(**changes: Any) -> GenerationRecord:
    return record_of(**{"id": new_generation_id(), "created": 0} | changes)


async def everything(redis: Redis) -> dict[str, Any]:
    """All that lies on the server, whatever life it has left."""
    names = sorted(name.decode() for name in await redis.keys())
    return {name: await redis.dump(name) for name in names}


async def jobs(redis: Redis) -> list[dict[str, Any]]:
    names = await redis.keys(job_key_prefix + "*")
    return [json.loads(await redis.get(name)) for name in names]


# submit


async def test_submit_creates_and_asks_for_one_run(redis: Redis, log: Log, queue: Queue) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    state = await log.state(record.id, "anna")
    assert (state.status, await queue.position(state.job_id), await queue.depth()) == ("queued", 1, 1)
    (job,) = await jobs(redis)
    assert (job["f"], job["a"], job["k"]) == (JOB, [record.id, state.job_id], {})
    assert await queue.is_waiting([state.job_id]) == [True]


async def test_submit_notes_whose_it_is_and_that_it_is_unfinished(redis: Redis, queue: Queue) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    shards = [await queue.list_unfinished(shard) for shard in range(keys.UNFINISHED_SETS)]
    assert sorted(shards) == [[]] * 15 + [[record.id]]
    assert [page async for page in queue.list_owned("anna", None)] == [[record.id]]
    assert await queue.load("anna") == (1, 1)
    assert await queue.load("bob") == (1, 0)


async def test_submit_again_changes_nothing(redis: Redis, queue: Queue) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    before = await everything(redis)
    await queue.submit(record, REQUEST)
    assert await everything(redis) == before


async def test_submit_by_many_at_once_is_one_job(redis: Redis, log: Log, queue: Queue) -> None:
    record = new_record()
    await asyncio.gather(*(queue.submit(record, REQUEST) for _ in range(10)))
    assert await queue.depth() == len(await jobs(redis)) == 1
    assert len(await log.read(record.id)) == 1


@pytest.mark.parametrize("steps", ["noted", "created"])
async def test_submit_heals_one_that_died_half_way(redis: Redis, log: Log, queue: Queue, steps: str) -> None:
    record = new_record()
    await queue.register(record)
    if steps == "created":
        await log.create(record, REQUEST, "the first dispatch")
    await queue.submit(record, REQUEST)
    assert await queue.is_waiting([(await log.state(record.id)).job_id]) == [True]


async def test_submit_of_what_runs_or_has_ended_asks_for_no_run(log: Log, queue: Queue) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    job_id = (await log.state(record.id)).job_id
    await queue.remove_job(job_id)
    await log.acquire(record.id, job_id, worker="first")
    await queue.submit(record, REQUEST)
    assert await queue.depth() == 0
    await terminate(log, queue, record.id, "cancelled")
    await queue.submit(record, REQUEST)
    assert await queue.depth() == 0


async def test_submit_of_what_is_being_ended_asks_for_no_run(log: Log, queue: Queue) -> None:
    record = new_record()
    await log.create(record, REQUEST, "the first dispatch")
    await log.acquire(record.id, "end", terminating="cancelled")
    await queue.submit(record, REQUEST)
    assert await queue.depth() == 0


async def test_submit_of_what_was_deleted_is_gone(log: Log, queue: Queue) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    await log.delete(record.id)
    with pytest.raises(Gone):
        await queue.submit(record, REQUEST)


async def test_submit_to_a_full_server_leaves_nothing(
    redis: Redis, queue: Queue, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    with pytest.raises(Unavailable) as refused:
        await queue.submit(new_record(), REQUEST)
    assert refused.value.retry_after > 0
    assert await redis.dbsize() == 0


async def test_submit_that_is_refused_half_way_may_be_tried_again(
    redis: Redis,
    log: Log,
    queue: Queue,
    fill_memory: Callable[[], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory is used up between the steps."""
    create, record = log.create, new_record()

    async def create_and_fill(record: GenerationRecord, request: Json, job_id: str) -> int:
        created = await create(record, request, job_id)
        await fill_memory()
        return created

    monkeypatch.setattr(log, "create", create_and_fill)
    with pytest.raises(Unavailable):
        await queue.submit(record, REQUEST)
    assert await redis.dbsize() == 0
    monkeypatch.undo()
    await redis.config_set("maxmemory", 0)
    await queue.submit(record, REQUEST)
    assert (await log.state(record.id)).status == "queued"


@pytest.mark.parametrize("status", ["queued", "running", "completed"])
async def test_submit_again_to_a_full_server_does_not_touch_what_is_there(
    redis: Redis, log: Log, queue: Queue, fill_memory: Callable[[], Awaitable[None]], status: str
) -> None:
    record = new_record()
    await queue.submit(record, REQUEST)
    if status != "queued":
        await log.acquire(record.id, "one", worker="first")
    if status == "completed":
        await terminate(log, queue, record.id, "completed")
    before = await everything(redis)
    await fill_memory()
    with pytest.raises(Unavailable):
        await queue.submit(record, REQUEST)
    assert await everything(redis) == before


# Jobs


def test_a_job_is_json_whatever_is_in_it() -> None:
    job: dict[str, Any] = {
        "t": None,
        "f": JOB,
        "a": ("gen", "dispatch"),
        "k": {},
        "et": 1,
        "r": ValueError("odd"),
        "s": 1.5,
    }
    payload = dump_job(job)
    assert json.loads(payload) == load_job(payload)
    assert load_job(payload) == job | {"a": ["gen", "dispatch"], "r": "ValueError('odd')"}


async def test_what_lies_in_redis_is_no_pickle(redis: Redis, queue: Queue) -> None:
    await queue.submit(new_record(), REQUEST)
    (name,) = await redis.keys(job_key_prefix + "*")
    payload = await redis.get(name)
    assert payload.startswith(b"{")
    assert isinstance(json.loads(payload), dict)


async def test_a_job_is_due_at_once_by_any_clock_and_not_for_ever(redis: Redis, log: Log, queue: Queue) -> None:
    record = new_record(options=Options(deadline_s=77, retention_s=1))
    await queue.submit(record, REQUEST)
    job_id = (await log.state(record.id)).job_id
    due = await redis.zscore(keys.QUEUE, job_id)
    assert due is not None
    assert due <= await log.now() - (CLOCK_SKEW_S - 60) * 1000
    assert 0 < await redis.ttl(job_key_prefix + job_id) <= 77


async def test_a_dispatch_wakes_the_workers(redis: Redis, queue: Queue) -> None:
    rung: asyncio.Queue[bytes | None] = asyncio.Queue()
    job_wakeups = Subscriber(redis)
    job_wakeups.add(keys.WAKE, rung.put_nowait)
    job_wakeups.start()
    async with asyncio.timeout(5):
        assert await rung.get() is None
        await queue.enqueue(new_generation_id(), "dispatch", 60)
        assert await rung.get() == b""
    await job_wakeups.close()


async def test_the_same_dispatch_twice_is_one_job(redis: Redis, queue: Queue) -> None:
    for _ in range(2):
        await queue.enqueue("gen", "dispatch", 60)
    assert len(await jobs(redis)) == await queue.depth() == 1


async def test_a_withdrawn_dispatch_leaves_no_keys(redis: Redis, queue: Queue) -> None:
    await queue.enqueue("gen", "dispatch", 60)
    for prefix in (in_progress_key_prefix, retry_key_prefix):
        await redis.set(prefix + "dispatch", b"1")
    for _ in range(2):
        await queue.remove_job("dispatch")
        assert await redis.dbsize() == 0


async def test_positions_count_from_1_in_order_of_dispatch(queue: Queue) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await queue.enqueue("gen", name, 60)
    assert [await queue.position(name) for name in names] == [1, 2, 3]
    await queue.mark_started("a")
    assert [await queue.position(name) for name in names] == [None, 1, 2]
    assert await queue.depth() == 2


async def test_a_dispatch_waits_until_a_worker_has_it(redis: Redis, queue: Queue) -> None:
    names = ["waits", "begun", "expired", "begun and expired", "never was"]
    for name in names[:-1]:
        await queue.enqueue("gen", name, 60)
    for name in names:
        if "begun" in name:
            await redis.set(in_progress_key_prefix + name, b"1")
        if "expired" in name:
            await redis.delete(job_key_prefix + name)
    assert await queue.is_waiting(names) == [True, False, False, False, False]
    await queue.mark_started("waits")
    assert await queue.is_waiting(["waits"]) == [False]
    assert await queue.is_waiting([]) == []


# Claims


async def test_a_key_stands_for_the_generation_it_was_first_used_for(queue: Queue) -> None:
    claims = [await queue.claim("anna", "key", b"{}", f"gen {n}", 60) for n in range(3)]
    assert claims == ["gen 0"] * 3


async def test_of_all_who_claim_a_key_at_once_one_wins(queue: Queue) -> None:
    claims = await asyncio.gather(*(queue.claim("anna", "key", b"{}", f"gen {n}", 60) for n in range(20)))
    assert len(set(claims)) == 1


async def test_a_key_is_not_used_twice_for_different_bodies(queue: Queue) -> None:
    await queue.claim("anna", "key", b"{}", "gen 0", 60)
    with pytest.raises(IdempotencyKeyReused):
        await queue.claim("anna", "key", b"[]", "gen 1", 60)
    assert await queue.claim("anna", "key", b"{}", "gen 2", 60) == "gen 0"


async def test_the_same_key_of_another_owner_is_another_key(queue: Queue) -> None:
    assert await queue.claim("anna", "key", b"{}", "gen 0", 60) == "gen 0"
    assert await queue.claim("bob", "key", b"[]", "gen 1", 60) == "gen 1"
    assert await queue.claim("anna", "other", b"[]", "gen 2", 60) == "gen 2"


async def test_a_claim_ends_and_tells_nothing_of_the_body(redis: Redis, queue: Queue) -> None:
    await queue.claim("anna", "key", b'{"ticket_secret":"hunter2"}', "gen 0", 60)
    (name,) = await redis.keys()
    assert 0 < await redis.ttl(name) <= 60 + CLAIM_GRACE_S
    assert b"hunter2" not in await redis.get(name)


async def test_a_claim_that_expires_while_it_is_looked_at_is_made_anew(
    redis: Redis, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.claim("anna", "key", b"{}", "gen 0", 60)
    get = redis.get

    async def expire_and_get(name: str) -> Any:
        await redis.delete(name)
        monkeypatch.undo()
        return await get(name)

    monkeypatch.setattr(redis, "get", expire_and_get)
    assert await queue.claim("anna", "key", b"{}", "gen 1", 60) == "gen 1"


# Whose it is


async def listed(queue: Queue, owner: str, after: str | None = None) -> list[str]:
    return [each async for page in queue.list_owned(owner, after) for each in page]


async def test_an_owners_generations_are_listed_newest_first_from_any_of_them(queue: Queue) -> None:
    heads = [new_record(created=1_000_000 + n) for n in range(250)]
    for record in heads:
        await queue.register(record)
    await queue.register(new_record(owner="bob"))
    newest_first = [record.id for record in reversed(heads)]
    assert await listed(queue, "anna") == newest_first
    for n in (0, 99, 100, 248, 249):
        assert await listed(queue, "anna", newest_first[n]) == newest_first[n + 1 :]
    assert await listed(queue, "anna", new_generation_id()) == []
    assert await listed(queue, "carol") == []


async def test_forgetting_while_listing_skips_nobody(queue: Queue) -> None:
    heads = [new_record(created=1_000_000 + n) for n in range(350)]
    for record in heads:
        await queue.register(record)
    newest_first = [record.id for record in reversed(heads)]
    met, forgotten = [], set()
    async for page in queue.list_owned("anna", None):
        met += page
        forgotten.update(page[::3])
        await queue.forget("anna", page[::3])
    assert met == newest_first
    assert await listed(queue, "anna") == [each for each in newest_first if each not in forgotten]


async def test_what_is_forgotten_is_listed_no_more(queue: Queue) -> None:
    record, other = new_record(), new_record()
    await queue.register(record)
    await queue.register(other)
    await queue.forget("anna", [])
    await queue.forget("bob", [record.id])
    assert set(await listed(queue, "anna")) == {record.id, other.id}
    await queue.forget("anna", [record.id])
    assert await listed(queue, "anna") == [other.id]


async def test_a_list_lives_as_long_as_the_longest_on_it(redis: Redis, queue: Queue) -> None:
    for life_s in (HOUR_S, 10, 2 * HOUR_S, 10):
        await queue.register(new_record(options=Options(life_s, 1)))
    for name in (keys.owned("anna"), keys.unfinished_of("anna")):
        assert 2 * HOUR_S < await redis.ttl(name) <= 2 * HOUR_S + 1 + CLAIM_GRACE_S


async def test_what_has_ended_no_longer_counts(redis: Redis, queue: Queue) -> None:
    record, other = new_record(), new_record()
    for each in (record, other):
        await queue.register(each)
    await queue.remove(record.id, "anna")
    assert await queue.load("anna") == (0, 1)
    await queue.remove(other.id)
    assert await queue.load("anna") == (0, 1)
    assert [await queue.list_unfinished(shard) for shard in range(keys.UNFINISHED_SETS)] == [[]] * 16


async def test_what_is_past_its_deadline_no_longer_counts(log: Log, queue: Queue) -> None:
    now = await log.now()
    await queue.register(
        new_record(created=now - 100_000 - LEASE_MS - 1, options=Options(deadline_s=100, retention_s=900))
    )
    await queue.register(new_record(created=now - 99_000, options=Options(deadline_s=100, retention_s=900)))
    assert await queue.load("anna") == (0, 1)


# The fleet


async def test_one_of_the_fleet_sweeps_a_shard_in_a_period(redis: Redis, queue: Queue) -> None:
    asked = await asyncio.gather(*(queue.claim_shard(3, 60_000) for _ in range(10)))
    assert sorted(asked) == [False] * 9 + [True]
    assert await queue.claim_shard(4, 60_000)
    assert 0 < await redis.pttl(keys.swept(3)) <= 60_000


async def test_workers_that_were_heard_of_are_counted(queue: Queue) -> None:
    assert await queue.workers() == 0
    for worker in ("one", "two", "one"):
        await queue.heartbeat(worker)
    assert await queue.workers() == 2
    await queue.deregister("one")
    await queue.deregister("never there")
    assert await queue.workers() == 1


@pytest.mark.parametrize(("lease_ms", "silent_s", "counts"), [(5000, 14, 1), (5000, 17, 0), (300_000, 890, 1)])
async def test_a_worker_counts_until_it_was_silent_for_three_leases(
    redis: Redis, lease_ms: int, silent_s: int, counts: int
) -> None:
    log = Log(redis, lease_ms)
    queue = Queue(redis, log)
    await redis.zadd(keys.WORKERS, {"silent": await log.now() // 1000 - silent_s})
    assert await queue.workers() == counts
    await queue.heartbeat("another")
    assert await queue.workers() == counts + 1
    assert await redis.zcard(keys.WORKERS) == counts + 1


async def test_what_nobody_keeps_any_more_leaves_its_owner_s_list(redis: Redis, log: Log) -> None:
    queue = Queue(redis, log, longest_life_s=100)
    await redis.zadd(keys.owned("me"), {"gen_old": (await log.now()) - 101_000, "gen_kept": (await log.now()) - 99_000})
    record = GenerationRecord(new_generation_id(), "me", "m", Options(10, 10))
    await queue.submit(record, REQUEST)
    assert [page async for page in queue.list_owned("me", None)] == [[record.id, "gen_kept"]]


async def test_a_server_that_has_just_started_gives_away_nothing_from_before_for_a_moment(tmp_path: Path) -> None:
    """It may have come back with older data, and what waits there have been run since."""
    server = EmbeddedServer(tmp_path)
    server.start()
    redis = connect(server.url)
    queue = Queue(redis, Log(redis, LEASE_MS))
    try:
        await queue.enqueue("a generation", "before", HOUR_S)
        assert await queue.take("before", "worker", 1000) is not None
        await redis.delete(in_progress_key_prefix + "before")
        await asyncio.sleep(1.1)  # a server knows its age in whole seconds
        server.stop()
        server.start()
        assert await queue.take("before", "worker", 1000) is None
        await queue.enqueue("a generation", "since", HOUR_S)
        assert await queue.take("before", "worker", 1000) is None
        await eventually(lambda: queue.take("before", "worker", 1000), HOLD_S + 10)
        assert (await connection.server_run(redis))[1] >= HOLD_S
        assert await queue.take("since", "worker", 1000) is not None
        assert await queue.take("since", "another worker", 1000) is None
    finally:
        await redis.aclose()
        server.stop()
