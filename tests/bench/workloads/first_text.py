"""An idle worker: from POST to the first text, beside the same request sent to the upstream itself.

Pairs, one at a time, each on a connection of its own: the upstream, which answers at once, then the product with
`Accept: text/event-stream`. The measure is the difference of each pair: HTTP, admission, queue, acquisition, upstream,
append, delivery.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from bench.children import load
from bench.harness import product
from bench.measures import Finding
from bench.quantiles import Latency
from system.wire_client import open_exchange

BODY = b'{"model": "bench", "messages": [{"role": "user", "content": "Go."}], "stream": true, "tokens": 5}'
PAUSE_S = (0.02, 0.06)
WARM_UP = 5


async def first_text(seconds: float) -> Sequence[Finding]:
    added, upstreams = [], []
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        async with product(f"http://127.0.0.1:{port}/v1") as stack:
            frontend, worker = await stack.add_frontend(), await stack.add_worker()
            await worker.wait_for_log("runs up to")
            until, pairs = time.monotonic() + seconds, 0
            while time.monotonic() < until or pairs <= WARM_UP:
                direct = await first_text_ms(port, "/v1/chat/completions", BODY, b'"content":"@')
                through = await first_text_ms(frontend.port, "/v1/generations", BODY, b"event: text")
                pairs += 1
                if pairs > WARM_UP:
                    added.append(through - direct)
                    upstreams.append(direct)
                await asyncio.sleep(random.uniform(*PAUSE_S))
    latency, own = Latency.of(added), Latency.of(upstreams)
    beside = {"pairs": len(added), "max ms": latency.max, "upstream p50 ms": own.p50, "upstream p99 ms": own.p99}
    return [Finding("first-text/p50", latency.p50, beside), Finding("first-text/p99", latency.p99, {})]


async def first_text_ms(port: int, path: str, body: bytes, text: bytes) -> float:
    """Milliseconds from before the connection is opened until these bytes have arrived."""
    began, received = time.monotonic(), b""
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    exchange = await open_exchange(port, "POST", path, headers, body)
    try:
        async for piece in exchange.chunks():
            received += piece
            if text in received:
                return 1000 * (time.monotonic() - began)
    finally:
        exchange.close()
    raise AssertionError(f"no text: {received[:200]!r}")
