"""The operations on generations without HTTP, on a real server: their trips, their promises, their refusals."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from support.ends import confirmations_on, terminate
from support.log_writer import LogWriter
from support.queues import LEASE_MS, LONGEST_LIFE_S
from tailrace import keys
from tailrace.errors import (
    Gone,
    IdempotencyKeyReused,
    ModelNotFound,
    NotFound,
    RateLimited,
    RedisFull,
    RedisUnavailable,
    StorageLimited,
    Unavailable,
)
from tailrace.events import Api, Entry, Json, Options, Text
from tailrace.ids import new_generation_id
from tailrace.log import Log, Outcome
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace.queue import Queue, Submission
from tailrace.queue.index import GENERATION_BYTES
from tailrace.queue.quotas import USUAL_OUTPUT
from tailrace.redis.hash_slots import slot_of
from tailrace.redis.server import RedisServer
from tailrace.redis.server_run import ServerRun
from tailrace.scripts import Command
from tailrace.settings import MIB, Settings
from tailrace_frontend import readable_generations as module
from tailrace_frontend.generations import Generations, IdempotencyKey
from tailrace_frontend.rate_limits import BURST_S, UNIT_BYTES
from tailrace_frontend.streaming.hub import Hub

REQUEST: Json = {"model": "scripted", "messages": [{"role": "user", "content": "?"}]}
KEY = IdempotencyKey("key", b"body")
OWNER = "anna"
OPTIONS = Options(deadline_s=60, retention_s=60)


class CountingServer(RedisServer):
    """A server that records each trip: the commands that were sent together. `before_trip` is called before each."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.trips: list[list[Command]] = []
        self.before_trip: Callable[[], Awaitable[None]] | None = None

    async def _trip(self, commands: Sequence[Command]) -> None:
        if self.before_trip:
            await self.before_trip()
        self.trips.append(list(commands))

    async def execute_many(self, commands: Sequence[Command], *, retries: int | None = None) -> list[Any]:
        await self._trip(commands)
        return await super().execute_many(commands, retries=retries)

    async def execute_alone(self, *command: Any) -> Any:
        await self._trip([command])
        return await super().execute_alone(*command)

    async def read_bulk(self, *command: Any) -> memoryview | None:
        await self._trip([command])
        return await super().read_bulk(*command)


@pytest.fixture
def server(redis: Redis) -> CountingServer:
    return CountingServer(redis)


@pytest.fixture
def queue(server: CountingServer) -> Queue:
    return Queue(server, lease_ms=LEASE_MS, longest_life_s=LONGEST_LIFE_S)


@pytest.fixture
def generations(server: CountingServer, queue: Queue) -> Generations:
    return generations_with(server, queue)


def generations_with(server: RedisServer, queue: Queue, **settings: Any) -> Generations:
    chosen, log = Settings(**settings), Log(server, LEASE_MS)
    return Generations(chosen, log, queue, confirmations_on(log, queue), Hub(chosen, log))


async def create(
    generations: Generations, key: IdempotencyKey | None = None, owner: str = OWNER, body_bytes: int = 0
) -> str:
    state, _ = await generations.create(owner, REQUEST, OPTIONS, key, body_bytes)
    return state.record.id


async def stored_keys(redis: Redis) -> set[bytes]:
    """The keys of generations and of the queue; a claim is none."""
    return {key for key in await redis.keys("*") if b":idempotency:" not in key}


def full_from_trip(redis: Redis, server: CountingServer, number: int) -> Callable[[], Awaitable[None]]:
    """Redis reaches `maxmemory` before the trip with this number, from 0."""

    async def fill() -> None:
        if len(server.trips) == number:
            await redis.config_set("maxmemory", "1")

    return fill


def unavailable(which: str) -> Callable[..., Awaitable[Any]]:
    """A call on a server that is away."""

    async def call(*_: Any) -> None:
        raise RedisUnavailable(detail=which)

    return call


# Creation


@pytest.mark.parametrize(("key", "at_most"), [(None, 5), (KEY, 6)])
async def test_creation_takes_few_trips_and_commands(
    server: CountingServer, queue: Queue, key: IdempotencyKey | None, at_most: int
) -> None:
    await create(generations_with(server, queue))  # the server knows the scripts now
    server.trips.clear()
    await create(generations_with(server, queue), key)  # this one also asks for the server's memory
    assert len(server.trips) <= at_most
    assert sum(map(len, server.trips)) <= 12


