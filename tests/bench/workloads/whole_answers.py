"""200 calls that do not stream, whose answers are all complete at the same moment: the memory of the frontend.

Measured is the growth of resident memory, at its peak, since before the calls were sent and after a few others were
answered; to the bytes of all answers. The clients read as fast as they can, or, beside it, nothing but the head until
every answer has begun, through a small socket buffer: then the frontend has to hold all of them. There is no worker:
the bench writes the logs.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from bench import procfs
from bench.harness import product
from bench.measures import Finding
from support.log_writer import LogWriter
from system.wire_client import open_exchange
from tailrace import keys
from tailrace.log import Log
from tailrace.redis.server import RedisServer

CALLS, WARM_UP = 200, 20
PIECES, PIECE = 30, "x" * 10_000
LEASE_MS = 600_000
SMALL_BUFFER = 16_384
HEADERS = {"Content-Type": "application/json"}
OWNER = "open"
SETTLE_S = 0.5


class Route(NamedTuple):
    path: str
    body: bytes


CHAT = Route("/v1/chat/completions", b'{"model": "bench", "messages": [{"role": "user", "content": "Go."}]}')
RESPONSES = Route("/v1/responses", b'{"model": "bench", "input": "Go."}')


class Growth(NamedTuple):
    """Bytes by which the frontend has grown while the calls waited, and at the peak; and bytes of all answers."""

    waiting: int
    peak: int
    answers: int

    @property
    def share(self) -> float:
        return self.peak / self.answers

    def figures(self, name: str) -> dict[str, float]:
        megabyte = 1e6
        return {
            f"{name}: KB a waiting call": self.waiting / CALLS / 1000,
            f"{name}: MB at the peak": self.peak / megabyte,
            f"{name}: MB of answers": self.answers / megabyte,
        }


async def whole_answers(seconds: float) -> Sequence[Finding]:
    chat, responses = await growth(CHAT), await growth(RESPONSES)
    stalled = await growth(CHAT, buffer=SMALL_BUFFER)
    return [
        Finding("whole-answers/chat", chat.share, chat.figures("chat")),
        Finding("whole-answers/responses", responses.share, responses.figures("Responses")),
        Finding("whole-answers/stalled", stalled.share, stalled.figures("stalled")),
    ]


async def growth(route: Route, buffer: int | None = None) -> Growth:
    async with product() as stack:
        frontend = await stack.add_frontend()
        log, redis = Log(RedisServer.connect(stack.redis.url), LEASE_MS), Redis.from_url(stack.redis.url)
        calls = Calls(frontend.port, route, log, redis)
        await calls.answer(WARM_UP, None)
        before = procfs.rss_bytes(frontend.pid)
        procfs.reset_peak(frontend.pid)
        sizes = await calls.answer(CALLS, buffer, frontend.pid)
        peak = procfs.peak_bytes(frontend.pid)
        await log.server.close()
        await redis.aclose()
    return Growth(calls.rss_waiting - before, peak - before, sum(sizes))


class Calls:
    """Calls on one route, and the logs that answer them."""

    def __init__(self, port: int, route: Route, log: Log, redis: Redis) -> None:
        self.rss_waiting = 0
        self._port = port
        self._route = route
        self._log = log
        self._redis = redis
        self._known: set[bytes] = set()
        self._begun = 0

    async def answer(self, count: int, buffer: int | None, pid: int | None = None) -> list[int]:
        """Send so many calls and answer them at once; the bytes of each answer. `buffer`: of clients that wait with
        reading until all answers have begun. `pid`: of the process whose memory is read while all calls wait."""
        self._begun = 0
        all_begun = asyncio.Event()
        calls = [asyncio.create_task(self._call(count, buffer, all_begun)) for _ in range(count)]
        created = await self._created(count)
        if pid is not None:
            await asyncio.sleep(SETTLE_S)
            self.rss_waiting = procfs.rss_bytes(pid)
        writers = [await LogWriter.start(self._log, each.decode()) for each in created]
        for writer in writers:
            await writer.write_text(*[PIECE] * PIECES)
        await asyncio.gather(*(writer.end() for writer in writers))
        return await asyncio.gather(*calls)

    async def _created(self, count: int) -> set[bytes]:
        """The generations of the calls, once there are so many."""
        async with asyncio.timeout(30):
            while len(new := await self._all() - self._known) < count:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        self._known |= new
        return new

    async def _all(self) -> set[bytes]:
        return set(await self._redis.zrange(keys.owned(OWNER), 0, -1))

    async def _call(self, count: int, buffer: int | None, all_begun: asyncio.Event) -> int:
        exchange = await open_exchange(self._port, "POST", self._route.path, HEADERS, self._route.body, buffer)
        try:
            self._begun += 1
            if self._begun == count:
                all_begun.set()
            if buffer is not None:
                await all_begun.wait()
                await asyncio.sleep(SETTLE_S)
            size = sum([len(piece) async for piece in exchange.chunks()])
        finally:
            exchange.close()
        if exchange.status != 200 or size < PIECES * len(PIECE):
            raise AssertionError(f"{self._route.path}: {exchange.status}, {size} bytes")
        return size
