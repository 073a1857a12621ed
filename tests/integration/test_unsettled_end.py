"""A worker is killed between `done` and the charge of its caller: another process charges it, once.

The queue's server is down while `done` is written to the log's, so that the worker is in between for certain.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp

from support.api import Api, eventually
from support.stack import stack
from tailrace_cli.embedded import EmbeddedServer

USAGE = {"prompt_tokens": 30, "completion_tokens": 70, "total_tokens": 100}
ANSWER: list[dict[str, Any]] = [
    {"delta": {"content": "Hello"}}, {"hold": "end"}, {"delta": {}, "finish_reason": "stop"}, {"usage": USAGE},
    {"done": True},
]  # fmt: skip
KEYS = "ben:ben-key-22,ops:ops-key-33;scopes=admin"


async def test_caller_is_charged_once_for_an_end_whose_worker_died_before_it_settled(tmp_path: Path) -> None:
    queue_server = EmbeddedServer(tmp_path / "queue")
    queue_server.start()
    settings: dict[str, Any] = {
        "queue_url": queue_server.url, "lease_s": "0.5", "api_keys": KEYS, "ticket_secret": "0123456789abcdef",
        "max_tokens_per_minute_per_caller": "1000000",
    }  # fmt: skip
    try:
        async with stack(workers=1, frontends=1, **settings) as running, aiohttp.ClientSession() as http:
            ben, ops = Api(http, running.url, "ben-key-22"), Api(http, running.url, "ops-key-33")

            async def used() -> tuple[int, int]:
                use = (await ops.request("GET", "/v1/admin/callers/ben")).value["use"]
                return use["month"]["tokens"], use["reserved"]["tokens"]

            async def is_charged(tokens: int) -> bool:
                return await used() == (tokens, 0)

            generation_id = await ben.create_scripted(*ANSWER)
            stream = await ben.stream(generation_id)
            await stream.until_text("Hello")
            await asyncio.to_thread(queue_server.kill)
            release = running.upstream.removesuffix("/v1") + "/release?hold=end"
            assert (await http.post(release)).ok
            await stream.until("done")
            stream.cut()
            await running.workers[0].stop(signal.SIGKILL)
            await asyncio.to_thread(queue_server.start)
            await eventually(lambda: is_charged(100))
            await running.workers[0].start()
            await ben.wait_for_result(await ben.create_scripted(*ANSWER))
            await eventually(lambda: is_charged(200))
    finally:
        queue_server.kill()
