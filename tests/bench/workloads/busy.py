"""1,000 answers, 8 tokens a second each: the latency of a token, from the upstream's write to the client's read.

The whole path: an upstream with a connection an answer, one worker, Redis, one frontend, a reader each. The naive
pattern, for orientation, is overloaded here; its latency begins only where its events are appended.
"""

import asyncio
from collections.abc import Sequence

from bench.children import load
from bench.delivery import NAIVE, SETTLE_S, TAILRACE, Shape, deliver
from bench.harness import Usage, get, product, usage
from bench.measures import Finding
from bench.quantiles import Latency
from bench.workloads.ingest import ensure_streams, tailrace_worker
from tailrace import keys

BUSY = Shape(logs=1000, rate=8)


async def busy(seconds: float) -> Sequence[Finding]:
    used, latency, share = await through_a_worker(seconds)
    naive = await deliver(NAIVE, BUSY, seconds)
    costs = {f"Tailrace: {name} µs": used.us_an_event(latency.samples, name) for name in used.cpu_s}
    figures = {"Tailrace: max ms": latency.max, "Tailrace: delivered share": share}
    figures |= {"naive: p50 ms": naive.latency.p50, "naive: p99 ms": naive.latency.p99}
    figures["naive: delivered share"] = naive.share
    return [Finding("busy/p50", latency.p50, costs), Finding("busy/p99", latency.p99, figures)]


async def through_a_worker(seconds: float) -> tuple[Usage, Latency, float]:
    async with load("bench.upstream") as upstream, load("bench.reading") as readers:
        port = await upstream.do("listen")
        async with product(f"http://127.0.0.1:{port}/v1") as stack, tailrace_worker(stack) as worker:
            await ensure_streams(BUSY.logs, worker, upstream)
            web = stack.frontends[0]
            generations = [log.removeprefix("tailrace:{").partition("}")[0] for log in worker.logs]
            assert [keys.log(each) for each in generations] == worker.logs
            requests = [get(TAILRACE.path.format(generation)) for generation in generations]
            await readers.do("follow", port=web.port, requests=requests)
            await upstream.do("emit", streams=BUSY.logs, rate=BUSY.rate)
            await asyncio.sleep(SETTLE_S)
            pids = {"web": web.pid, "worker": worker.pid, "redis": stack.redis.pid, "upstream": upstream.pid}
            await readers.do("begin")
            before = await upstream.do("report")
            used = await usage(seconds, pids)
            received, after = await asyncio.gather(readers.do("report"), upstream.do("report"))
    latency = Latency(**received["latency"])
    return used, latency, latency.samples / max(1, after["written"] - before["written"])
