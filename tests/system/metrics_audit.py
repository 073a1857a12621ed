"""Each metric against an audit of the logs, after faults: `PYTHONPATH=tests python -m system.metrics_audit`.

Generations run while workers are stopped, frozen beyond their leases, and while Redis is killed and its connections
are closed. What the history in Redis has is compared with the logs, and with what clients have received. A process that
is killed takes what it had not flushed, up to 5 s: with `--kills` workers are killed as well, and the loss is shown.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from support.api import Api, scripted
from support.stack import Stack, stack
from tailrace import keys
from tailrace.redis.server import RedisServer
from tailrace.stats.history import FLUSH_S
from tailrace.stats.history_reader import Histogram, HistoryReader
from tailrace.stats.slots import MINUTES

STEPS: tuple[dict[str, Any], ...] = (
    {"tokens": {"count": 60, "rate": 60}}, {"usage": {"prompt_tokens": 11, "completion_tokens": 60}},
    {"delta": {}, "finish_reason": "stop"}, {"done": True},
)  # fmt: skip
UNFINISHED = (None, "queued", "running")
CANCELLED_OF = 10
"""One of so many is cancelled."""


class Row(NamedTuple):
    """A metric: what the history has, and what the logs have."""

    name: str
    counted: float
    audited: float

    @property
    def error(self) -> float:
        return abs(self.counted - self.audited) / max(1.0, abs(self.audited))

    def __str__(self) -> str:
        return f"{self.name:28} {self.counted:14.3f} {self.audited:14.3f} {100 * self.error:7.3f} %"


async def audit(generations: int, rounds: int, *, kills: bool = False) -> list[Row]:
    """Play, and compare."""
    async with (
        stack(workers=3, frontends=2, lease_s="1.5", max_attempts="20") as running,
        aiohttp.ClientSession() as http,
    ):
        began = int(time.time())
        ids = await _play(running, http, generations, rounds, kills=kills)
        await asyncio.sleep(FLUSH_S + 1)
        api = Api(http, running.url)
        bodies = [(await api.get(each)).value for each in ids]
        server = RedisServer.connect(running.redis.url)
        try:
            minutes = (int(time.time()) - began) // 60 + 2
            slots = await HistoryReader(server).last(MINUTES, minutes)
            kinds = await _kinds(server, ids)
        finally:
            await server.close()
    counts: Counter[str] = Counter()
    for slot in slots:
        counts.update(slot.counts)
    histograms = {
        name: sum((slot.histograms[name] for slot in slots[1:]), slots[0].histograms[name])
        for name in slots[0].histograms
    }
    return list(_rows(bodies, counts, histograms, kinds))


async def _play(
    running: Stack, http: aiohttp.ClientSession, generations: int, rounds: int, *, kills: bool
) -> list[str]:
    """Create generations under disturbances; their ids, once all have ended."""
    apis = [Api(http, each.url) for each in running.frontends]
    limit = asyncio.Semaphore(20)

    async def one(number: int) -> str:
        async with limit:
            api = apis[number % len(apis)]
            generation_id = await _created(api)
            if number % CANCELLED_OF == 0:
                await asyncio.sleep(0.5)
                await api.cancel(generation_id)
            while (await api.get(generation_id)).value.get("status") in UNFINISHED:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.3)
            return generation_id

    playing = [asyncio.create_task(one(number)) for number in range(generations)]
    for turn in range(rounds):
        await asyncio.sleep(2)
        await _disturb(running, turn, signal.SIGKILL if kills else signal.SIGTERM)
    return list(await asyncio.gather(*playing))


async def _created(api: Api) -> str:
    """The id of a new generation. A refusal while Redis is away is repeated."""
    while True:
        answer = await api.post(scripted(*STEPS))
        if answer.status == 202:
            return str(answer.value["id"])
        await asyncio.sleep(0.2)


async def _kinds(server: RedisServer, ids: list[str]) -> Counter[str]:
    """The entries in the logs, by kind."""
    logs = await server.execute_many([("XRANGE", keys.log(each), "-", "+") for each in ids])
    return Counter(fields[0].partition(b":")[0].decode() for log in logs for _, fields in log)


async def _disturb(running: Stack, turn: int, sign: signal.Signals) -> None:
    """Stop a worker, freeze one beyond its lease, kill Redis, or close its connections: each in turn."""
    worker = running.workers[turn // 4 % len(running.workers)]
    match turn % 4:
        case 0:
            starts = worker.output.count("runs up to")
            await worker.stop(sign)
            await worker.start()
            await worker.wait_for_log("runs up to", starts + 1)
        case 1:
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(3)
            worker.send(signal.SIGCONT)
        case 2:
            running.redis.kill()
            await asyncio.sleep(1)
            running.redis.start()
        case 3:
            server = RedisServer.connect(running.redis.url)
            await server.execute("CLIENT", "KILL", "TYPE", "pubsub")
            await server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await server.close()


def _rows(
    bodies: list[Any], counts: Mapping[str, int], histograms: Mapping[str, Histogram], kinds: Counter[str]
) -> list[Row]:
    ended = Counter(body["status"] for body in bodies)
    timings = [body["timings"] for body in bodies]
    first = [each["first_token"] for each in timings if each.get("first_token") is not None]
    usage = [body["usage"] for body in bodies if body.get("usage")]
    rows = [Row("created", counts["created"], len(bodies))]
    rows += [Row(f"ended:{status}", counts.get(f"ended:{status}", 0), count) for status, count in ended.items()]
    rows += [
        Row("input tokens", counts["input"], sum(each["prompt_tokens"] for each in usage)),
        Row("output tokens", counts["output"], sum(each["completion_tokens"] for each in usage)),
        Row("restarts", counts["restarts"], kinds["restarted"]),
        Row("appended entries", counts["appended"], kinds.total() - kinds["created"] - kinds["done"]),
        Row("first tokens", histograms["ttft"].count, len(first)),
        Row("seconds to first token", histograms["ttft"].seconds, sum(first)),
        Row("seconds to the end", histograms["e2e"].seconds, sum(each["total"] for each in timings)),
        Row("seconds in the queue", histograms["queue"].seconds, sum(each.get("queue") or 0 for each in timings)),
    ]
    return rows


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=12, help="disturbances")
    parser.add_argument("--kills", action="store_true", help="kill the workers that are stopped otherwise")
    options = parser.parse_args()
    rows = await audit(options.generations, options.rounds, kills=options.kills)
    print(f"{'metric':28} {'history':>14} {'logs':>14} {'error':>9}")
    for row in rows:
        print(row)
    return int(any(row.error > 0.01 for row in rows))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
