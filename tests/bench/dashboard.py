"""What the dashboard costs where there is much to see: lists and searches of 100,000 generations, one generation of
50,000 entries in a browser, and open dashboards.

    scripts/bench-dashboard [--generations 100000] [--entries 50000] [--runs 20]

Times are from a client's request to the whole answer. Of the page: from the navigation to the last character of the
text, and after a garbage collection the V8 heap (`Performance.getMetrics`: JSHeapUsedSize) of its tab, and what its
renderer has in memory that is its own (`/proc/<pid>/smaps_rollup`: Private), beside that of another view.
"""

import argparse
import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
from playwright.async_api import CDPSession, Page, async_playwright, expect

from support.api import Api
from support.chromium import ARGUMENTS, CHROMIUM
from support.log_writer import LogWriter
from support.stack import Stack, stack
from tailrace import keys
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.server import RedisServer
from tailrace_frontend.dashboard.feed import LINGER_S

AT_ONCE = 1000
VIEWERS = (0, 1, 2, 50, 1, 50)
"""Two of them are one on each frontend."""

VIEWED_S = 30.0
WRITER_LEASE_MS = 600_000
SEARCHES = {
    "a page of the list": "",
    "a search that finds nothing: status": "?q=status:failed",
    "a search that finds nothing: owner": "?q=owner:somebody-else",
    "a search that finds nothing: tag and model": "?q=tag:team=red+model:other",
    "a search whose matches are rare": "?q=owner:caller-17",
}


async def fill(server: RedisServer, like: GenerationState, count: int) -> str:
    """Copies of a generation, one a millisecond, of 1,000 callers; the id of one in the middle."""
    fields = await server.client.hgetall(keys.state(like.record.id))  # type: ignore[misc]
    middle = ""
    for start in range(0, count, AT_ONCE):
        async with server.client.pipeline(transaction=False) as pipeline:
            for index in range(start, min(count, start + AT_ONCE)):
                created, generation_id = like.record.created - index, new_generation_id()
                owner = f"caller-{index % 1000}"
                record = msgspec.structs.replace(
                    like.record, id=generation_id, owner=owner, created=created, tags=[f"team=blue-{index % 7}"]
                )
                own = {b"record": msgspec.json.encode(record), b"created": created}
                pipeline.hset(keys.state(generation_id), mapping=fields | own)
                pipeline.zadd(keys.GENERATIONS, {generation_id: created})
                middle = f"{created}-{generation_id}" if index == count // 2 else middle
            await pipeline.execute()
    return middle


async def measure_lists(api: Api, runs: int, middle: str) -> None:
    queries = SEARCHES | {"a page from the middle": f"?after={middle}"}
    for name, query in queries.items():
        times = []
        looked_at = 0
        for _ in range(runs):
            began = time.perf_counter()
            answer = await api.request("GET", f"/v1/admin/generations{query}")
            times.append(1000 * (time.perf_counter() - began))
            looked_at = answer.value["looked_at"]
        print(f"{name}: p50 {statistics.median(times):.0f} ms, max {max(times):.0f} ms, {looked_at:,} looked at")


async def write_long(api: Api, log: Log, entries: int) -> tuple[str, int]:
    """A finished generation of so many deltas, and the characters of its text."""
    generation_id = await api.create(model="demo")
    writer = await LogWriter.start(log, generation_id)
    size = 0
    for start in range(0, entries, AT_ONCE):
        texts = [f"word{n % 1000} " for n in range(start, min(entries, start + AT_ONCE))]
        await writer.write_text(*texts)
        size += sum(map(len, texts))
    await writer.end()
    return generation_id, size


async def heap_mb(session: CDPSession) -> float:
    await session.send("HeapProfiler.collectGarbage")
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == "JSHeapUsedSize") / 1e6


def private_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) / 1000


async def measure_page(page: Page, renderer: Callable[[], int], url: str, size: int, runs: int) -> None:
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")
    await page.goto(url.rpartition("/generations")[0] + "/health")
    await expect(page.locator("#link")).to_have_text("live")
    empty_heap, empty = await heap_mb(session), private_mb(renderer())
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        await page.goto(url, wait_until="commit")
        shown = f"() => document.querySelector('live-text pre')?.firstChild?.length === {size}"
        await page.wait_for_function(shown)
        await page.locator(".waterfall").wait_for()
        times.append(1000 * (time.perf_counter() - began))
    print(f"one generation in the page: p50 {statistics.median(times):.0f} ms, max {max(times):.0f} ms")
    await asyncio.sleep(2)
    heap, private = await heap_mb(session), private_mb(renderer())
    print(f"its tab: V8 heap {heap:.1f} MB (another view {empty_heap:.1f}), private {private:.0f} MB ({empty:.0f})")


def newest_renderer() -> int:
    """The process of the tab: the newest of Chromium's renderers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            continue
        if b"--type=renderer" in command and b"--extension-process" not in command:
            found.append((started, int(folder.name)))
    return max(found)[1]


async def measure_viewers(product: Stack, server: RedisServer) -> None:
    """Commands of Redis a second, those inside scripts included, with so many open dashboards on two frontends."""
    async with worker_and_frontend(product), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for viewers in VIEWERS:
            urls = [product.frontends[number % 2].url for number in range(viewers)]
            streams = [await http.get(f"{url}/v1/admin/overview/events") for url in urls]
            reading = [asyncio.create_task(stream.read()) for stream in streams]
            await asyncio.sleep(3)
            before, began = await commands(server), time.monotonic()
            await asyncio.sleep(VIEWED_S)
            rate = (await commands(server) - before) / (time.monotonic() - began)
            print(f"{viewers} open dashboards: {rate:.1f} commands of Redis a second")
            await cancel_and_wait(*reading)
            for stream in streams:
                stream.close()
            await asyncio.sleep(LINGER_S + 2)


@contextlib.asynccontextmanager
async def worker_and_frontend(product: Stack) -> AsyncIterator[None]:
    """A worker beside it, and a second frontend, during the block."""
    await product.add_frontend()
    await (await product.add_worker()).wait_for_log("runs up to")
    yield
    await product.workers[0].stop()


async def commands(server: RedisServer) -> int:
    reply: bytes = await server.execute("INFO", "commandstats")
    calls = re.findall(rb"cmdstat_([^:]+):calls=(\d+)", reply)
    return sum(int(count) for name, count in calls if name != b"info")


async def run(generations: int, entries: int, runs: int) -> None:
    async with stack(workers=0, max_log_bytes=str(2**30)) as product, aiohttp.ClientSession() as http:
        api, log = Api(http, product.url), Log(RedisServer.connect(product.redis.url), WRITER_LEASE_MS)
        generation_id, size = await write_long(api, log, entries)
        if CHROMIUM is not None:
            async with async_playwright() as playwright:
                chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = await chromium.new_page(viewport={"width": 1440, "height": 900})
                url = f"{product.url}/dashboard/generations/{generation_id}"
                await measure_page(page, newest_renderer, url, size, max(3, runs // 4))
                await chromium.close()
        await measure_viewers(product, log.server)
        middle = await fill(log.server, await log.state(generation_id), generations)
        await measure_lists(api, runs, middle)
        await log.server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--generations", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    asyncio.run(run(given.generations, given.entries, given.runs))
