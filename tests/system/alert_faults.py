"""Faults of which each is meant to fire one alert: how they are injected, and the table of both (`system.alerts`)."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from redis.asyncio import Redis

from support.api import Api
from support.stack import Stack

SLOW: tuple[dict[str, Any], ...] = ({"tokens": {"count": 4000, "rate": 20}}, {"done": True})
SHORT: tuple[dict[str, Any], ...] = (
    {"tokens": {"count": 5, "rate": 50}}, {"delta": {}, "finish_reason": "stop"}, {"done": True},
)  # fmt: skip


class Play:
    """A product under one fault, with its clients. `opened`: sockets that stay open until its end."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, root: Path) -> None:
        self.stack = running
        self.http = http
        self.root = root
        self.opened: list[socket.socket] = []
        self.api = Api(http, running.url)

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> None:
        async with asyncio.timeout(30):
            while not await condition():  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.1)

    async def begun(self, *steps: dict[str, Any]) -> str:
        """A generation that has content."""
        generation_id = await self.api.create_scripted(*(steps or SLOW))

        async def has_output() -> bool:
            answer = await self.api.get(generation_id)
            return answer.status == 200 and bool(answer.value.get("output"))

        await self.until(has_output)
        return generation_id

    async def redis(self, *command: str) -> None:
        """A command of an operator's own."""
        client = _client(self.stack)
        try:
            await client.execute_command(*command)
        finally:
            await client.aclose()


def _client(running: Stack) -> Any:
    return Redis(host="127.0.0.1", port=running.redis.port)


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def worker_killed(play: Play) -> None:
    """A worker is killed while it runs a generation; another one is there."""
    await asyncio.gather(*(play.begun() for _ in range(6)))
    await play.stack.workers[0].stop(signal.SIGKILL)


async def workers_gone(play: Play) -> None:
    """Every worker is stopped, and generations come."""
    for worker in play.stack.workers:
        await worker.stop(signal.SIGTERM)
    await play.api.create_scripted(*SHORT)


async def workers_drained(play: Play) -> None:
    """An operator drains every worker, and generations come."""
    answer = await play.api.request("GET", "/v1/admin/workers")
    for worker in answer.value["data"]:
        await play.api.request("POST", f"/v1/admin/workers/{worker['id']}/drain")
    await play.api.create_scripted(*SHORT)


async def worker_frozen(play: Play) -> None:
    """A worker stands still for longer than its lease, and wakes up after another one has taken over."""
    await asyncio.gather(*(play.begun() for _ in range(6)))
    worker = play.stack.workers[0]
    worker.send(signal.SIGSTOP)
    await play.stack.workers[1].wait_for_log("taken over from")
    worker.send(signal.SIGCONT)


async def frontend_killed(play: Play) -> None:
    """A frontend is killed, and nothing starts it again."""
    await play.stack.frontends[1].stop(signal.SIGKILL)


async def redis_killed(play: Play) -> None:
    """Redis is killed, and stays away."""
    await play.begun()
    play.stack.redis.kill()


async def subscriptions_refused(play: Play) -> None:
    """The user of a frontend may not subscribe any more."""
    await play.redis("ACL", "SETUSER", "default", "-ssubscribe")
    await play.redis("CLIENT", "KILL", "TYPE", "pubsub")


async def redis_flushed(play: Play) -> None:
    """The data of Redis is deleted while generations run."""
    await asyncio.gather(*(play.begun() for _ in range(3)))
    await play.redis("FLUSHALL")


async def redis_nearly_full(play: Play) -> None:
    """Redis may take little more than it has."""
    client = _client(play.stack)
    used = int((await client.info("memory"))["used_memory"])
    await client.config_set("maxmemory", int(used / 0.83))
    await client.aclose()


async def upstream_fails(play: Play) -> None:
    """The upstream answers 503."""
    for number in range(4):
        await play.api.create_scripted({"status": 503, "json": {"error": {"message": f"{number}"}}})


async def upstream_unreachable(play: Play) -> None:
    """No upstream of the file answers: its circuit opens."""
    for _ in range(8):
        await play.api.create(model="m")


async def upstream_stalls(play: Play) -> None:
    """Answers stand still for longer than 3 s."""
    steps: list[dict[str, Any]] = [{"tokens": {"count": 3}}, {"sleep": 3.5}, *SHORT]
    await asyncio.gather(*[play.api.wait_for_result(await play.api.create_scripted(*steps)) for _ in range(3)])


async def upstream_slow_to_begin(play: Play) -> None:
    """The first token takes 12 s."""
    steps = ({"sleep": 12.0}, *SHORT)
    await asyncio.gather(*[play.api.wait_for_result(await play.api.create_scripted(*steps)) for _ in range(3)])


async def generations_fail(play: Play) -> None:
    """The upstream refuses what it is asked."""
    for _ in range(4):
        refused = {"status": 400, "json": {"error": {"message": "no"}}}
        await play.api.wait_for_result(await play.api.create_scripted(refused))


