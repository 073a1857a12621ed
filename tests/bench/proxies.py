"""What the shipped proxies add to an event, and what an idle stream costs them.

    scripts/bench-proxies [--proxy nginx|haproxy|caddy|none …] [--streams 10000] [--seconds 10] [--what lag|idle …]

Lag: from the append of an event to its client, over TLS (`none`: of a frontend itself, without TLS), `LIVE` logs with a
reader each, `RATE` events a second in all. Writer and readers are one process, which is part of each figure.

Idle: streams of silent logs, over plain HTTP, held for longer than the proxy's timeout, which is shortened as
the beat is. Reached is what was open then: a process may open so many files, and a stream takes two of a proxy.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from bench.procfs import cpu_s, rss_bytes
from support.api import Api
from support.log_writer import LogWriter
from support.proxy_servers import KINDS, Changes, ProxyServer, proxy_server
from support.stack import Stack, stack
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.server import RedisServer

DIRECT = "none"
LIVE, RATE = 100, 1000
KEEPALIVE_S, TIMEOUT_S, HELD_S = 5, 20, 30
AT_ONCE = 50
LOGS = 20
STALLED_S = 10.0
LEASE_MS = 600_000
SHORTENED: dict[str, Changes] = {
    "nginx": {"proxy_read_timeout 75s;": f"proxy_read_timeout {TIMEOUT_S}s;"},
    "haproxy": {
        "timeout server 75s": f"timeout server {TIMEOUT_S}s",
        "timeout client 75s": f"timeout client {TIMEOUT_S}s",
    },
    "caddy": {"\t\t\tread_timeout 75s": f"\t\t\tread_timeout {TIMEOUT_S}s"},
}


class Way(NamedTuple):
    """To the frontends: through a proxy, or to the first one."""

    name: str
    url: str
    plain_port: int
    proxy: ProxyServer | None

    @property
    def trust(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self.proxy.certificate.certificate) if self.proxy else False


@contextlib.asynccontextmanager
async def way(name: str, product: Stack, changes: Changes | None = None) -> AsyncIterator[Way]:
    ports = [frontend.port for frontend in product.frontends]
    if name == DIRECT:
        yield Way(name, product.url, ports[0], None)
        return
    with tempfile.TemporaryDirectory(prefix="tailrace-", ignore_cleanup_errors=True) as folder:
        async with proxy_server(name, Path(folder), ports, changes) as proxy:
            yield Way(name, proxy.url, proxy.port, proxy)


# ── lag ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def measure_lag(product: Stack, name: str, seconds: float) -> None:
    log = Log(RedisServer.connect(product.redis.url), LEASE_MS)
    async with way(name, product) as taken, aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=taken.trust, limit=0)
    ) as http:  # fmt: skip
        api = Api(http, taken.url)
        writers = [await LogWriter.start(log, await api.create()) for _ in range(LIVE)]
        lags: list[float] = []
        streams = [await api.stream(writer.generation_id) for writer in writers]
        readers = [asyncio.create_task(_read(stream.response, lags)) for stream in streams]
        interval_s, due = LIVE / RATE, time.monotonic()
        for _ in range(round(seconds / interval_s)):
            for start in range(0, LIVE, LIVE // 10):
                due += interval_s / 10
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                at = time.monotonic()
                await asyncio.gather(*(each.write_text(f"@{at:.6f}@") for each in writers[start : start + LIVE // 10]))
        await asyncio.sleep(1)
        await cancel_and_wait(*readers)
    await log.server.close()
    lags.sort()
    p50, p99 = (1000 * lags[int(len(lags) * share)] for share in (0.5, 0.99))
    print(
        f"{name:8} lag: {len(lags):,} events, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {1000 * lags[-1]:.1f} ms",
        flush=True,
    )


async def _read(response: aiohttp.ClientResponse, lags: list[float]) -> None:
    rest = b""
    async for data in response.content.iter_any():
        now = time.monotonic()
        *parts, rest = (rest + data).split(b"@")
        if len(parts) % 2:
            parts, rest = parts[:-1], parts[-1] + b"@" + rest
        lags += [now - float(stamp) for stamp in parts[1::2]]


# ── idle streams ─────────────────────────────────────────────────────────────────────────────────────────────────────


class IdleStream(asyncio.Protocol):
    """One client: whether it is open, and how many keep-alives it has received. `answered` is set with the first byte,
    or the end of the connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self.answered = asyncio.get_running_loop().create_future()
        self.is_open = False
        self.beats = 0

    def itself(self) -> "IdleStream":
        """For `create_connection`."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.is_open = data.startswith(b"HTTP/1.1 200")
            self.answered.set_result(None)
        self.beats += data.count(b"\n:")

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if not self.answered.done():
            self.answered.set_result(None)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()


async def measure_idle(product: Stack, name: str, count: int) -> None:
    async with way(name, product, SHORTENED.get(name)) as taken:
        async with aiohttp.ClientSession() as http:
            ids = [await Api(http, product.url).create() for _ in range(LOGS)]
        before = rss_kb(taken.proxy)
        began = time.monotonic()
        streams = await _open(taken.plain_port, ids, count)
        opened_s = time.monotonic() - began
        opened = sum(each.is_open for each in streams)
        pid = taken.proxy.pids[0] if taken.proxy else os.getpid()
        cpu = cpu_s(pid)
        await asyncio.sleep(HELD_S)
        cpu, held, after = cpu_s(pid) - cpu, sum(each.is_open for each in streams), rss_kb(taken.proxy)
        for each in streams:
            each.close()
        if taken.proxy:
            await asyncio.sleep(1)
    beats = sum(each.beats for each in streams)
    print(
        f"{name:8} idle: {opened:,} of {count:,} open after {opened_s:.1f} s, {held:,} after {HELD_S} s more (timeout "
        f"{TIMEOUT_S} s, beat {KEEPALIVE_S} s, {beats:,} beats); {(after - before) / max(held, 1):.1f} KB a stream, "
        f"{100 * cpu / HELD_S:.1f} % of a core",
        flush=True,
    )


async def _open(port: int, ids: Sequence[str], count: int) -> list[IdleStream]:
    """Streams of these logs, a few at a time, until all are open or no further one opens."""
    streams: list[IdleStream] = []
    loop, most = asyncio.get_running_loop(), -1
    while len(streams) < count and (now_open := sum(each.is_open for each in streams)) > most:
        most = now_open
        paths = (f"/v1/generations/{ids[number % len(ids)]}/events" for number in range(AT_ONCE))
        made = [IdleStream(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) for path in paths]
        streams += made
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(STALLED_S):
                await asyncio.gather(*(loop.create_connection(each.itself, "127.0.0.1", port) for each in made))
                await asyncio.wait([each.answered for each in made])
    return streams


def rss_kb(proxy: ProxyServer | None) -> float:
    """Of all processes of a proxy."""
    return sum(rss_bytes(pid) for pid in proxy.pids) / 1000 if proxy else 0.0


async def measure(names: Sequence[str], what: Sequence[str], streams: int, seconds: float) -> None:
    settings = {"keepalive_s": str(KEEPALIVE_S), "max_readers_per_caller": str(streams)}
    async with stack(workers=0, frontends=2, app=None, **settings) as product:
        for name in names:
            if name != DIRECT and shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None:
                print(f"{name:8} is not installed")
                continue
            if "lag" in what:
                await measure_lag(product, name, seconds)
            if "idle" in what and name != DIRECT:
                await measure_idle(product, name, streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", action="append", choices=[DIRECT, *KINDS])
    parser.add_argument("--what", action="append", choices=["lag", "idle"])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"a process may open {most:,} files")
    names, what = given.proxy or [DIRECT, *KINDS], given.what or ["lag", "idle"]
    asyncio.run(measure(names, what, given.streams, given.seconds))


if __name__ == "__main__":
    main()
