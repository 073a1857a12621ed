"""The order in which jobs run, by the scripts on a real server: as the model has it, and over a runner's slots."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.api import eventually
from support.fair_model import FairModel
from support.queues import queue_on
from tailrace import keys
from tailrace.events import Priority
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import JOB, Queue, Right, Taken, job_id_of
from tailrace.queue.arq_jobs import owner_of
from tailrace_worker.job_runner import JobRunner

WEIGHTS = {"anna": 1.0, "bob": 3.0, "eve": 0.3, "dan": 1.0}
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
SLOTS = 20


def right_of(owner: str) -> Right:
    return Right(WEIGHTS.get(owner, 1.0))


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis, right_of=right_of)


async def take_next(redis: Redis, queue: Queue) -> str:
    """Take the next job as a worker does, and let it begin."""
    (head,) = await redis.zrange(keys.QUEUE, 0, 0)
    taken = await queue.jobs.take(head.decode(), "worker", 60_000)
    assert isinstance(taken, Taken)
    await queue.jobs.mark_started(taken.job_id)
    return taken.job_id


@pytest.mark.parametrize("part", range(4))
async def test_scripts_order_jobs_as_the_model_does(redis: Redis, queue: Queue, part: int) -> None:
    for seed in range(part * 25, part * 25 + 25):
        rng, model = random.Random(seed), FairModel()
        for number in range(60):
            chance = rng.random()
            if not model.slots or chance < 0.55:
                owner, priority, again = rng.choice(list(WEIGHTS)), rng.choice(PRIORITIES), rng.random() < 0.05
                job_id = f"{rng.randrange(10**6)} {number}@{owner}"
                await queue.jobs.enqueue("gen", job_id, 60, priority, again=again)
                model.submit(job_id, owner, WEIGHTS[owner], priority, again=again)
            elif chance < 0.65:
                job_id = rng.choice(sorted(model.slots))
                await queue.jobs.remove(job_id)
                model.cancel(job_id)
            else:
                job_id = await take_next(redis, queue)
                assert job_id == model.take(), (seed, number)
                await queue.jobs.remove(job_id)
            stored = await redis.zrange(keys.QUEUE, 0, -1, withscores=True)
            assert {name.decode(): slot for name, slot in stored} == model.slots, (seed, number)
        for job_id in sorted(model.slots):
            await queue.jobs.remove(job_id)
        assert await redis.keys("*") == [], seed


async def test_queue_position_is_the_order_in_which_jobs_begin(redis: Redis, queue: Queue) -> None:
    names = [job_id_of(owner) for owner in ("anna", "anna", "anna", "bob", "bob", "eve")]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    positions = {job_id: await queue.jobs.position(job_id) for job_id in names}
    began = [await take_next(redis, queue) for _ in names]
    assert [positions[job_id] for job_id in began] == [1, 2, 3, 4, 5, 6]


async def test_job_that_comes_back_is_before_its_owners_backlog(redis: Redis, queue: Queue) -> None:
    for owner in ("anna", "bob") * 20:
        await queue.jobs.enqueue("gen", job_id_of(owner), 60)
    for _ in range(10):
        await take_next(redis, queue)
    again = job_id_of("anna")
    position = await queue.jobs.enqueue("gen", again, 60, again=True)
    assert position <= 3
    assert again in [await take_next(redis, queue) for _ in range(3)]


async def test_job_of_an_earlier_version_is_taken_and_known_to_wait_out_of_turn(redis: Redis, queue: Queue) -> None:
    """Its score is a time. A sweeper has it enqueued again, so that its turn comes (`lifecycle.sweeper`)."""
    await queue.jobs.enqueue("gen", "old", 60)
    await redis.zadd(keys.QUEUE, {"old": await queue.server.now() - 3_600_000})
    assert await queue.jobs.is_waiting(["old"]) == [False]
    job_id = job_id_of("anna")
    await queue.jobs.enqueue("gen", job_id, 60)
    assert [await take_next(redis, queue) for _ in range(2)] == [job_id, "old"]
    tags = await redis.zrange(keys.TAGS, 0, -1, withscores=True)
    assert all(tag < 1e12 for _, tag in tags), "virtual time is not that clock"


async def test_worker_of_an_earlier_version_takes_jobs_and_leaves_the_line_in_order(redis: Redis, queue: Queue) -> None:
    """It removes a job from the queue alone."""
    names = [job_id_of("anna") for _ in range(5)]
    for job_id in names:
        await queue.jobs.enqueue("gen", job_id, 60)
    await redis.zrem(keys.QUEUE, *names[:2])
    await redis.delete(*(f"arq:job:{job_id}" for job_id in names[:2]))
    assert [await take_next(redis, queue) for _ in names[2:]] == names[2:]
    assert not await redis.exists(keys.line("anna"), keys.turns("anna"))


async def test_lost_tags_do_not_disturb_the_order_for_long(redis: Redis, queue: Queue) -> None:
    """The server came back without them: both owners go on in turn."""
    for owner in ("anna", "dan") * 50:
        await queue.jobs.enqueue("gen", job_id_of(owner), 60)
    for _ in range(20):
        await take_next(redis, queue)
    await redis.delete(keys.TAGS)
    for owner in ("anna", "dan") * 50:
        await queue.jobs.enqueue("gen", job_id_of(owner), 60)
    for _ in range(10):
        began = Counter([owner_of(await take_next(redis, queue)) for _ in range(10)])
        assert abs(began["anna"] - began["dan"]) <= 2


class Runner:
    """A runner with 20 slots, whose jobs end in rounds: `owners` has whose began, in order."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.owners: list[str] = []
        self.most = 0
        self._endings: list[asyncio.Event] = []
        self.runner = JobRunner(queue, "worker", {JOB: self._run}, max_jobs=SLOTS)

    async def _run(self, _: Any, _generation_id: str, job_id: str) -> None:
        ending = asyncio.Event()
        self.owners.append(owner_of(job_id))
        self._endings.append(ending)
        await self.queue.jobs.mark_started(job_id)
        await ending.wait()

    async def fill(self, condition: Callable[[], Awaitable[bool]]) -> None:
        self.runner.wake()
        await eventually(condition, 30)

    async def until_full(self) -> None:
        async def full() -> bool:
            return len(self._endings) == SLOTS

        await self.fill(full)

    def end_all(self) -> None:
        for ending in self._endings:
            ending.set()
        self._endings.clear()


