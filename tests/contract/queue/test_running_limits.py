"""How many of a caller's jobs run at once, by the scripts on a real server: never more than may, and no fewer for
long."""

import random
from collections import Counter

import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace import keys
from tailrace.events import Priority
from tailrace.queue import Queue, Right, Taken, job_id_of
from tailrace.queue.arq_jobs import owner_of

LIMITS = {"anna": 2, "bob": 1, "eve": 0}
OWNERS = tuple(LIMITS)
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")


def right_of(owner: str) -> Right:
    return Right(1.0, LIMITS[owner])


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis, right_of=right_of)


async def take_all(redis: Redis, queue: Queue, slots: int) -> list[str]:
    """Take as a worker with so many free slots does; the jobs that begin."""
    began: list[str] = []
    while len(began) < slots and (head := await redis.zrange(keys.QUEUE, 0, 0)):
        if isinstance(taken := await queue.jobs.take(head[0].decode(), "w", 60_000), Taken):
            await queue.jobs.mark_started(taken.job_id)
            began.append(taken.job_id)
    return began


async def test_jobs_beyond_the_limit_wait_parked_and_count_as_waiting(redis: Redis, queue: Queue) -> None:
    names = [job_id_of("anna") for _ in range(6)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    began = await take_all(redis, queue, 20)
    assert began == names[:2]
    assert await redis.zcard(keys.QUEUE) == 0, "they are in no one's way"
    assert await queue.jobs.is_waiting(names[2:]) == [True] * 4
    assert [await queue.jobs.position(job_id) for job_id in names] == [None, None, 1, 2, 3, 4]
    assert await queue.jobs.depth() == (await queue.load("anna")).depth == 4


async def test_enqueueing_a_parked_job_again_changes_nothing(redis: Redis, queue: Queue) -> None:
    names = [job_id_of("bob") for _ in range(3)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await take_all(redis, queue, 20)
    assert await queue.jobs.enqueue("gen", names[2], 60) == 2
    assert await redis.zcard(keys.QUEUE) == 0


async def test_end_of_one_moves_the_next_one_back(redis: Redis, queue: Queue) -> None:
    names = [job_id_of("bob") for _ in range(3)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    for job_id in names:
        assert await take_all(redis, queue, 20) == [job_id]
        assert await take_all(redis, queue, 20) == []
        await queue.jobs.remove(job_id)
    assert await redis.keys("*") == []


async def test_removal_of_an_ended_generation_leaves_its_run_counted_until_its_worker_ends_it(
    redis: Redis, queue: Queue
) -> None:
    """A cancel by another process: the worker has not closed the upstream yet."""
    names = [job_id_of("bob") for _ in range(2)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await take_all(redis, queue, 20)
    await queue.remove("gen", "bob", names[0])
    assert await take_all(redis, queue, 20) == []
    await queue.jobs.remove(names[0])
    assert await take_all(redis, queue, 20) == [names[1]]


async def test_waiting_job_that_is_removed_passes_its_place_on(redis: Redis, queue: Queue) -> None:
    """Of a caller at its limit, the one that was moved back is cancelled before a worker takes it."""
    names = [job_id_of("bob") for _ in range(4)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await take_all(redis, queue, 20)
    await queue.jobs.remove(names[0])
    await queue.remove("gen", "bob", names[1])
    assert await take_all(redis, queue, 20) == [names[2]]


async def test_sweep_moves_back_what_a_killed_worker_held(redis: Redis, queue: Queue) -> None:
    names = [job_id_of("anna") for _ in range(5)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await take_all(redis, queue, 20)
    await queue.jobs.unpark()
    assert await redis.zcard(keys.QUEUE) == 0
    await redis.zadd(keys.running("anna"), {names[0]: 1})  # its lease has expired
    await queue.jobs.unpark()
    assert await take_all(redis, queue, 20) == [names[2]]


async def test_limit_that_is_raised_lets_more_run(redis: Redis, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(10):
        await queue.jobs.enqueue("gen", job_id_of("anna"), 60)
    await take_all(redis, queue, 20)
    monkeypatch.setitem(LIMITS, "anna", 5)
    await queue.jobs.unpark()
    assert len(await take_all(redis, queue, 20)) == 3
    monkeypatch.setitem(LIMITS, "anna", 0)
    await queue.jobs.unpark()
    assert len(await take_all(redis, queue, 20)) == 5


async def test_run_that_was_not_renewed_in_time_counts_again_once_it_is(redis: Redis, queue: Queue) -> None:
    names = [job_id_of("bob") for _ in range(2)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await take_all(redis, queue, 20)
    await redis.delete(keys.running("bob"))
    await queue.jobs.renew(names[:1])
    await queue.jobs.unpark()
    assert await take_all(redis, queue, 20) == []


async def test_caller_whose_limit_rises_does_not_make_up_for_the_time_before(
    redis: Redis, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anna was at her limit while hundreds of eve's ran; now both go in turn."""
    for _ in range(60):
        await queue.jobs.enqueue("gen", job_id_of("anna"), 60)
    for _ in range(300):
        await queue.jobs.enqueue("gen", job_id_of("eve"), 60)
    for job_id in await take_all(redis, queue, 200):
        if owner_of(job_id) == "eve":
            await queue.jobs.remove(job_id)
    monkeypatch.setitem(LIMITS, "anna", 1000)
    await queue.jobs.unpark()
    began = Counter(map(owner_of, await take_all(redis, queue, 40)))
    assert abs(began["anna"] - began["eve"]) <= 2


async def test_blocked_jobs_hide_no_other(redis: Redis, queue: Queue) -> None:
    """Each is looked at once: the next poll finds others at the head."""
    for _ in range(300):
        await queue.jobs.enqueue("gen", job_id_of("bob"), 60)
    assert len(await take_all(redis, queue, 20)) == 1
    await queue.jobs.enqueue("gen", job_id_of("eve"), 60)
    assert len(await redis.zrange(keys.QUEUE, 0, 10)) == 1


class Fleet:
    """Submits, takes, ends, cancels, and lets workers die, at random."""

    def __init__(self, redis: Redis, queue: Queue, seed: int) -> None:
        self._redis, self._queue = redis, queue
        self._rng = random.Random(seed)
        self._running, self._waiting, self._dead = set[str](), list[str](), list[str]()

    async def step(self) -> None:
        match self._rng.choice(["submit", "submit", "take", "take", "end", "cancel", "die"]):
            case "submit":
                self._waiting.append(job_id_of(self._rng.choice(OWNERS)))
                await self._queue.jobs.enqueue(
                    "gen", self._waiting[-1], 60, self._rng.choice(["low", "normal", "high"])
                )
            case "take":
                await self.take(self._rng.randint(1, 4))
            case "end" if self._running:
                await self.end(1)
            case "cancel" if self._waiting:
                cancelled = self._rng.choice(self._waiting)
                await self._queue.remove("gen", owner_of(cancelled), cancelled)
                self._waiting.remove(cancelled)
            case "die" if self._running:
                self._dead.append(self._rng.choice(sorted(self._running)))
                self._running.discard(self._dead[-1])
                await self._redis.zadd(keys.running(owner_of(self._dead[-1])), {self._dead[-1]: 1})

    async def take(self, slots: int) -> None:
        began = await take_all(self._redis, self._queue, slots)
        self._running |= set(began)
        self._waiting = [each for each in self._waiting if each not in began]
        for owner, count in Counter(map(owner_of, self._running)).items():
            assert not LIMITS[owner] or count <= LIMITS[owner]

    async def end(self, count: int) -> None:
        for ended in self._rng.sample(sorted(self._running), min(count, len(self._running))):
            await self._queue.jobs.remove(ended)
            self._running.discard(ended)

    async def run_out(self) -> None:
        """After a sweep as many run as may, and so on until none waits; then nothing is left."""
        while self._waiting:
            await self._queue.jobs.unpark()
            await self.take(1000)
            for owner in {owner_of(each) for each in self._waiting}:
                assert sum(owner_of(each) == owner for each in self._running) == LIMITS[owner]
            await self.end(self._rng.randint(1, 3))
        for job_id in [*self._running, *self._dead]:
            await self._queue.jobs.remove(job_id)
        assert await self._redis.keys("*") == []


@pytest.mark.parametrize("seed", range(20))
async def test_never_above_the_limit_and_never_stuck_below_it(redis: Redis, queue: Queue, seed: int) -> None:
    fleet = Fleet(redis, queue, seed)
    for _ in range(150):
        await fleet.step()
    await fleet.run_out()
