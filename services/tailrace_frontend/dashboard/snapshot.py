"""The installation at one moment, read in one pipeline for each Redis server.

A pipeline cannot ask for keys that it has just been given the names of. So the names of the snapshot before are used:
a worker, an upstream or a waiting job that is new has its details one snapshot later.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace import jsoncodec, keys
from tailrace.errors import RedisUnavailable, TailraceError
from tailrace.events import Json
from tailrace.queue import Queue
from tailrace.queue.arq_jobs import enqueued_at, key_of_job
from tailrace.queue.presence import LiveWorker, status_from
from tailrace.queue.upstream_calls import UpstreamUsage, news_command, usage_from
from tailrace.redis.server import checked
from tailrace.scripts import Command
from tailrace.stats.slots import MINUTES
from tailrace_frontend.dashboard.badges import RECENT, Badge, Facts, badges_of
from tailrace_frontend.streaming.hub import Hub

HEADS = 20
"""Waiting jobs whose age is looked at: those that workers take next."""


class ServerFigures(NamedTuple):
    """One Redis server. `memory_limit`: 0 where there is none."""

    name: str
    memory: int
    memory_limit: int
    commands_per_second: int
    clients: int

    @property
    def percent(self) -> float:
        return round(100 * self.memory / self.memory_limit, 1) if self.memory_limit else 0.0


class Snapshot(NamedTuple):
    """`at`: ms of the queue server's clock. `parked`: of those that wait, the ones whose caller has as many running as
    may run. `waited`: seconds, of the job among the next ones that has waited for longest. `readers`: event streams of
    this frontend."""

    at: int
    waiting: int
    parked: int
    waited: float
    workers: Sequence[LiveWorker]
    upstreams: dict[str, UpstreamUsage]
    circuits: dict[str, int]
    servers: Sequence[ServerFigures]
    readers: int
    badges: Sequence[Badge]

    @property
    def running(self) -> int:
        return sum(worker.status.running for worker in self.workers)

    @property
    def tokens_per_second(self) -> float:
        return round(sum(worker.status.tokens_per_second for worker in self.workers), 1)


class Names(NamedTuple):
    """What a snapshot asks for the details of."""

    workers: Sequence[str] = ()
    upstreams: Sequence[str] = ()
    jobs: Sequence[str] = ()


class SnapshotReader:
    """Reads snapshots for one frontend. Reads may overlap: each has the names with which it began."""

    def __init__(self, queue: Queue, hub: Hub) -> None:
        self._queue = queue
        self._log = hub.log
        self._hub = hub
        self._settings = hub.settings
        self._is_one_server = self._settings.queue_server == self._settings.redis_url
        self._names = Names()

    async def first(self) -> Snapshot:
        """A snapshot whose workers and upstreams have their details, in two pipelines.

        Raises:
            RedisUnavailable, RedisRefused: as `read`.
        """
        await self.read()
        return await self.read()

    async def read(self) -> Snapshot:
        """
        Raises:
            RedisUnavailable, RedisRefused: a server does not answer, or does not let us ask.
        """
        asked, names = time.time(), self._names
        replies = checked(await self._queue.server.execute_many(_commands(names)))
        servers = [_figures("redis" if self._is_one_server else "queue", replies.pop())]
        if not self._is_one_server:
            servers = [*await self._log_servers(), *servers]
        return self._snapshot(names, replies, servers, (asked + time.time()) / 2)

    async def _log_servers(self) -> list[ServerFigures]:
        """The servers of the logs; of a cluster, each primary that responds, under its address, the fullest first."""
        primaries = await self._log.server.primaries()
        infos = await asyncio.gather(*(primary.execute("INFO") for primary in primaries), return_exceptions=True)
        labels = [f"log {primary}" for primary in primaries] if len(primaries) > 1 else ["log"]
        found = [_figures(label, info) for label, info in zip(labels, infos, strict=True) if isinstance(info, bytes)]
        for info in infos:
            if isinstance(info, BaseException) and not (found and isinstance(info, RedisUnavailable)):
                raise info
        return sorted(found, key=lambda figures: -figures.percent)

    def _snapshot(self, names: Names, replies: list[Any], servers: Sequence[ServerFigures], now_s: float) -> Snapshot:
        (seconds, micros), queued, parked, before, newest, heads, jobs, alive, statuses, totals, *rest = replies
        at = int(seconds) * 1000 + int(micros) // 1000
        reports, rest = rest[: len(names.workers)], rest[len(names.workers) :]
        probes, news = rest[: len(names.upstreams)], rest[len(names.upstreams) :]
        workers = self._live_workers(dict(zip(names.workers or [""], statuses, strict=True)), alive, at)
        counts = {field.decode(): int(count) for field, count in zip(totals[::2], totals[1::2], strict=True)}
        probe_at = zip(names.upstreams, probes, strict=True)
        circuits = {name: max(0, int(time_) - at) for name, time_ in probe_at if time_}
        under_way = [msgspec.json.decode(each, type=dict[str, int]) for each in reports if each]
        upstreams = usage_from(counts, under_way, circuits, dict(zip(names.upstreams, news, strict=True)))
        waited = max((at - since for job in jobs if job and (since := enqueued_at(job))), default=0) / 1000
        waiting = int(queued) + sum(map(int, parked))
        recent = {
            name: int(one or 0) + int(other or 0) for name, one, other in zip(RECENT, before, newest, strict=True)
        }
        self._names = Names(
            sorted(worker.name for worker in workers), sorted(upstreams), [job.decode() for job in heads]
        )
        facts = Facts(
            waiting, max(0.0, waited), workers, circuits, servers[0].percent, at / 1000 - now_s,
            self._settings, self._hub.subscriber.connected, recent,
        )  # fmt: skip
        return Snapshot(
            at, waiting, sum(map(int, parked)), facts.waited, workers, upstreams, circuits, servers, self._hub.count,
            badges_of(facts),
        )  # fmt: skip

    def _live_workers(self, statuses: Mapping[str, bytes | None], alive: Sequence[bytes], at: int) -> list[LiveWorker]:
        found = []
        for name, score in zip(alive[::2], alive[1::2], strict=True):
            silent_ms = at - round(1000 * float(score))
            if silent_ms <= 3 * self._settings.lease_ms:
                worker = name.decode()
                found.append(LiveWorker(worker, max(0, silent_ms), status_from(statuses.get(worker))))
        return sorted(found)


def _commands(names: Names) -> list[Command]:
    return [
        ("TIME",),
        ("ZCARD", keys.QUEUE),
        ("HVALS", keys.PARKED),
        *(("HMGET", keys.stats(MINUTES.seconds, slot), *RECENT) for slot in _newest_slots()),
        ("ZRANGE", keys.QUEUE, 0, HEADS - 1),
        ("MGET", *(key_of_job(job) for job in names.jobs or [""])),
        ("ZRANGE", keys.WORKERS, 0, -1, "WITHSCORES"),
        ("MGET", *(keys.worker_status(name) for name in names.workers or [""])),
        ("HGETALL", keys.UPSTREAM_CALLS),
        *(("HGET", keys.upstream_report(name), "in_use") for name in names.workers),
        *(("HGET", keys.circuit(name), "probe_at") for name in names.upstreams),
        *map(news_command, names.upstreams),
        ("INFO",),
    ]


def _newest_slots() -> tuple[int, int]:
    """The minute of the history that is under way, and the one before: of all processes, as they have reported."""
    newest = int(time.time()) // MINUTES.seconds
    return newest - 1, newest


def _figures(name: str, info: bytes) -> ServerFigures:
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)

    def number(field: str) -> int:
        return int(fields.get(field, "0"))

    return ServerFigures(
        name, number("used_memory"), number("maxmemory"), number("instantaneous_ops_per_sec"),
        number("connected_clients"),
    )  # fmt: skip


def snapshot_json(snapshot: Snapshot) -> Json:
    """As the dashboard reads it."""
    return {
        "at": snapshot.at / 1000,
        "waiting": snapshot.waiting,
        "parked": snapshot.parked,
        "waited": round(snapshot.waited, 1),
        "running": snapshot.running,
        "slots": sum(worker.status.slots for worker in snapshot.workers if not worker.status.draining),
        "tokens_per_second": snapshot.tokens_per_second,
        "readers": snapshot.readers,
        "workers": [worker_json(worker) for worker in snapshot.workers],
        "upstreams": [
            upstream_json(name, usage, snapshot.circuits.get(name)) for name, usage in snapshot.upstreams.items()
        ],
        "servers": [server._asdict() | {"percent": server.percent} for server in snapshot.servers],
        "badges": [badge._asdict() for badge in snapshot.badges],
    }


def worker_json(worker: LiveWorker) -> Json:
    """A worker. `silent`: seconds since its last heartbeat."""
    fields: Json = msgspec.structs.asdict(worker.status)
    return {"id": worker.name, "silent": round(worker.silent_ms / 1000, 1)} | fields


def upstream_json(name: str, usage: UpstreamUsage, probe_ms: int | None) -> Json:
    """An upstream. `probe_in`: seconds until the next call that tries it, where its circuit is open."""
    return {
        "name": name,
        "calls": usage.calls,
        "failures": usage.failures,
        "in_use": usage.in_use,
        "open": usage.is_open,
        "probe_in": None if probe_ms is None else round(probe_ms / 1000, 1),
        "first_token": usage.first_token._asdict(),
        "gap": usage.gap._asdict(),
        "limited": usage.limited,
        "remaining": {"requests": usage.news.requests, "tokens": usage.news.tokens},
        "last_error": usage.news.error or None,
        "last_error_at": usage.news.error_at / 1000 or None,
    }


def encoded(snapshot: Snapshot, recent: Sequence[Sequence[float]] | None = None) -> bytes:
    """The snapshot as an event of a stream. `recent`: rows of `Feed.SERIES`, for a client that has just come."""
    value = snapshot_json(snapshot)
    if recent is not None:
        value["recent"] = recent
    return b"event: snapshot\ndata: %b\n\n" % jsoncodec.dumps(value)


def failed(error: TailraceError) -> bytes:
    """The event where there is no snapshot."""
    return b"event: away\ndata: %b\n\n" % jsoncodec.dumps({"message": error.message})
