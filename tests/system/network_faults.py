"""Links that lose replies or forward nothing, connections and scripts that vanish."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from system.chaos_stack import ChaosStack
from system.checker import waits
from system.injectors import flush_scripts, kill_clients
from system.load import Run
from system.process_links import UNNAMED, ProcessLinks, process_links


@contextlib.asynccontextmanager
async def behind_links(run: Run, workers: int, frontends: int) -> AsyncIterator[tuple[ChaosStack, list[ProcessLinks]]]:
    """A stack in which every process has its own links to Redis. Those of the frontends come last."""
    async with (
        contextlib.AsyncExitStack() as opened,  # first: the links outlive the audit of the stack
        run.stack(workers=0, frontends=0, config=UNNAMED) as stack,
    ):
        links = [
            await opened.enter_async_context(process_links(run, stack, number)) for number in range(workers + frontends)
        ]
        await asyncio.gather(*(stack.add_frontend(**each.settings) for each in links[workers:]))
        for each in links[:workers]:
            await stack.wait_until_working(await stack.add_worker(**each.settings))
        await run.take_baseline(stack)
        try:
            yield stack, links
        finally:
            for each in links:
                each.switch(cut_replies=0.0, black_hole=False)


async def disturbances(run: Run) -> None:
    """Connections are closed, scripts flushed, and links forward nothing for a while."""
    async with behind_links(run, 2, 2) as (stack, links):
        load = run.load(stack)
        async with asyncio.TaskGroup() as both:
            disturbing = both.create_task(_disturb(run, stack, links))
            both.create_task(
                load.play_until(run.plans(60, 20.0), 0, lambda: not disturbing.done(), run.size["at once"])
            )
        await load.reread()
        run.runs = len(stack.faults)
        run.samples = waits(load.readers, stack.faults)
        run.notes.append(f"{len(load.cases)} generations")


async def _disturb(run: Run, stack: ChaosStack, links: list[ProcessLinks]) -> None:
    faults: list[Callable[[], Awaitable[None]]] = [
        partial(stack.on_each_primary, partial(kill_clients, kind="normal")),
        partial(stack.on_each_primary, partial(kill_clients, kind="pubsub")),
        partial(stack.on_each_primary, flush_scripts),
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


async def _black_hole(run: Run, links: list[ProcessLinks]) -> None:
    one = run.rng.choice(links)
    one.switch(black_hole=True)
    await asyncio.sleep(run.rng.uniform(0.2, 2.5))
    one.switch(black_hole=False)


async def reply_cut(run: Run) -> None:
    """Every fifth reply of Redis is lost with its connection, on every link: every command is sent again."""
    async with behind_links(run, 2, 2) as (stack, links):
        load = run.load(stack)
        for each in links:
            each.switch(cut_replies=0.2)
        rows = 0

        async def count() -> None:
            nonlocal rows
            while rows < run.size["rows"]:
                await asyncio.sleep(0.5)
                rows = await _rows(stack)
                run.report(f"{rows} rows, {sum(each.cuts for each in links)} replies lost")

        async with asyncio.TaskGroup() as both:
            counting = both.create_task(count())
            both.create_task(
                load.play_until(run.plans(60, 30.0), 0, lambda: not counting.done(), run.size["at once"], timeout_s=120)
            )
        for each in links:
            each.switch(cut_replies=0.0)
        await load.reread()
        run.runs = rows
        run.notes.append(f"{sum(each.cuts for each in links)} replies lost, {len(load.cases)} generations")


async def _rows(stack: ChaosStack) -> int:
    """The rows that were appended to logs, counted by the servers."""
    total = 0
    for server in await stack.log_primaries():
        async with stack.client(server) as redis:
            total += int((await redis.info("commandstats")).get("cmdstat_xadd", {"calls": 0})["calls"])
    return total
