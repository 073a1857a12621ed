"""Fuzzing: whatever is sent, no process fails, none grows, and every answer is documented.

    scripts/fuzz [--target NAME …] [--size short|full] [--seed N]

    http       requests over bare sockets: method, path, query, headers, body, and wrong bytes anywhere
    openai     bodies on `/v1/chat/completions` and `/v1/responses`, whose clients wait for the answer
    upstream   an upstream's bytes: a worker's splitter and its two translators, and generations of a real worker
    framing    answers whose texts hold `\n`, `\r`, `data:`, `id:` and the like, in every framing, cut anywhere: the sum
               of what every format sends equals the sum of what the upstream sent
    scripts    every Lua script through `Log` and `Queue`, with random arguments in random order

Hypothesis draws the inputs in rounds; a round's seed is printed, and `--seed` begins with it. A finding is printed with
its input. It is not made smaller, because the processes under test remember what they were sent before.
"""

import argparse
import asyncio
import base64
import contextlib
import logging
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from redis import Redis

from support.api import Api, eventually
from support.injected_streams import InjectedStream, injected_streams
from support.upstream_answers import UpstreamAnswer
from system.audit import audit, baseline
from system.chaos import allow_many_sockets
from system.chaos_stack import ChaosStack, chaos_stack
from system.fuzz_batches import BATCHES
from system.fuzz_http import HttpFuzz
from system.fuzz_openai import BODIES_OF_BOTH
from system.fuzz_requests import KEYS, POOL
from system.fuzz_scripts import BATCHES as SCRIPT_BATCHES
from system.fuzz_scripts import SCRIPT_NAMES, ScriptFuzz
from system.fuzz_upstream import STREAMS, TranslatorFuzz
from system.wire_client import ask
from tailrace.ids import new_generation_id
from tailrace_cli.embedded import EmbeddedServer

ROUND = 100
"""Examples of one seed."""

AT_ONCE = 20
"""Generations that a worker runs at the same time."""

SHOWN = 5
"""Findings that are printed."""

MANY_CALLS = 100_000
"""From so many calls of scripts on, every documented reply must have occurred."""

MEMORY_KB = 24 * 1024
"""So much more memory a process may have after the second half of a run than before it."""


ERROR = re.compile(r"\b(ERROR|CRITICAL|Exception|ASGI callable)\b")
"""What a log has of an error; no input may be the cause of one."""


def explore(strategy: st.SearchStrategy[Any], number: int, examples: int, test: Callable[[Any], None]) -> None:
    """Run the test with examples of one seed."""
    chosen = settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    seed(number)(chosen(given(strategy)(lambda drawn: test(drawn))))()


class Findings(list[str]):
    """What is wrong. `report` prints one line of progress or result."""

    def check(self, is_right: bool, what: str) -> None:
        if not is_right:
            self.append(what)


@contextlib.asynccontextmanager
async def audited(frontends: bool, findings: Findings, deadline_s: int = 30) -> AsyncIterator[ChaosStack]:
    """A stack on which, after the block, everything must be as before, and no process may have reported an error."""
    number = 1 if frontends else 0
    async with chaos_stack(
        [], workers=1, frontends=number, config={}, two_servers=False, topology="server", max_body_bytes="65536",
        retention_s="60", deadline_s=str(deadline_s), upstream_retries="0",
        max_requests_per_minute_per_caller="10000000",
    ) as stack:  # fmt: skip
        if frontends:
            await eventually(lambda: _misses(stack), 20)
        before = await baseline(stack)
        yield stack
        findings += [str(each) for each in await audit(stack, before, [])]
        findings += stack.tracebacks()
        findings += [line for process in stack.processes for line in process.output.splitlines() if ERROR.search(line)]


async def _misses(stack: ChaosStack) -> bool:
    """Whether what does not exist is answered 404: on a server that has just started it is 503."""
    status, _ = await ask(stack.ports[0], "GET", f"/v1/generations/{new_generation_id()}")
    return bool(status == 404)