async def test_creation_stores_the_generation_and_enqueues_its_job(
    generations: Generations, queue: Queue, redis: Redis
) -> None:
    await redis.script_flush()
    state, submission = await generations.create(OWNER, REQUEST, OPTIONS)
    assert isinstance(state, GenerationState)
    assert (state.status, state.record.owner, state.record.model) == ("queued", OWNER, "scripted")
    assert submission == Submission(1, 0)
    assert await queue.jobs.position(state.job_id) == 1
    assert await queue.index.unfinished_of(OWNER, state.record.created) == 1


async def test_repeat_with_the_key_is_the_same_generation_and_the_same_job(
    generations: Generations, queue: Queue
) -> None:
    first = await create(generations, KEY)
    assert await create(generations, KEY) == first
    assert await queue.jobs.depth() == 1


async def test_repeats_at_the_same_time_are_one_generation(generations: Generations, queue: Queue) -> None:
    assert len(set(await asyncio.gather(*(create(generations, KEY) for _ in range(20))))) == 1
    assert await queue.jobs.depth() == 1


async def test_generation_that_a_key_names_is_found_without_its_request_and_is_submitted(
    generations: Generations, queue: Queue, redis: Redis
) -> None:
    """The first call was lost between `create` and `submit`; what it stored counts as stored once."""
    assert await generations.repeated(OWNER, REQUEST, KEY) is None
    state, _ = await generations.create(OWNER, REQUEST, OPTIONS, KEY)
    await redis.delete(keys.QUEUE, keys.owned(OWNER), keys.stored(OWNER), keys.stored_until(OWNER))
    for _ in range(2):
        assert await generations.repeated(OWNER, REQUEST, KEY) == state
    assert await queue.jobs.position(state.job_id) == 1
    request_bytes = len(await generations._log.stored_request(state.record.id))
    assert (await queue.load(OWNER)).usage.stored_bytes == GENERATION_BYTES + request_bytes
    assert await generations._log.discard(state.record.id, state.job_id) is Outcome.HELD
    await generations.cancel(state.record.id, OWNER)
    again = await generations.repeated(OWNER, REQUEST, KEY)
    assert (again and again.status, await queue.jobs.depth()) == ("cancelled", 0)


async def test_claim_of_a_generation_that_was_not_created_names_none(
    server: CountingServer, generations: Generations, queue: Queue, redis: Redis
) -> None:
    await create(generations)
    server.trips.clear()
    server.before_trip = full_from_trip(redis, server, 1)  # after the claim
    with pytest.raises(RedisFull):
        await create(generations, KEY)
    server.before_trip = None
    await redis.config_set("maxmemory", "0")
    assert await generations.repeated(OWNER, REQUEST, KEY) is None
    with pytest.raises(IdempotencyKeyReused):
        await generations.repeated(OWNER, REQUEST, IdempotencyKey(KEY.key, b"another body"))


async def test_refused_creation_leaves_no_claim(server: CountingServer, queue: Queue) -> None:
    generations = generations_with(server, queue, max_queued=1)
    await create(generations)
    with pytest.raises(RateLimited):
        await create(generations, KEY)
    assert await queue.index.claim_of(OWNER, KEY.key) is None


async def test_repeat_of_a_generation_that_has_ended_waits_for_no_worker(generations: Generations, log: Log) -> None:
    state, _ = await generations.create(OWNER, REQUEST, OPTIONS, KEY)
    await generations.cancel(state.record.id, OWNER)
    again, submission = await generations.create(OWNER, REQUEST, OPTIONS, KEY)
    assert (again.record.id, again.status, submission) == (state.record.id, "cancelled", None)
    assert (await log.state(state.record.id)).is_final


async def test_repeats_are_not_created(generations: Generations) -> None:
    created = generations._hub.stats.count("generations_created_total")
    for _ in range(3):
        await generations.create(OWNER, REQUEST, OPTIONS, KEY)
    await generations.create(OWNER, REQUEST, OPTIONS)
    assert created.value == 2


