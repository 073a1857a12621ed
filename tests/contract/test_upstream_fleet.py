"""Several workers and upstreams on one server: what they share of circuits and slots, over real sockets."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from support.queues import submit
from support.stored_log import done_of_log
from support.upstreams import NamedUpstream, named_upstreams, write_config
from tailrace import keys
from tailrace.events import Done
from tailrace.ids import new_generation_id
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_cli.embedded import EmbeddedServer
from tailrace_worker.worker import GenerationWorker

FAILURES, PROBE_S = 6, 0.5
WORKERS = 4


class Fleet:
    """Workers in one process, each with its own connections to the server."""

    def __init__(self, url: str, file: Path, lease_s: float = 30) -> None:
        chosen = Settings(
            redis_url=url, config=str(file), lease_s=lease_s, circuit_failures=FAILURES, circuit_probe_s=PROBE_S
        )  # fmt: skip
        self.workers = [GenerationWorker(chosen) for _ in range(WORKERS)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for worker in self.workers:
            worker._listen()
            loops = (worker.appenders.run, worker.leases.run, worker._send_heartbeats, worker.job_runner.main)
            self._tasks += [asyncio.create_task(loop()) for loop in loops]

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.job_runner.cancel_jobs()
        await cancel_and_wait(*self._tasks)
        for worker in self.workers:
            await worker._close()

    async def create(self, model: str = "m") -> str:
        record = record_of(id=new_generation_id(), model=model)
        await submit(self.workers[0].log, self.workers[0].queue, record, {"model": model, "messages": []})
        return record.id

    async def end_of(self, generation_id: str) -> Done:
        async with asyncio.timeout(60):
            while not (done := await done_of_log(self.workers[0].log, generation_id)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return done

    async def generate(self, count: int, model: str = "m") -> list[Done]:
        """The ends of so many generations that are created at the same time."""
        ids = await asyncio.gather(*(self.create(model) for _ in range(count)))
        return list(await asyncio.gather(*map(self.end_of, ids)))

    def open_in(self, name: str) -> int:
        """How many workers know the upstream's circuit as open."""
        return sum(name in worker.pool.admission._probe_at for worker in self.workers)


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of other tasks
            await asyncio.sleep(0.01)


@asynccontextmanager
async def fleet(
    url: str, file: Path, *upstreams: NamedUpstream, lease_s: float = 30, **limits: int
) -> AsyncIterator[Fleet]:
    """Workers with these upstreams in this order. `limits`: `max_concurrency` by name."""
    async with named_upstreams(*upstreams):
        limited = {name: {"max_concurrency": limit} for name, limit in limits.items()}
        write_config(file, *(each.table(**limited.get(each.name, {})) for each in upstreams))
        running = Fleet(url, file, lease_s)
        await running.start()
        yield running
        await running.stop()


@pytest.fixture
def three() -> tuple[NamedUpstream, NamedUpstream, NamedUpstream]:
    one, two, three = (NamedUpstream(name, words=3, delay_s=0.02) for name in ("one", "two", "three"))
    return one, two, three


async def test_upstream_dies_under_200_generations_and_none_of_them_fails(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, two, _ = three
    async with fleet(valkey.url, tmp_path / "tailrace.toml", *three) as workers:
        ends = asyncio.create_task(workers.generate(200))
        await until(lambda: one.calls >= 40)
        one.mode = "503"
        assert Counter(done.status for done in await ends) == {"completed": 200}
        assert two.calls > 0
        await until(lambda: workers.open_in("one") == WORKERS)
        one.mode = "ok"  # it recovers
        async with asyncio.timeout(30):
            while workers.open_in("one"):
                await workers.generate(1)
        served = [done.upstream.name for done in await workers.generate(20)]
        assert served == 20 * ["one"]


async def test_circuit_opens_at_the_last_allowed_failure_of_all_workers(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, _, _ = three
    one.mode = "503"
    async with fleet(valkey.url, tmp_path / "tailrace.toml", *three, lease_s=300) as workers:
        for _ in range(FAILURES):
            assert workers.open_in("one") == 0
            assert (await workers.generate(1))[0].upstream.name == "two"
        await until(lambda: workers.open_in("one") == WORKERS)  # by a message: heartbeats are 100 s apart
        assert one.calls == FAILURES
        before = time.monotonic()
        ends = await workers.generate(60)
        assert {done.status for done in ends} == {"completed"}
        assert one.calls - FAILURES <= 1 + (time.monotonic() - before) / PROBE_S, "no call but the probes"


async def test_dead_address_is_passed_over(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, two, _ = three
    one.url = "http://127.0.0.1:9"
    async with named_upstreams(two):
        write_config(tmp_path / "tailrace.toml", one.table(), two.table())
        workers = Fleet(valkey.url, tmp_path / "tailrace.toml")
        await workers.start()
        ends = await workers.generate(20)
        assert {(done.status, done.upstream.name) for done in ends} == {("completed", "two")}
        await workers.stop()


async def test_limit_holds_over_all_workers_and_the_rest_goes_to_the_next_upstream(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, two, three_ = three
    async with fleet(valkey.url, tmp_path / "tailrace.toml", *three, one=7, two=11) as workers:
        for each in (one, two):
            each.released.clear()
        ends = asyncio.create_task(workers.generate(120))
        await until(lambda: (one.in_use, two.in_use) == (7, 11) and three_.calls > 0, timeout_s=30)
        for each in (one, two):
            each.released.set()
        assert {done.status for done in await ends} == {"completed"}
        assert (one.most_in_use, two.most_in_use) == (7, 11)


async def test_limit_holds_over_all_workers_that_wait_in_line(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, _, _ = three
    async with fleet(valkey.url, tmp_path / "tailrace.toml", one, one=5) as workers:
        one.released.clear()
        ends = asyncio.create_task(workers.generate(100))
        await until(lambda: one.in_use == 5, timeout_s=30)
        one.released.set()
        assert {done.status for done in await ends} == {"completed"}
        assert one.most_in_use == 5
        for worker in workers.workers:
            await worker.pool.admission.keep_alive()
        usage = await workers.workers[0].queue.upstreams.usage()
        assert (usage["one"].calls, usage["one"].in_use) == (100, 0)
        assert await redis.zcard(keys.slots("one")) == 0


async def test_slot_is_held_for_as_long_as_the_call_lasts(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path, three: tuple[NamedUpstream, NamedUpstream, NamedUpstream]
) -> None:
    one, _, _ = three
    one.released.clear()
    async with fleet(valkey.url, tmp_path / "tailrace.toml", one, lease_s=1, one=1) as workers:
        ends = asyncio.create_task(workers.generate(2))
        await until(lambda: one.in_use == 1)
        ((_, lease_end_ms),) = await redis.zrange(keys.slots("one"), 0, -1, withscores=True)
        while await workers.workers[0].log.server.now() < lease_end_ms + 500:  # noqa: ASYNC110 - a clock
            await asyncio.sleep(0.1)
        assert one.in_use == 1
        one.released.set()
        assert {done.status for done in await ends} == {"completed"}
        assert one.most_in_use == 1, "no call takes the slot of another one, however long that is"