async def enqueue_many(queue: Queue, owner: str, count: int, priority: Priority = "normal") -> None:
    for _ in range(0, count, 500):
        await asyncio.gather(
            *(queue.jobs.enqueue("gen", job_id_of(owner), 3600, priority) for _ in range(min(count, 500)))
        )


@pytest.fixture
async def runner(queue: Queue) -> Any:
    runner = Runner(queue)
    running = asyncio.create_task(runner.runner.main())
    yield runner
    runner.runner.stop_picking()
    await runner.runner.wait_for_take()
    runner.end_all()
    await asyncio.gather(*runner.runner.tasks.values())
    await cancel_and_wait(running)


async def test_callers_one_job_begins_within_two_job_times_of_anothers_10000(queue: Queue, runner: Runner) -> None:
    await enqueue_many(queue, "anna", 10_000)
    await runner.until_full()
    assert Counter(runner.owners) == {"anna": SLOTS}, "alone it has all slots"
    await queue.jobs.enqueue("gen", job_id_of("dan"), 3600)
    rounds = 0
    while "dan" not in runner.owners:
        runner.end_all()
        await runner.until_full()
        rounds += 1
    assert rounds <= 2
    assert Counter(runner.owners[-SLOTS:])["anna"] >= SLOTS - 1, "no slot is kept free"


async def test_weights_of_3_to_1_give_3_to_1(queue: Queue, runner: Runner) -> None:
    await enqueue_many(queue, "anna", 500)
    await enqueue_many(queue, "bob", 500)
    for _ in range(20):
        await runner.until_full()
        runner.end_all()
    began = Counter(runner.owners[: 20 * SLOTS])
    assert 0.95 <= began["bob"] / (3 * began["anna"]) <= 1.05


async def test_caller_without_others_has_all_slots_whatever_its_weight(queue: Queue, runner: Runner) -> None:
    await enqueue_many(queue, "eve", 100)
    for turn in range(1, 4):
        await runner.until_full()
        assert len(runner.owners) == turn * SLOTS
        runner.end_all()