async def reader_stalls(play: Play) -> None:
    """A client stops reading a long answer."""
    steps = ({"tokens": {"count": 200_000, "prefix": "x" * 200}}, {"done": True})
    generation_id = await play.api.create_scripted(*steps)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", play.stack.frontends[0].port))
    await loop.sock_sendall(
        client, f"GET /v1/generations/{generation_id}/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    )
    await loop.sock_recv(client, 1024)
    play.opened.append(client)


async def queue_flushed(play: Play) -> None:
    """The queue is deleted while generations wait in it."""
    for worker in play.stack.workers:
        worker.send(signal.SIGSTOP)
    await asyncio.gather(*(play.api.create_scripted(*SHORT) for _ in range(4)))
    await play.redis("DEL", "tailrace:queue")


async def slots_taken(play: Play) -> None:
    """More generations come than there are slots."""
    for _ in range(6):
        await play.api.create_scripted(*SLOW)


async def frontend_starved(play: Play) -> None:
    """A frontend stands still again and again while it delivers."""
    generation_id = await play.begun({"tokens": {"count": 400, "rate": 40}}, {"done": True})
    frontend = play.stack.frontends[0]
    stream = await play.api.stream(generation_id)
    await stream.until_text("t5 ")
    for _ in range(4):
        frontend.send(signal.SIGSTOP)
        await asyncio.sleep(2.5)
        frontend.send(signal.SIGCONT)
        await asyncio.sleep(0.3)
    stream.cut()


class Fault(NamedTuple):
    """A fault, the alert that is meant, those that it entails, and what its product has.

    `config`: whether the upstream is one of a file, at a port where nothing listens."""

    play: Callable[[Play], Awaitable[None]]
    alert: str
    entails: frozenset[str] = frozenset()
    workers: int = 2
    frontends: int = 1
    settings: Mapping[str, str] = {}
    config: bool = False


def _entails(*names: str) -> frozenset[str]:
    return frozenset(f"Tailrace{name}" for name in names)


GONE = _entails("ProcessDown", "WorkersMissing")
SERVERS = _entails("RedisAway", "SubscriberDown", "WorkersMissing", "GapsFound", "DeliveryLag")
BOTH_WORK = {"max_jobs": "4"}
"""Six generations then need both workers, so that each of them has some. One worker is left with six generations for
its four slots: a queue that grows is entailed."""
FAULTS: dict[str, Fault] = {
    "worker-killed": Fault(
        worker_killed, "TailraceWorkerLost", GONE | _entails("QueueGrows"), settings=BOTH_WORK
    ),
    "workers-gone": Fault(workers_gone, "TailraceNoWorkers", GONE, settings={"drain_s": "0"}),
    "workers-drained": Fault(workers_drained, "TailraceWorkersDrain", _entails("WorkersMissing", "NoWorkers")),
    "worker-frozen": Fault(
        worker_frozen, "TailraceLeaseLost",
        GONE | _entails("WorkerLost", "UpstreamStalls", "SubscriberDown", "QueueGrows"),
        settings=BOTH_WORK,
    ),
    "frontend-killed": Fault(frontend_killed, "TailraceProcessDown", frontends=2),
    "redis-killed": Fault(redis_killed, "TailraceRedisAway", SERVERS),
    "subscriptions-refused": Fault(subscriptions_refused, "TailraceSubscriberDown", SERVERS),
    "redis-flushed": Fault(
        redis_flushed, "TailraceRedisLostData", _entails("WorkersMissing", "JobsLost", "GapsFound", "WorkerLost")
    ),
    "redis-nearly-full": Fault(redis_nearly_full, "TailraceRedisMemory"),
    "upstream-fails": Fault(upstream_fails, "TailraceUpstreamFailing", _entails("GenerationsFail")),
    "upstream-unreachable": Fault(
        upstream_unreachable, "TailraceCircuitOpen", _entails("UpstreamFailing", "GenerationsFail"),
        settings={"upstream_retries": "2", "upstream_wait_s": "3"}, config=True,
    ),
    "upstream-stalls": Fault(upstream_stalls, "TailraceUpstreamStalls"),
    "upstream-slow-to-begin": Fault(upstream_slow_to_begin, "TailraceSlowFirstToken"),
    "generations-fail": Fault(generations_fail, "TailraceGenerationsFail", _entails("UpstreamFailing")),
    "reader-stalls": Fault(reader_stalls, "TailraceSlowReaders", settings={"client_write_timeout_s": "2"}),
    "queue-flushed": Fault(
        queue_flushed, "TailraceJobsLost",
        GONE | _entails("NoWorkers", "SubscriberDown", "QueueGrows"), settings={"lease_s": "1"},
    ),
    "slots-taken": Fault(slots_taken, "TailraceQueueGrows", workers=1, settings={"max_jobs": "2"}),
    "frontend-starved": Fault(frontend_starved, "TailraceDeliveryLag", GONE | _entails("SubscriberDown", "GapsFound")),
}  # fmt: skip
