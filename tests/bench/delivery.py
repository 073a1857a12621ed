"""Live delivery: logs that grow at a steady rate, and their readers; one trial of one side.

Measured: CPU of the frontend, of Redis and of the appends, over a window in which all clients are connected; and
latency from the moment an event's text is made, before it is appended, until a client has read it. Not measured: HTTP
handshakes, the cost of upstreams, networks.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from bench import procfs
from bench.children import Load, load, running, uvicorn
from bench.harness import Served, Usage, get, product, usage
from bench.lag_metric import lag, p99_ms
from bench.quantiles import Latency
from support.stack import Stack
from tailrace_cli.embedded import free_port

SETTLE_S = 1.0


class Shape(NamedTuple):
    """`logs` logs, `rate` events a second each, read by `readers` clients each."""

    logs: int
    rate: float
    readers: int = 1


class Delivery(NamedTuple):
    """One trial. `delivered`: events that clients read in the window; `share`: the same as a share of the events
    appended in it (less than 1: the frontend does not keep up); `batch_size`: events appended in one round trip;
    `cut`: clients that lost their connection; `behind_s`: the greatest delay of an append; `rss_a_reader`: bytes;
    `lag_p99_ms`: what the frontend's own metric has for the window, where it has one."""

    usage: Usage
    delivered: int
    share: float
    latency: Latency
    batch_size: float
    cut: int
    behind_s: float
    rss_a_reader: float = 0.0
    lag_p99_ms: float = math.nan

    def web_us(self) -> float:
        return self.usage.us_an_event(self.delivered, "web")

    def all_us(self) -> float:
        """Web, Redis and the appends."""
        return self.usage.us_an_event(self.delivered, "web", "redis", "append")


class Side(NamedTuple):
    """A side of a comparison: its frontend on a stack, its appends, the path of a log, and the prefix of the log's name
    there (OpenAI's routes know a generation by another one)."""

    web: Callable[[Stack], AbstractAsyncContextManager[Served]]
    append: Callable[[Stack, Served], AbstractAsyncContextManager[Load]]
    path: str
    prefix: str = "gen_"

    def path_of(self, name: str) -> str:
        return self.path.format(name.replace("gen_", self.prefix))


@asynccontextmanager
async def tailrace_web(stack: Stack) -> AsyncIterator[Served]:
    frontend = await stack.add_frontend()
    yield Served(frontend.pid, frontend.port)


@asynccontextmanager
async def naive_web(stack: Stack) -> AsyncIterator[Served]:
    port = free_port()
    command, log = uvicorn("bench.naive.web:app", port), stack.root / "naive.log"
    async with running(command, log, REDIS_URL=stack.redis.url) as web:
        await web.wait_for_port(port)
        yield Served(web.pid, port)


def appends_to(sink: str) -> Callable[[Stack, Served], AbstractAsyncContextManager[Load]]:
    """Appends of a process of its own into the stack's Redis."""
    return lambda stack, _: load("bench.appending", sink, stack.redis.url)


TAILRACE = Side(tailrace_web, appends_to("worker"), "/v1/generations/{}/events")
CHAT = TAILRACE._replace(path="/v1/chat/completions/{}?stream=true", prefix="chatcmpl-")
RESPONSES = TAILRACE._replace(path="/v1/responses/{}?stream=true", prefix="resp_")
NAIVE = Side(naive_web, appends_to("naive"), "/streams/{}")


async def deliver(
    side: Side, shape: Shape, seconds: float, after_s: float = 0.0, *,
    key: str = "", owner: str = "open", **settings: str,
) -> Delivery:  # fmt: skip
    """One trial on a stack of its own. The window begins `after_s` seconds after the first reader. `key`: the API key
    of the readers, where the product has callers."""
    headers = [f"Authorization: Bearer {key}"] if key else []
    async with (
        product(**settings) as stack, side.web(stack) as web,
        side.append(stack, web) as append, load("bench.reading") as readers,
    ):  # fmt: skip
        names = await append.do("create", logs=shape.logs, owner=owner)
        before = procfs.rss_bytes(web.pid)
        requests = [get(side.path_of(name), headers) for name in names for _ in range(shape.readers)]
        began = time.monotonic()
        await readers.do("follow", port=web.port, requests=requests)
        await append.do("start", rate=shape.rate)
        await asyncio.sleep(max(SETTLE_S, began + after_s - time.monotonic()))
        pids = {"web": web.pid, "redis": stack.redis.pid, "append": append.pid, "readers": readers.pid}
        is_ours = side.web is tailrace_web
        counted = await lag(web.port) if is_ours else []
        trial = await window(seconds, pids, append, readers, shape.readers)
        if is_ours:
            trial = trial._replace(lag_p99_ms=p99_ms(counted, await lag(web.port)))
        return trial._replace(rss_a_reader=(procfs.rss_bytes(web.pid) - before) / len(requests))


async def window(
    seconds: float, pids: Mapping[str, int], append: Load, readers: Load, readers_a_log: int = 1
) -> Delivery:
    """Measure the running appends and readers for so long."""
    await append.do("begin")
    await readers.do("begin")
    used = await usage(seconds, pids)
    received, added = await asyncio.gather(readers.do("report"), append.do("report"))
    latency = Latency(**received["latency"])
    share = latency.samples / max(1, added["appended"] * readers_a_log)
    batch_size = added["appended"] / max(1, added["round_trips"])
    return Delivery(used, latency.samples, share, latency, batch_size, received["cut"], added["behind_s"])
