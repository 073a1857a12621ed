"""Answers of a real model that are cut and continued, JSON while it is written, and cancels, on llama.cpp's server.

`scripts/try-continue` runs it. Every answer has the temperature 0.

    continue      the answer is asked for twice: once uncut, once with its worker killed (SIGKILL) or the upstream's
                  connection broken, up to `CUTS` times in the middle. A reader is connected all the time. Both texts
                  must be equal, without a `restarted`. Half of the pairs are asked for with `cache_prompt: false`: the
                  server then computes the text so far anew. It does so a token at a time (`--ubatch-size 1`), as it
                  had written it: computed at once, the same text has other last bits, and where two tokens are almost
                  as likely, the answer goes on with the other one. (The context bounds the answers, cut or not)
    JSON          every line of `view=json` must continue the one before, and the whole must fit the schema
    cancel        from the request to cancel to the line of the server's own log that reports that it has stopped
"""

import argparse
import asyncio
import json
import random
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp

from support.api import eventually
from support.proxy import Proxy
from support.stack import Stack, stack
from system.real_model import QUESTIONS, request
from tailrace_cli.embedded import free_port

MODEL = "smollm2-135m-instruct"
CUTS = 2
CONTEXT = 256
LOST = 600.0
"""Seconds after which an answer counts as lost."""

STOPPED = re.compile(rb"cancel task|stop processing")
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "country": {"type": "string", "maxLength": 40},
        "sights": {"type": "array", "items": {"type": "string", "maxLength": 60}, "minItems": 3, "maxItems": 5},
        "population": {"type": "integer", "minimum": 1000, "maximum": 99999999},
    },
    "required": ["city", "country", "sights", "population"],
    "additionalProperties": False,
}
PLACES = ("Paris", "Rome", "Tokyo", "Cairo", "Lima")


class Server:
    """llama.cpp's server, and when it wrote which line."""

    def __init__(self, process: Process, port: int) -> None:
        self.port = port
        self.lines: list[tuple[float, bytes]] = []
        self._process = process
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append((time.time(), line))

    def stopped_after(self, since: float) -> float | None:
        """When the server first wrote that a task has stopped, after a time."""
        return next((at for at, line in self.lines if at >= since and STOPPED.search(line)), None)

    async def close(self) -> None:
        self._process.terminate()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def llama_server(binary: str, weights: str, threads: int) -> AsyncIterator[Server]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        binary, "--model", weights, "--alias", MODEL, "--host", "127.0.0.1", "--port", str(port),
        "--ctx-size", str(CONTEXT), "--parallel", "1", "--ubatch-size", "1", "--threads", str(threads),
        stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    server = Server(process, port)
    try:
        async with aiohttp.ClientSession() as http:

            async def is_ready() -> bool:
                try:
                    async with http.get(f"http://127.0.0.1:{port}/health") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_ready)
        yield server
    finally:
        await server.close()


class Trial:
    """The product, in front of it one client, behind it a proxy and the model."""

    def __init__(self, product: Stack, http: aiohttp.ClientSession, proxy: Proxy) -> None:
        self.product = product
        self.http = http
        self.url = f"{product.url}/v1/generations"
        self._proxy = proxy
        self._worker = product.workers[0]

    async def create(self, body: dict[str, Any]) -> str:
        async with self.http.post(self.url, json=body) as answer:
            assert answer.status == 202, await answer.text()
            return str((await answer.json())["id"])

    async def lines(self, generation_id: str, query: str = "") -> AsyncIterator[dict[str, Any]]:
        """The lines of the log, or of its value."""
        headers = {"Accept": "application/x-ndjson"}
        async with self.http.get(f"{self.url}/{generation_id}/events{query}", headers=headers) as answer:
            async for line in answer.content:
                if line.strip():
                    yield json.loads(line)

    async def kill_worker(self) -> None:
        await self._worker.stop(signal.SIGKILL)
        self._worker = await self.product.add_worker()

    async def cut_upstream(self) -> None:
        self._proxy.set_mode("cut")
        await asyncio.sleep(0)
        self._proxy.set_mode("pass")


async def read(trial: Trial, body: dict[str, Any], cuts: list[tuple[int, Any]]) -> tuple[str, dict[str, Any], int]:
    """The text as one reader has it, the data of `done`, and the number of restarts. `cuts`: what is done after so many
    texts."""
    text, restarts, left = [], 0, list(cuts)
    async for line in trial.lines(await trial.create(body)):
        restarts += line["event"] == "restarted"
        if line["event"] == "text":
            text.append(line["data"]["text"])
            if left and len(text) >= left[0][0]:
                await left.pop(0)[1]()
        if line["event"] == "done":
            return "".join(text), line["data"], restarts
    raise AssertionError("no end")