async def test_repeat_of_a_deleted_generation_is_gone(generations: Generations) -> None:
    await generations.delete(await create(generations, KEY), OWNER)
    with pytest.raises(Gone):
        await create(generations, KEY)


async def test_key_with_another_body_is_refused(generations: Generations) -> None:
    await create(generations, KEY)
    with pytest.raises(IdempotencyKeyReused):
        await create(generations, IdempotencyKey(KEY.key, b"another body"))


async def test_key_of_another_caller_is_another_key(generations: Generations) -> None:
    assert await create(generations, KEY) != await create(generations, KEY, "berta")


# Refusals


@pytest.mark.parametrize("limit", [{"max_queued": 1}, {"max_unfinished_per_caller": 1}])
async def test_refused_creation_leaves_nothing_behind(
    server: CountingServer, queue: Queue, redis: Redis, limit: dict[str, int]
) -> None:
    generations = generations_with(server, queue, **limit)
    await create(generations)
    before = await stored_keys(redis)
    for key in (None, KEY):
        with pytest.raises(RateLimited):
            await create(generations, key)
    assert await stored_keys(redis) == before


async def test_repeat_is_served_even_when_new_work_is_refused(server: CountingServer, queue: Queue) -> None:
    generations = generations_with(server, queue, max_queued=1)
    first = await create(generations, KEY)
    assert await create(generations, KEY) == first


async def test_full_server_refuses_at_any_trip_and_keeps_nothing(
    generations: Generations, server: CountingServer, redis: Redis
) -> None:
    """Redis reaches `maxmemory` before the first, the second, … trip of a creation."""
    await create(generations)  # the use of memory is known now, so admission does not refuse first
    server.trips.clear()
    await create(generations)
    trips = len(server.trips)
    before = await stored_keys(redis)
    refused = 0
    for full_from in range(trips):
        server.trips.clear()
        server.before_trip = full_from_trip(redis, server, full_from)
        try:
            await create(generations)
        except (RedisFull, Unavailable):
            refused += 1
        else:
            before = await stored_keys(redis)
        finally:
            server.before_trip = None
            await redis.config_set("maxmemory", "0")
        assert await stored_keys(redis) == before
    assert refused >= 2


async def test_refused_repeat_leaves_the_first_calls_generation_as_it_was(
    generations: Generations, server: CountingServer, queue: Queue, redis: Redis
) -> None:
    state, _ = await generations.create(OWNER, REQUEST, OPTIONS, KEY)
    server.trips.clear()
    server.before_trip = full_from_trip(redis, server, 2)
    with pytest.raises((RedisFull, Unavailable)):
        await create(generations, KEY)
    server.before_trip = None
    await redis.config_set("maxmemory", "0")
    assert (await generations.list(OWNER, 10, None))[0] == [await generations._log.state(state.record.id)]
    assert await queue.jobs.position(state.job_id) == 1
    assert await queue.index.unfinished_of(OWNER, state.record.created) == 1


async def test_refused_call_leaves_the_generation_that_a_repeat_was_promised(
    server: CountingServer, generations: Generations, queue: Queue, redis: Redis, log: Log
) -> None:
    """The first call is refused after `create`; its repeat met the generation before it was discarded."""
    await create(generations)
    state: list[GenerationState] = []

    async def repeat_before_the_discard() -> None:
        if len(server.trips) == trips_before + 3:  # after the refused `submit`
            server.before_trip = None
            await redis.config_set("maxmemory", "0")
            state.append((await generations_with(RedisServer(redis), queue).create(OWNER, REQUEST, OPTIONS, KEY))[0])
        elif len(server.trips) == trips_before + 2:
            await redis.config_set("maxmemory", "1")

    trips_before = len(server.trips)
    server.before_trip = repeat_before_the_discard
    with pytest.raises(RedisFull):
        await create(generations, KEY)
    (promised,) = state
    assert (await log.state(promised.record.id)).status == "queued"
    assert await queue.jobs.position(promised.job_id) == 2


async def test_creation_that_the_queue_does_not_answer_leaves_nothing_that_a_sweeper_would_run(
    generations: Generations, queue: Queue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "submit", unavailable("the queue"))
    with pytest.raises(RedisUnavailable):
        await create(generations)
    assert await stored_keys(redis) == set()


