"""Redis and two frontends for the tests of the HTTP API. There is no worker: tests write the logs that they need."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from support.api import Api, eventually
from support.log_writer import LogWriter
from support.metrics import sums
from support.stack import Frontend, Stack, stack
from tailrace import keys
from tailrace.log import Log
from tailrace.redis.server import RedisServer

LEASE_S = 0.5
WRITER_LEASE_MS = 600_000  # longer than any test: the logs that tests write have no lease that runs out
ORIGIN = "https://app.example.org"
UNSTORED = re.compile(
    rb"^arq:|^tailrace:\{(?:stats|audit)\}|:(?:swept|suspected|readers|use|settled|outputs)(?::|$)|gen_"
)
"""Keys that frontends write at any time: of sweeps, reports, statistics, the audit, and of what an end was charged."""

UNKNOWN_ID = "gen_" + "a" * 26
CALLERS = {"api_keys": "anna:anna-key-1,ben:ben-key-22", "ticket_secret": "0123456789abcdef"}


class Product:
    """Redis, a frontend in open mode, and one that requires keys. `anna` and `ben` have one, `stranger` has none."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, guarded: Frontend) -> None:
        self.stack = running
        self.http = http
        self.api = Api(http, running.url)
        self.anna = Api(http, guarded.url, "anna-key-1")
        self.ben = Api(http, guarded.url, "ben-key-22")
        self.stranger = Api(http, guarded.url)
        self.log = Log(RedisServer.connect(running.redis.url), WRITER_LEASE_MS)

    async def writer(self, generation_id: str) -> LogWriter:
        """Start to write the generation, as its worker would."""
        return await LogWriter.start(self.log, generation_id)

    async def completed(self, *texts: str, api: Api | None = None, **fields: Any) -> str:
        """The id of a generation that has ended with these texts."""
        generation_id = await (api or self.api).create(**fields)
        writer = await self.writer(generation_id)
        for text in texts:
            await writer.write_text(text)
        await writer.end()
        return generation_id

    @asynccontextmanager
    async def frontend(self, **settings: str) -> AsyncIterator[Frontend]:
        """One more frontend on the same Redis, with settings of its own."""
        frontend = await self.stack.add_frontend(**settings)
        try:
            yield frontend
        finally:
            await frontend.stop()

    async def is_enqueued(self, job_id: str) -> bool:
        return await self.log.server.client.zscore(keys.QUEUE, job_id) is not None

    async def stored(self) -> set[bytes]:
        """Every generation that a key or a waiting job names, and every other key but those of sweepers and arq."""
        redis = self.log.server.client
        known = {key async for key in redis.scan_iter(count=1000)}
        jobs = sorted(key for key in known if key.startswith(b"arq:job:"))
        waiting = filter(None, await redis.mget(jobs)) if jobs else ()
        others = {key for key in known if not UNSTORED.search(key)}
        return others | set(re.findall(b"gen_[a-z2-7]{26}", b" ".join([*known, *waiting])))

    @asynccontextmanager
    async def nothing_stored(self) -> AsyncIterator[None]:
        """Assert that the block stores nothing. Keys may disappear: frontends sweep and end expired generations."""
        before = await self.stored()
        yield
        after = await self.stored()
        assert after <= before, after - before


@asynccontextmanager
async def running_product(**settings: str) -> AsyncIterator[Product]:
    """A product that ends with the block. No frontend may have logged a traceback or a secret by then."""
    given: dict[str, Any] = {
        "max_requests_per_minute_per_caller": "60000",
        "lease_s": str(LEASE_S),
        "cors_origins": ORIGIN,
        **settings,
    }
    async with stack(workers=0, frontends=1, **given) as running, aiohttp.ClientSession() as http:
        product = Product(running, http, await running.add_frontend(**CALLERS))
        try:
            yield product
        finally:
            await product.log.server.close()
        for frontend in running.frontends:
            assert "Traceback" not in frontend.output
            for secret in ("anna-key-1", "ben-key-22", "0123456789abcdef", "sk-upstream-secret", "ticket="):
                assert secret not in frontend.output


async def wait_for_final_404(product: Product) -> None:
    """Wait until the server is older than a lease and a second: until then a missing log may still be restored.

    A second more: a server reports its age in whole seconds, and a process may have asked at another moment.
    """

    async def is_old_enough() -> bool:
        return (await product.log.server.run()).age_s >= LEASE_S + 2

    await eventually(is_old_enough)


async def metrics(api: Api) -> dict[str, float]:
    """The value of each metric, added up over its labels."""
    return sums((await api.request("GET", "/metrics")).body.decode())


async def has_metric(api: Api, name: str, value: float) -> bool:
    return (await metrics(api))[name] == value


def percent_encoded(text: str) -> str:
    """Every byte escaped."""
    return "".join(f"%{byte:02x}" for byte in text.encode())