async def continue_answers(trial: Trial, count: int) -> int:
    """Print a line for each pair; the number of pairs with a difference."""
    bad = 0
    for number in range(count):
        question = QUESTIONS[number % len(QUESTIONS)]
        if number >= len(QUESTIONS):
            question = f"{question} Answer in other words."
        options = {"tailrace": {"on_interrupt": "continue"}, "cache_prompt": number % 2 == 0}
        body = request(MODEL, question, temperature=0, **options)
        uncut, end, _ = await read(trial, body, [])
        how = trial.kill_worker if number % 4 < 2 else trial.cut_upstream
        first = random.randint(2, 25)
        cuts = [(first, how), (first + random.randint(8, 40), how)][:CUTS]
        began = time.monotonic()
        text, done, restarts = await read(trial, body, cuts)
        is_equal = text == uncut and not restarts and done["status"] == end["status"]
        is_cut = done.get("continued", 0) > 0
        bad += not (is_equal and is_cut)
        print(
            f"{number + 1:3}/{count}  {how.__name__:12}  cache {options['cache_prompt']!s:5}  "
            f"{len(uncut):4} characters  continued {done.get('continued', 0)}  restarts {restarts}  "
            f"{time.monotonic() - began:4.1f} s  {'equal' if is_equal else difference(uncut, text)}"
            f"{'' if is_cut else '  NOT CUT'}",
            flush=True,
        )
    return bad


def difference(uncut: str, text: str) -> str:
    pairs = enumerate(zip(uncut, text, strict=False))
    at = next((number for number, (one, other) in pairs if one != other), min(len(uncut), len(text)))
    return f"DIFFERS at {at}: {uncut[at : at + 24]!r}, {text[at : at + 24]!r}"


def continues(before: Any, after: Any) -> bool:
    """Whether a value that is written may become the other."""
    match before, after:
        case (None, _):
            return True
        case (str(), str()):
            return after.startswith(before)
        case (list(), list()):
            return len(before) <= len(after) and all(map(continues, before, after))
        case (dict(), dict()):
            return all(name in after and continues(before[name], after[name]) for name in before)
    return isinstance(before, int) and str(after).startswith(str(before))


async def json_answers(trial: Trial) -> int:
    bad = 0
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    for place in PLACES:
        body = request(MODEL, f"Describe {place} as JSON.", temperature=0, response_format=form)
        lines = [line async for line in trial.lines(await trial.create(body), "?view=json")]
        values = [line["value"] for line in lines]
        is_steady = all(continues(*pair) for pair in pairwise(values))
        verdict = lines[-1]["done"]["format"]
        bad += not (is_steady and verdict == {"parsed": True, "valid": True} and lines[-1]["is_complete"])
        print(f"JSON {place:6}  {len(lines):3} values  each continues the last: {is_steady}  {verdict}", flush=True)
    return bad


async def cancel_answers(trial: Trial, server: Server, count: int) -> int:
    """Print each delay; the number above 100 ms."""
    delays = []
    for number in range(count):
        body = request(MODEL, QUESTIONS[number % len(QUESTIONS)], temperature=0, ignore_eos=True)
        generation_id = await trial.create(body)
        texts = 0
        async for line in trial.lines(generation_id):
            texts += line["event"] == "text"
            if texts == 10:
                break
        since = time.time()
        async with trial.http.post(f"{trial.url}/{generation_id}/cancel") as answer:
            assert (await answer.json())["status"] == "cancelled"
        answered = time.time() - since

        async def has_stopped(since: float = since) -> float | None:
            return server.stopped_after(since)

        delays.append(await eventually(has_stopped) - since)
        print(
            f"cancel  answered after {1000 * answered:5.1f} ms, stopped by the server's log {1000 * delays[-1]:5.1f} ms"
        )
    print(f"cancel  n = {count}, longest {1000 * max(delays):.1f} ms")
    return sum(delay > 0.1 for delay in delays)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="llama.cpp's `llama-server`")
    parser.add_argument("--weights", required=True, help="a model as GGUF")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answers", type=int, default=12)
    parser.add_argument("--cancels", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    async with llama_server(options.server, options.weights, options.threads) as server:
        proxy = Proxy(server.port)
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = listening.sockets[0].getsockname()[1]
        async with (
            stack(workers=1, frontends=1, lease_s="1", upstream_profile="llama.cpp") as product,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LOST)) as http,
        ):
            await product.point_workers_at(f"{proxy.url}/v1")
            trial = Trial(product, http, proxy)
            bad = await cancel_answers(trial, server, options.cancels) if options.cancels else 0
            bad += await json_answers(trial)
            bad += await continue_answers(trial, options.answers)
        listening.close()
    print(f"{bad} with a problem")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