async def test_creation_that_the_queue_does_not_answer_gives_back_what_it_reserved(
    server: CountingServer, queue: Queue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = generations_with(server, queue, budget_day_tokens_per_caller=10_000)
    submit = queue.submit

    async def lose_the_reply(*args: Any) -> None:
        await submit(*args)
        raise RedisUnavailable

    for call in (unavailable("the queue"), lose_the_reply):
        monkeypatch.setattr(queue, "submit", call)
        with pytest.raises(RedisUnavailable):
            await create(generations)
        assert await redis.hvals(keys.reserved(OWNER)) == []  # type: ignore[misc]
        assert (await queue.quotas.use_of([OWNER]))[0].held_tokens == 0
    assert await queue.jobs.depth() == 0


async def test_reservation_of_a_generation_that_another_call_relies_on_stays(
    server: CountingServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = generations_with(server, queue, budget_day_tokens_per_caller=10_000)
    monkeypatch.setattr(queue, "submit", unavailable("the queue"))
    monkeypatch.setattr(generations._log, "discard", held)
    with pytest.raises(RedisUnavailable):
        await create(generations)
    assert (await queue.quotas.use_of([OWNER]))[0].held_tokens > 0


async def held(*_: Any) -> Outcome:
    return Outcome.HELD


@pytest.mark.parametrize(("api", "output"), [("chat", USUAL_OUTPUT), ("responses", 1)])
async def test_creation_reserves_by_the_limit_of_its_own_api(
    server: CountingServer, queue: Queue, api: Api, output: int
) -> None:
    generations = generations_with(server, queue, budget_day_tokens_per_caller=10_000)
    request = REQUEST | {"max_output_tokens": 1}
    await generations.create(OWNER, request, OPTIONS, record_fields={"api": api})
    (use,) = await queue.quotas.use_of([OWNER])
    assert use.held_tokens == 1 + output


async def test_creation_that_no_server_answers_is_refused_for_the_first_reason(
    generations: Generations, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "submit", unavailable("the queue"))
    monkeypatch.setattr(generations._log, "discard", unavailable("the log"))
    with pytest.raises(RedisUnavailable, match="the queue"):
        await create(generations)


async def test_generation_lost_while_it_was_created_is_not_accepted(
    generations: Generations, server: CountingServer, redis: Redis
) -> None:
    await create(generations)
    server.trips.clear()
    await create(generations)
    trips = len(server.trips)

    async def lose_before_the_last_trip() -> None:
        if len(server.trips) == 2 * trips - 1:
            await redis.flushall()

    server.before_trip = lose_before_the_last_trip
    with pytest.raises(Unavailable, match="lost"):
        await create(generations)


# Callers kept apart


def with_callers(server: RedisServer, queue: Queue, **settings: Any) -> Generations:
    return generations_with(server, queue, api_keys=SecretStr("anna:anna-key-1,berta:berta-key"), **settings)


async def test_caller_creates_so_many_in_a_minute_over_all_frontends(server: CountingServer, queue: Queue) -> None:
    frontends = [with_callers(server, queue, max_requests_per_minute_per_caller=60) for _ in range(3)]
    burst = round(BURST_S) + 1  # one a second, so far ahead
    for i in range(burst):
        await create(frontends[i % 3])
    for generations in frontends:
        with pytest.raises(RateLimited) as raised:
            await create(generations)
        assert 0 < int(raised.value.headers()["Retry-After"]) <= 1
        await create(generations, owner="berta")
    await asyncio.sleep(1.1)
    await create(frontends[0])


async def test_large_body_counts_as_many_requests(server: CountingServer, queue: Queue) -> None:
    generations = with_callers(server, queue, max_requests_per_minute_per_caller=60)
    await create(generations, body_bytes=59 * UNIT_BYTES)
    with pytest.raises(RateLimited) as raised:
        await create(generations)
    assert 55 <= int(raised.value.headers()["Retry-After"]) <= 58


async def test_refused_creation_is_not_counted_and_open_mode_counts_none(
    server: CountingServer, queue: Queue, redis: Redis
) -> None:
    generations = with_callers(server, queue, max_requests_per_minute_per_caller=60)
    await create(generations, body_bytes=59 * UNIT_BYTES)
    until = await redis.get(keys.owed(OWNER))
    with pytest.raises(RateLimited):
        await create(generations, body_bytes=59 * UNIT_BYTES)
    assert await redis.get(keys.owed(OWNER)) == until
    assert await redis.pttl(keys.owed(OWNER)) > 0
    for _ in range(10):
        await create(generations_with(server, queue, max_requests_per_minute_per_caller=1), owner="open")


async def test_repeat_is_served_although_the_caller_is_beyond_the_rate(server: CountingServer, queue: Queue) -> None:
    generations = with_callers(server, queue, max_requests_per_minute_per_caller=60)
    first = await create(generations, KEY, body_bytes=59 * UNIT_BYTES)
    assert await create(generations, KEY) == first


async def test_creation_beyond_the_rate_leaves_no_claim_of_its_key(
    server: CountingServer, queue: Queue, redis: Redis
) -> None:
    generations = with_callers(server, queue, max_requests_per_minute_per_caller=60)
    await create(generations, body_bytes=59 * UNIT_BYTES)
    before = await redis.dbsize()
    for n in range(20):
        with pytest.raises(RateLimited):
            await create(generations, IdempotencyKey(f"key {n}", b"body"))
    assert await redis.dbsize() == before


async def test_stored_bytes_of_a_caller_are_limited_until_some_are_deleted(
    server: CountingServer, queue: Queue, redis: Redis
) -> None:
    """Cancelling frees nothing: the generation is kept for its retention."""
    generations = generations_with(server, queue, max_stored_bytes_per_caller=MIB)
    first, second = [await create(generations, body_bytes=500_000) for _ in range(2)]
    await generations.cancel(first, OWNER)
    before = await stored_keys(redis)
    with pytest.raises(StorageLimited) as raised:
        await create(generations, body_bytes=500_000)
    assert (raised.value.status, raised.value.headers()) == (429, {"Retry-After": "60"})
    assert await stored_keys(redis) == before
    await create(generations, owner="berta", body_bytes=500_000)
    for _ in range(2):
        with contextlib.suppress(Gone):
            await generations.delete(second, OWNER)
    await create(generations, body_bytes=500_000)


async def test_output_is_stored_for_its_caller_until_its_retention_is_over(
    generations: Generations, queue: Queue, log: Log, redis: Redis
) -> None:
    state, _ = await generations.create(OWNER, REQUEST, Options(deadline_s=60, retention_s=1), None, 1000)
    assert (await queue.load(OWNER)).usage == (GENERATION_BYTES + 1000, 0)
    writer = await LogWriter.start(log, state.record.id)
    await writer.write(Text(0, "x" * 5000))
    await generations.cancel(state.record.id, OWNER)
    used = (await queue.load(OWNER)).usage.stored_bytes
    assert 10_000 < used - GENERATION_BYTES - 1000 < 10_500
    await queue.index.record_output(state.record, 2000)
    assert (await queue.load(OWNER)).usage.stored_bytes == GENERATION_BYTES + 3000, "the size is set, not added"
    await asyncio.sleep(1.1)
    assert (await queue.load(OWNER)).usage.stored_bytes == 0
    assert await redis.hgetall(keys.stored(OWNER)) == {b"": b"0"}  # type: ignore[misc]
    await queue.index.record_output(state.record, 2000)
    assert (await queue.load(OWNER)).usage.stored_bytes == 0, "what is not kept any more takes nothing"


async def test_sum_of_what_is_stored_is_that_of_its_parts_whatever_happens(
    generations: Generations, queue: Queue, redis: Redis
) -> None:
    rng = random.Random(7)
    made = [(await generations.create(OWNER, REQUEST, OPTIONS, None, rng.randrange(9999)))[0] for _ in range(30)]
    for _ in range(200):
        record = rng.choice(made).record
        if rng.random() < 0.9:
            await queue.index.record_output(record, rng.randrange(9999))
        else:
            await queue.index.forget(OWNER, [record.id, "unknown"])
    sizes = await redis.hgetall(keys.stored(OWNER))  # type: ignore[misc]
    total = int(sizes.pop(b""))
    assert total == sum(sum(map(int, each.split(b"+"))) for each in sizes.values())
    assert total == (await queue.load(OWNER)).usage.stored_bytes
    assert set(sizes) == set(await redis.zrange(keys.stored_until(OWNER), 0, -1))


async def test_model_that_the_caller_may_not_use_is_not_found_and_stores_nothing(
    server: CountingServer, queue: Queue, redis: Redis
) -> None:
    generations = generations_with(server, queue, models="scripted,demo", models_per_caller="berta=demo")
    await create(generations)
    before = await stored_keys(redis)
    with pytest.raises(ModelNotFound) as raised:
        await create(generations, owner="berta")
    assert raised.value.as_json()["error"]["param"] == "model"
    assert await stored_keys(redis) == before


# Reading


async def test_snapshot_has_the_request_and_the_output_so_far(generations: Generations, log: Log) -> None:
    generation_id = await create(generations)
    waiting = await generations.snapshot(await generations.wait(generation_id, OWNER))
    assert (waiting.position, waiting.workers, list(waiting.output)) == (1, 0, [])
    writer = await LogWriter.start(log, generation_id)
    await writer.write(Text(0, "a"), Text(0, "b"))
    running = await generations.snapshot(await generations.wait(generation_id, OWNER))
    assert (running.state.status, running.position, running.done) == ("running", None, None)
    assert "ab" in str(running.output)
    await writer.finish()
    ended = await generations.snapshot(await generations.wait(generation_id, OWNER))
    assert ended.done is not None
    assert ended.done.status == "completed"
    assert b'"ab"' in bytes(ended.output)
    assert b'"scripted"' in bytes(ended.request)


async def test_snapshot_of_a_generation_that_has_ended_meanwhile_has_its_end(
    generations: Generations, queue: Queue, log: Log
) -> None:
    generation_id = await create(generations)
    state = await log.state(generation_id, OWNER)
    await terminate(log, queue, generation_id, "cancelled")
    snapshot = await generations.snapshot(state)
    assert (snapshot.state.status, snapshot.done and snapshot.done.status) == ("cancelled", "cancelled")
    assert (snapshot.position, snapshot.workers) == (None, None)


async def test_snapshot_of_a_generation_whose_log_redis_has_lost_is_gone(
    generations: Generations, redis: Redis
) -> None:
    generation_id = await create(generations)
    await redis.delete(keys.log(generation_id))
    with pytest.raises(Gone) as gone:
        await generations.snapshot(await generations.wait(generation_id, OWNER))
    assert gone.value.code == "lost"


async def test_list_has_the_callers_generations_newest_first(generations: Generations) -> None:
    states = [(await generations.create(OWNER, REQUEST, OPTIONS))[0] for _ in range(3)]
    mine = [id_ for _, id_ in sorted((state.record.created, state.record.id) for state in states)]
    await create(generations, owner="berta")
    found, has_more = await generations.list(OWNER, 2, None)
    assert ([state.record.id for state in found], has_more) == (mine[:0:-1], True)
    found, has_more = await generations.list(OWNER, 2, mine[1])
    assert ([state.record.id for state in found], has_more) == (mine[:1], False)


async def test_list_forgets_generations_that_have_vanished(generations: Generations, redis: Redis) -> None:
    kept, vanished = [await create(generations) for _ in range(2)]
    await redis.delete(*keys.of_generation(vanished))
    for _ in range(2):
        found, has_more = await generations.list(OWNER, 1, None)
        assert ([state.record.id for state in found], has_more) == ([kept], False)


async def create_before_many_that_have_vanished(
    generations: Generations, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A generation that is kept, and more after it in the list than one list forgets."""
    monkeypatch.setattr(module, "VANISHED", 100)
    kept = await create(generations)
    created = await redis.zscore(keys.owned(OWNER), kept)
    assert created is not None
    await redis.zadd(keys.owned(OWNER), {f"gen_{n}": created + 1 for n in range(250)})
    return kept


async def test_list_of_many_that_have_vanished_ends_early_and_goes_on(
    generations: Generations, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await create_before_many_that_have_vanished(generations, redis, monkeypatch)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await generations.list(OWNER, 5, None)
    found, has_more = await generations.list(OWNER, 5, None)
    assert ([state.record.id for state in found], has_more) == ([old], False)
    assert await redis.zcard(keys.owned(OWNER)) == 1


async def test_list_that_ends_early_has_more_and_skips_none(
    generations: Generations, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await create_before_many_that_have_vanished(generations, redis, monkeypatch)
    new = await create(generations)
    await redis.zincrby(keys.owned(OWNER), 10_000, new)
    found, has_more = await generations.list(OWNER, 5, None)
    assert ([state.record.id for state in found], has_more) == ([new], True)
    found, has_more = await generations.list(OWNER, 5, new)
    assert ([state.record.id for state in found], has_more) == ([old], False)


# Ending


async def test_cancel_ends_a_waiting_generation_and_removes_its_job(generations: Generations, queue: Queue) -> None:
    generation_id = await create(generations)
    for _ in range(2):
        state = await generations.cancel(generation_id, OWNER)
        assert (state.status, await queue.jobs.depth()) == ("cancelled", 0)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_delete_removes_the_log_and_the_place_in_the_list(
    generations: Generations, log: Log, has_ended: bool
) -> None:
    generation_id = await create(generations)
    if has_ended:
        await generations.cancel(generation_id, OWNER)
    await generations.delete(generation_id, OWNER)
    assert await generations.list(OWNER, 10, None) == ([], False)
    with pytest.raises(Gone, match="deleted"):
        await log.state(generation_id, OWNER)


@pytest.mark.parametrize("operation", ["wait", "cancel", "delete"])
async def test_generation_of_another_caller_is_not_found(
    generations: Generations, log: Log, server: CountingServer, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(server, "run", _aged(inf))
    generation_id = await create(generations)
    with pytest.raises(NotFound):
        await getattr(generations, operation)(generation_id, "berta")
    assert (await log.state(generation_id, OWNER)).status == "queued"


@pytest.mark.parametrize("owner", [OWNER, "berta"])
async def test_generation_that_may_be_restored_is_unavailable(
    generations: Generations, log: Log, server: CountingServer, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    missing = new_generation_id() if owner == OWNER else await create(generations)
    for age_s, is_restoring, error in ((0.0, False, Unavailable), (inf, True, Unavailable), (inf, False, NotFound)):
        monkeypatch.setattr(server, "run", _aged(age_s))
        if is_restoring:
            await log.announce_restore("gen")
        with pytest.raises(error):
            await generations.find(missing, owner)
        await server.execute("DEL", keys.restoring(""))


def _aged(seconds: float) -> Callable[[], Awaitable[ServerRun]]:
    async def run() -> ServerRun:
        return ServerRun("run", seconds)

    return run


async def test_get_of_a_long_log_that_is_being_written_folds_joined_deltas(
    generations: Generations, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, the fold of 200,000 rows took 1.2 s of CPU (`scripts/bench --workload long-log`)."""
    generation_id, rows = await create(generations), 40_000
    writer = await LogWriter.start(Log(server, LEASE_MS), generation_id)
    for _ in range(10):
        await writer.write(*[Text(0, " word")] * (rows // 10))
    add, folded = Output.add, 0

    def count_and_add(output: Output, entry: Entry) -> None:
        nonlocal folded
        folded += 1
        add(output, entry)

    monkeypatch.setattr(Output, "add", count_and_add)
    snapshot = await generations.snapshot(await generations.wait(generation_id, OWNER))
    assert snapshot.output[0].text == " word" * rows
    assert folded < rows / 1000


async def test_new_generation_is_on_a_server_that_responds(
    generations: Generations, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster of which a primary is away, the others take what is new."""
    servers = {is_away: SimpleNamespace(is_away=is_away) for is_away in (False, True)}

    def is_on_the_other(key: str) -> bool:
        return slot_of(key) < 10_000

    monkeypatch.setattr(server, "primary_of", lambda key: servers[is_on_the_other(key)])
    ids = [generations._new_id() for _ in range(100)]
    assert not any(is_on_the_other(keys.log(each)) for each in ids)
    servers[False].is_away = True
    assert generations._new_id(), "where no server responds, its request fails"


async def test_new_generation_whose_slot_has_no_server_has_another_id(
    generations: Generations, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def primary_of(key: str) -> SimpleNamespace:
        if slot_of(key) < 10_000:
            raise RedisUnavailable(detail="no server")
        return SimpleNamespace(is_away=False)

    monkeypatch.setattr(server, "primary_of", primary_of)
    assert all(slot_of(keys.log(generations._new_id())) >= 10_000 for _ in range(20))
