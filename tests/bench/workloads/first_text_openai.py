"""An idle worker: from POST to the first text, through OpenAI's routes beside the native one.

Triples, one request at a time, each on a connection of its own and in turn. The upstream answers at once. The measure
is the difference between the medians.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.children import load
from bench.harness import product
from bench.measures import Finding
from bench.quantiles import Latency
from bench.workloads.first_text import BODY, PAUSE_S, WARM_UP, first_text_ms


class Way(NamedTuple):
    """A route, its request, and what the first text begins with."""

    path: str
    body: bytes
    text: bytes


NATIVE = Way("/v1/generations", BODY, b"event: text")
CHAT = Way("/v1/chat/completions", BODY, b'"content":"@')
RESPONSES = Way(
    "/v1/responses", b'{"model": "bench", "input": "Go.", "stream": true, "tokens": 5}', b'"delta":"@'
)  # fmt: skip
WAYS = {"native": NATIVE, "chat": CHAT, "Responses": RESPONSES}


async def first_text_openai(seconds: float) -> Sequence[Finding]:
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        async with product(f"http://127.0.0.1:{port}/v1") as stack:
            frontend, worker = await stack.add_frontend(), await stack.add_worker()
            await worker.wait_for_log("runs up to")
            until, rounds = time.monotonic() + seconds, 0
            while time.monotonic() < until or rounds <= WARM_UP:
                rounds += 1
                for name in random.sample(list(WAYS), len(WAYS)):
                    took = await first_text_ms(frontend.port, *WAYS[name])
                    if rounds > WARM_UP:
                        taken[name].append(took)
                    await asyncio.sleep(random.uniform(*PAUSE_S))
    found = {name: Latency.of(each) for name, each in taken.items()}
    beside = {
        f"{name}: {quantile} ms": getattr(each, quantile) for name, each in found.items() for quantile in ("p50", "p99")
    }
    return [
        Finding("first-text-openai/chat", found["chat"].p50 - found["native"].p50, beside),
        Finding("first-text-openai/responses", found["Responses"].p50 - found["native"].p50, {}),
    ]
