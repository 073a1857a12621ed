"""Links that lose replies or forward nothing, connections and scripts that vanish."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from redis.asyncio import Redis

from system.chaos_stack import ChaosStack
from system.checker import waits
from system.injectors import Link, flush_scripts, kill_clients, link
from system.load import Run
from tailrace_cli.embedded import free_port


@contextlib.asynccontextmanager
async def behind_links(run: Run, workers: int, frontends: int) -> AsyncIterator[tuple[ChaosStack, list[Link]]]:
    """A stack in which every process has its own link to Redis."""
    port = free_port()
    async with contextlib.AsyncExitStack() as opened:
        links = [await opened.enter_async_context(link(port, run.rng)) for _ in range(workers + frontends)]
        stack = await opened.enter_async_context(run.stack(workers=0, frontends=0, port=port))
        urls = [f"redis://127.0.0.1:{each.port}/0" for each in links]
        await asyncio.gather(*(stack.add_frontend(redis_url=url) for url in urls[workers:]))
        for url in urls[:workers]:
            await stack.wait_until_working(await stack.add_worker(redis_url=url))
        await run.take_baseline(stack)
        yield stack, links
        for each in links:
            each.cut_replies, each.black_hole = 0.0, False


async def disturbances(run: Run) -> None:
    """Connections are closed, scripts flushed, and links forward nothing for a while."""
    async with behind_links(run, 2, 2) as (stack, links), stack.client() as redis:
        load = run.load(stack)
        async with asyncio.TaskGroup() as both:
            disturbing = both.create_task(_disturb(run, stack, links, redis))
            both.create_task(
                load.play_until(run.plans(60, 20.0), 0, lambda: not disturbing.done(), run.size["at once"])
            )
        await load.reread()
        run.runs = len(stack.faults)
        run.samples = waits(load.readers, stack.faults)
        run.notes.append(f"{len(load.cases)} generations")


async def _disturb(run: Run, stack: ChaosStack, links: list[Link], redis: Redis) -> None:
    faults: list[Callable[[], Awaitable[None]]] = [
        partial(kill_clients, redis, "normal"),
        partial(kill_clients, redis, "pubsub"),
        partial(flush_scripts, redis),
        partial(_black_hole, run, links),
    ]
    async with asyncio.timeout(run.size["seconds"] + 30):
        loop = asyncio.get_running_loop()
        until = loop.time() + run.size["seconds"]
        while loop.time() < until:
            await asyncio.sleep(0.2)
            stack.fault()
            await run.rng.choices(faults, weights=[6, 6, 6, 1])[0]()
            run.report(f"{len(stack.faults)} disturbances")


async def _black_hole(run: Run, links: list[Link]) -> None:
    one = run.rng.choice(links)
    one.black_hole = True
    await asyncio.sleep(run.rng.uniform(0.2, 2.5))
    one.black_hole = False


async def reply_cut(run: Run) -> None:
    """Every fifth reply of Redis is lost with its connection, on every link: every command is sent again."""
    async with behind_links(run, 2, 2) as (stack, links), stack.client() as redis:
        load = run.load(stack)
        for each in links:
            each.cut_replies = 0.2
        rows = 0

        async def count() -> None:
            nonlocal rows
            while rows < run.size["rows"]:
                await asyncio.sleep(0.5)
                rows = int((await redis.info("commandstats"))["cmdstat_xadd"]["calls"])
                run.report(f"{rows} rows, {sum(each.cuts for each in links)} replies lost")

        async with asyncio.TaskGroup() as both:
            counting = both.create_task(count())
            both.create_task(
                load.play_until(run.plans(60, 30.0), 0, lambda: not counting.done(), run.size["at once"], timeout_s=120)
            )
        for each in links:
            each.cut_replies = 0.0
        await load.reread()
        run.runs = rows
        run.notes.append(f"{sum(each.cuts for each in links)} replies lost, {len(load.cases)} generations")
