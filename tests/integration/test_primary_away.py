"""A primary of the logs' cluster and its replica are gone for a while: the others go on, and take what is new."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.api import eventually
from support.cluster import running_cluster
from support.stack import Stack, stack
from tailrace_cli.embedded import EmbeddedServer

REQUEST = {"model": "demo", "messages": [{"role": "user", "content": "?"}]}


async def created(http: aiohttp.ClientSession, url: str) -> str | None:
    """The id of a new generation; None where it was refused for now."""
    async with http.post(f"{url}/v1/generations", json=REQUEST) as answer:
        value: Any = await answer.json()
    assert answer.status in (202, 503), value
    return str(value["id"]) if answer.status == 202 else None


async def ready(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(f"{url}/readyz") as answer:
        return answer.status, await answer.json()


async def completed(http: aiohttp.ClientSession, url: str, generation_id: str) -> bool:
    async with http.get(f"{url}/v1/generations/{generation_id}") as answer:
        value = await answer.json()
        return answer.status == 200 and value["status"] == "completed"


async def all_ready(http: aiohttp.ClientSession, product: Stack) -> bool:
    urls = [frontend.url for frontend in product.frontends]
    urls += [f"http://127.0.0.1:{worker.operations_port}" for worker in product.workers]
    try:
        return {status for status, _ in await asyncio.gather(*(ready(http, url) for url in urls))} == {200}
    except aiohttp.ClientConnectionError:  # a worker opens its port once it is ready
        return False


@pytest.mark.long
async def test_other_primaries_serve_while_one_is_gone(tmp_path: Path, valkey: EmbeddedServer) -> None:
    async with running_cluster(tmp_path) as cluster:
        for node in cluster.running:
            await node.execute("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with (
            stack(workers=1, frontends=2, redis_url=cluster.url, queue_url=valkey.url, lease_s="1.5") as product,
            aiohttp.ClientSession() as http,
        ):
            await eventually(partial(all_ready, http, product))
            primary = (await cluster.primaries())[0]
            replica = await cluster.replica_of(primary)
            replica.kill()
            primary.kill()

            async def is_noticed() -> bool:
                """A frontend learns of it by the first request that falls there."""
                found = await asyncio.gather(*(created(http, frontend.url) for frontend in product.frontends * 20))
                return None not in found

            await eventually(is_noticed, 20)
            ids = [await created(http, frontend.url) for frontend in product.frontends * 30]
            assert None not in ids, "a request was refused, although two primaries serve"
            assert await all_ready(http, product)

            async def is_warned() -> bool:
                """A check of the servers is kept for 30 s."""
                _, body = await ready(http, product.url)
                return any(f":{primary.port} does not respond" in each for each in body["warnings"])

            await eventually(is_warned, 45)
            await product.add_worker()
            await eventually(partial(all_ready, http, product), 20)  # a process can also start meanwhile

            async def have_ended() -> bool:
                return all([await completed(http, product.url, each) for each in ids if each])

            await eventually(have_ended, 20)
            primary.start()
            replica.start()
            await cluster.wait_until_agreed()

            async def is_whole() -> bool:
                return bool((await ready(http, product.url))[1].get("warnings") == [])

            await eventually(is_whole, 45)
            assert await all_ready(http, product)
