"""Lines that lose replies, black holes, connections and scripts that vanish."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from redis.asyncio import Redis

from system.checker import waits
from system.fleet import Fleet
from system.injectors import Link, forget_scripts, kill_clients, link
from system.load import Run
from tailrace_cli.embedded import free_port


@contextlib.asynccontextmanager
async def behind_links(run: Run, workers: int, frontends: int) -> AsyncIterator[tuple[Fleet, list[Link]]]:
    """A fleet in which every process has its own line to Redis."""
    port = free_port()
    async with contextlib.AsyncExitStack() as lines:
        links = [await lines.enter_async_context(link(port, run.rng)) for _ in range(workers + frontends)]
        fleet = await lines.enter_async_context(run.fleet(workers=0, frontends=0, port=port))
        urls = [f"redis://127.0.0.1:{line.port}/0" for line in links]
        await asyncio.gather(*(fleet.add_frontend(redis_url=url) for url in urls[workers:]))
        for url in urls[:workers]:
            await fleet.works(await fleet.add_worker(redis_url=url))
        await run.settle_in(fleet)
        yield fleet, links
        for line in links:
            line.cut_replies, line.black_hole = 0.0, False


async def nuisance(run: Run) -> None:
    """Connections killed, scripts forgotten, lines that swallow everything for a while."""
    async with behind_links(run, 2, 2) as (fleet, links), fleet.client() as redis:
        load = run.load(fleet)
        async with asyncio.TaskGroup() as both:
            hurting = both.create_task(_hurt(run, fleet, links, redis))
            both.create_task(load.play_until(run.plans(60, 20.0), 0, lambda: not hurting.done(), run.size["at once"]))
        await load.look_again()
        run.runs = len(fleet.faults)
        run.samples = waits(load.readers, fleet.faults)
        run.notes.append(f"{len(load.cases)} generations")


async def _hurt(run: Run, fleet: Fleet, links: list[Link], redis: Redis) -> None:
    hurts: list[Callable[[], Awaitable[None]]] = [
        partial(kill_clients, redis, "normal"),
        partial(kill_clients, redis, "pubsub"),
        partial(forget_scripts, redis),
        partial(_swallow, run, links),
    ]
    async with asyncio.timeout(run.size["seconds"] + 30):
        loop = asyncio.get_running_loop()
        until = loop.time() + run.size["seconds"]
        while loop.time() < until:
            await asyncio.sleep(0.2)
            fleet.fault()
            await run.rng.choices(hurts, weights=[6, 6, 6, 1])[0]()
            run.tell(f"{len(fleet.faults)} nuisances")


async def _swallow(run: Run, links: list[Link]) -> None:
    line = run.rng.choice(links)
    line.black_hole = True
    await asyncio.sleep(run.rng.uniform(0.2, 2.5))
    line.black_hole = False


async def reply_cut(run: Run) -> None:
    """Every fifth reply of Redis is lost with its connection, on every line: whatever was sent is sent again."""
    async with behind_links(run, 2, 2) as (fleet, links), fleet.client() as redis:
        load = run.load(fleet)
        for line in links:
            line.cut_replies = 0.2
        rows = 0

        async def count() -> None:
            nonlocal rows
            while rows < run.size["rows"]:
                await asyncio.sleep(0.5)
                rows = int((await redis.info("commandstats"))["cmdstat_xadd"]["calls"])
                run.tell(f"{rows} rows, {sum(line.cuts for line in links)} replies lost")

        async with asyncio.TaskGroup() as both:
            counting = both.create_task(count())
            both.create_task(
                load.play_until(
                    run.plans(60, 30.0), 0, lambda: not counting.done(), run.size["at once"], patience_s=120
                )
            )
        for line in links:
            line.cut_replies = 0.0
        await load.look_again()
        run.runs = rows
        run.notes.append(f"{sum(line.cuts for line in links)} replies lost, {len(load.cases)} generations")