async def fuzz_http(number: int, size: int) -> Findings:
    """`size`: of requests."""
    return await _fuzz_frontends("http", BATCHES, number, size)


async def fuzz_openai(number: int, size: int) -> Findings:
    """`size`: of bodies. An upstream that hangs is given up after a few seconds."""
    return await _fuzz_frontends("openai", BODIES_OF_BOTH, number, size, deadline_s=4)


async def _fuzz_frontends(
    name: str, batches: st.SearchStrategy[Any], number: int, size: int, deadline_s: int = 30
) -> Findings:
    findings = Findings()
    async with audited(True, findings, deadline_s) as stack, aiohttp.ClientSession() as session:
        keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
        await stack.add_frontend(api_keys=keys, ticket_secret="0123456789abcdef")
        fuzz = HttpFuzz(stack.ports, [])
        apis = [Api(session, stack.frontends[0].url)]
        apis += [Api(session, stack.frontends[1].url, key) for key in KEYS.values()]
        memory = 0
        while fuzz.sent < size and not fuzz.wrong:
            fuzz.pool = [await _generation(apis[i % 2], i // 2) for i in range(POOL)]
            await asyncio.to_thread(explore, batches, number, min(ROUND, size), fuzz.send)
            print(f"{name}: seed {number}, {fuzz.sent} requests, {memory_kb(stack)} KB", flush=True)
            number += 1
            if not memory and fuzz.sent > size / 2:
                memory = memory_kb(stack)
        findings += fuzz.wrong
        grown = memory_kb(stack) - memory
        findings.check(grown < MEMORY_KB, f"the processes have grown by {grown} KB")
        answers, slowest = dict(sorted(fuzz.answers.items())), f"slowest {fuzz.slowest_s:.1f} s"
        print(f"{name}: {fuzz.sent} requests, {answers}, {slowest}, second half: {grown:+} KB", flush=True)
        await asyncio.gather(*map(_cancel_all, apis))
    return findings


async def _generation(api: Api, kind: int) -> str:
    """A generation in one of three states: complete, in the middle of its answer, failed."""
    steps: list[list[dict[str, Any]]] = [
        [{"tokens": {"count": 200}}, {"done": True}],
        [{"tokens": {"count": 5}}, {"sleep": 2}, {"tokens": {"count": 5}}, {"done": True}],
        [{"status": 400}],
    ]
    return await api.create_scripted(*steps[kind % len(steps)])


async def _cancel_all(api: Api) -> None:
    """Cancel what an upstream that hangs would keep."""
    query = "?limit=100"
    while query:
        page = (await api.list(query)).value
        for each in page["data"]:
            if each["status"] in ("queued", "running"):
                await api.cancel(each["id"])
        query = f"?limit=100&after={page['last_id']}" if page["has_more"] else ""


def memory_kb(stack: ChaosStack) -> int:
    """Resident memory of all processes under test, Redis excepted."""
    return sum(_rss_kb(process.pid) for process in stack.processes)


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


async def fuzz_scripts(number: int, size: int) -> Findings:
    """`size`: of calls."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="tailrace-fuzz-") as folder:
        server = EmbeddedServer(Path(folder))
        server.start()
        with Redis.from_url(server.url) as redis:
            fuzz = ScriptFuzz(redis)
            while fuzz.called < size and not fuzz.wrong:
                explore(SCRIPT_BATCHES, number, ROUND, fuzz.run)
                number += 1
        server.stop()
    print(f"scripts: seeds up to {number}, {fuzz.called} calls, {dict(sorted(fuzz.replies.items()))}", flush=True)
    findings += fuzz.wrong
    if size >= MANY_CALLS:
        findings += [f"{name} was never {each}" for name in SCRIPT_NAMES for each in fuzz.unseen(name)]
    return findings


async def fuzz_upstream(number: int, size: int) -> Findings:
    """`size`: of streams of each dialect that are translated in this process; a fiftieth of that are answers to a real
    worker."""
    findings = Findings()
    for dialect, streams in STREAMS.items():
        fuzz, last = TranslatorFuzz(dialect), number
        while fuzz.read < size and not fuzz.wrong:
            explore(streams, last, ROUND, fuzz.run)
            last += 1
        print(f"upstream: {dialect}, seeds {number} to {last}, {fuzz.read} streams, {fuzz.entries} entries", flush=True)
        findings += fuzz.wrong
    async with audited(True, findings) as stack, aiohttp.ClientSession() as session:
        api = Api(session, stack.url)
        bodies: list[list[bytes]] = []
        explore(STREAMS["chat"], number, max(10, size // 50), bodies.append)
        memory = 0
        for begin in range(0, len(bodies), AT_ONCE):
            await asyncio.gather(*(_answer_with(api, reads, findings) for reads in bodies[begin : begin + AT_ONCE]))
            if not memory and begin >= len(bodies) / 2:
                memory = memory_kb(stack)
        grown = memory_kb(stack) - memory if memory else 0
        findings.check(grown < MEMORY_KB, f"the processes have grown by {grown} KB")
        print(f"upstream: seed {number}, {len(bodies)} generations, second half: {grown:+} KB", flush=True)
    return findings


async def _answer_with(api: Api, reads: list[bytes], findings: Findings) -> None:
    """One generation whose upstream answers with these bytes. It must end, and its log with it."""
    steps = [{"raw_base64": base64.b64encode(each).decode()} for each in reads]
    generation_id = await api.create_scripted(*steps, {"eof": True}, tailrace={"on_interrupt": "fail"})
    result = (await api.get(generation_id, "?wait=20")).value
    code = (result["error"] or {}).get("code")
    is_final = result["status"] in ("completed", "incomplete", "failed")
    findings.check(is_final and code != "internal_error", f"{result['status']} {code}: {reads!r}"[:2000])


async def fuzz_framing(number: int, size: int) -> Findings:
    """`size`: of answers."""
    findings, seeds = Findings(), set[int]()

    def compare(stream: InjectedStream) -> None:
        seeds.add(stream.seed)
        try:
            differences = UpstreamAnswer(stream.chunks, stream.reads, stream.how).differences()
        except Exception as error:  # noqa: BLE001 - any is a finding
            differences = [repr(error)]
        findings.check(not differences, f"injected_stream({stream.seed}): {differences}")

    await asyncio.to_thread(explore, injected_streams(), number, size, compare)
    print(f"framing: seed {number}, {len(seeds)} different answers", flush=True)
    return findings


TARGETS: dict[str, tuple[Callable[[int, int], Coroutine[Any, Any, Findings]], int, int]] = {
    "http": (fuzz_http, 600, 50_000),
    "openai": (fuzz_openai, 600, 50_000),
    "upstream": (fuzz_upstream, 600, 100_000),
    "framing": (fuzz_framing, 300, 100_000),
    "scripts": (fuzz_scripts, 3_000, 200_000),
}
"""The fuzz of each target, and its short and its full size."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=list(TARGETS), metavar="NAME", help="may be repeated")
    parser.add_argument("--size", choices=("short", "full"), default="full")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    return parser


async def main() -> int:
    options = parser().parse_args()
    allow_many_sockets()
    logging.getLogger("uvicorn.error").disabled = True  # of the scripted upstream, whose clients leave
    failed = False
    for name in options.target or TARGETS:
        fuzz, short, full = TARGETS[name]
        began = time.monotonic()
        findings = await fuzz(options.seed, full if options.size == "full" else short)
        print(f"{name}: {len(findings)} findings, {time.monotonic() - began:.0f} s", flush=True)
        print("\n".join(findings[:SHOWN]))
        failed = failed or bool(findings)
    return int(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
