"""What all workers share about the upstreams: open circuits, the slots of those with a limit, and counts of calls.

    closed ── so many failures within the window ──▶ open ── one probe at a time ──▶ closed, with its first content
                                                      ▲            │
                                                      └── failed ──┘    the next one is due after the same time

A worker keeps the states of the circuits in memory. Each change is published on `keys.CIRCUITS`, so that a call of an
upstream whose circuit is closed costs no command; one that fails costs one.

A slot is a lease: it expires unless its worker renews it. A worker that is killed holds its slots for
`SLOT_LEASES`, while its connections are closed at once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.queue.durations import FIRST_TOKEN, GAP, Histogram, histogram_of
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command

CIRCUIT_LIFE_MS = 86_400_000
"""An open circuit that no call has tried for so long is forgotten, and so is that of an upstream of the past."""

REPORT_LEASES = 3
SLOT_LEASES = 3
"""A worker counts as alive for as long (`presence`). One lease, of 0.5 s on a loaded machine, was too short: 10 calls
at once under a limit of 8 (50 kills, measured)."""

CALLS, FAILURES, LIMITED = "calls", "failures", "limited"
NEWS_LIFE_MS = 86_400_000
NO_DURATIONS: Mapping[str, int] = {}
NO_NEWS: Mapping[str, Sequence[bytes | None]] = {}


class Breaker(NamedTuple):
    """When a circuit opens: calls of `failures` generations have failed within `window_ms`; 0: never. `probe_ms`: the
    time between two probes."""

    failures: int
    window_ms: int
    probe_ms: int


class Probe(NamedTuple):
    """May a call try an upstream whose circuit was open? `opened`: when it opened, if this call is its probe; None: the
    circuit is closed. `wait_ms`: until the next probe is due, if this call must not."""

    opened: int | None = None
    wait_ms: int | None = None


class UpstreamNews(NamedTuple):
    """What the workers have learnt of an upstream last. `error`: a status, or the code of a failure without one; with
    the time of its report, ms of the server's clock. `requests`, `tokens`: what the newest response has left of the
    upstream's limits; None where it has no such header."""

    error: str = ""
    error_at: int = 0
    requests: int | None = None
    tokens: int | None = None


class UpstreamUsage(NamedTuple):
    """The calls of an upstream by all workers: totals since its first one, and how many are under way. `limited`:
    requests that were answered 429. `first_token`: the times from a request to its first content; `gap`: those between
    two pieces of content."""

    calls: int = 0
    failures: int = 0
    in_use: int = 0
    is_open: bool = False
    first_token: Histogram = Histogram()
    gap: Histogram = Histogram()
    limited: int = 0
    news: UpstreamNews = UpstreamNews()


class UpstreamCalls:
    """The upstreams as the queue's server has them."""

    def __init__(self, server: RedisServer, *, lease_ms: int) -> None:
        self._server = server
        self._lease_ms = lease_ms

    # ── circuits ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def fail(self, upstream: str, call: str, generation_id: str, breaker: Breaker) -> int | None:
        """Record a failed call: ms until the next probe if the circuit is open now, else None. A generation counts
        once."""
        names = [keys.circuit(upstream), keys.failures(upstream), keys.CIRCUITS]
        command = scripts.FAIL_CALL.on(names, call, generation_id, *breaker, CIRCUIT_LIFE_MS)
        outcome, number = await self._server.execute(*command)
        return int(number) if outcome == b"OPEN" else None

    async def probe(self, upstream: str, call: str, breaker: Breaker) -> Probe:
        """Ask whether this call may try an upstream whose circuit was open."""
        outcome, *number = await self._server.execute(
            *scripts.PROBE_CIRCUIT.on([keys.circuit(upstream)], call, breaker.probe_ms, CIRCUIT_LIFE_MS)
        )
        if outcome == b"OPEN":
            return Probe(wait_ms=int(number[0]))
        return Probe(opened=int(number[0])) if outcome == b"PROBE" else Probe()

    async def close(self, upstream: str, opened: int) -> None:
        """The probe was answered: close the circuit that opened then."""
        names = [keys.circuit(upstream), keys.failures(upstream), keys.CIRCUITS]
        await self._server.execute(*scripts.CLOSE_CIRCUIT.on(names, opened))

    async def open_circuits(self, upstreams: Sequence[str]) -> dict[str, int]:
        """Those of these upstreams whose circuit is open, with the ms until the next probe."""
        commands = [("TIME",), *(("HGET", keys.circuit(name), "probe_at") for name in upstreams)]
        (seconds, micros), *probes = checked(await self._server.execute_many(commands))
        now = int(seconds) * 1000 + int(micros) // 1000
        return {name: max(0, int(probe_at) - now) for name, probe_at in zip(upstreams, probes, strict=True) if probe_at}

    # ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def occupy(self, upstream: str, call: str, limit: int) -> bool:
        """Take one of so many slots; False where all are in use."""
        command = scripts.OCCUPY_SLOT.on([keys.slots(upstream)], call, limit, SLOT_LEASES * self._lease_ms)
        outcome, _ = await self._server.execute(*command)
        return bool(outcome == b"OK")

    async def free(self, upstream: str, call: str) -> None:
        """Give the slot back. Do so once the call's connection is closed."""
        await self._server.execute("ZREM", keys.slots(upstream), call)

    async def renew(self, calls: Mapping[str, Collection[str]]) -> None:
        """Renew the slots of a worker's calls, by upstream: at least every third of a lease."""
        commands = [
            scripts.RENEW_SLOTS.on([keys.slots(name)], SLOT_LEASES * self._lease_ms, *held)
            for name, held in calls.items()
            if held
        ]
        if commands:
            checked(await self._server.execute_many(commands))

    # ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def report(
        self,
        worker: str,
        number: int,
        totals: Mapping[str, tuple[int, int]],
        in_use: Mapping[str, int],
        durations: Mapping[str, int] = NO_DURATIONS,
    ) -> None:
        """Add a worker's calls and failures since its last report, and its `durations` (`duration_counts`). `number` of
        the report: it is added once."""
        increments = [
            part
            for name, counts in totals.items()
            for kind, count in zip((CALLS, FAILURES), counts, strict=True)
            if count
            for part in (f"{kind}:{name}", count)
        ]
        increments += [part for pair in durations.items() for part in pair]
        names = [keys.UPSTREAM_CALLS, keys.upstream_report(worker)]
        under_way = msgspec.json.encode(in_use)
        await self._server.execute(
            *scripts.REPORT_CALLS.on(names, number, REPORT_LEASES * self._lease_ms, under_way, *increments)
        )

    async def note(self, upstream: str, *, error: str = "", remaining: Mapping[str, int] = NO_DURATIONS) -> None:
        """Store what this worker has learnt of an upstream, in the place of what was known."""
        fields: dict[str, int | str] = dict(remaining)
        if error:
            fields |= {"error": error, "error_at": await self._server.now()}
        if fields:
            name, pairs = keys.upstream_news(upstream), [part for pair in fields.items() for part in pair]
            checked(await self._server.execute_many([("HSET", name, *pairs), ("PEXPIRE", name, NEWS_LIFE_MS)]))

    async def withdraw(self, worker: str) -> None:
        """Forget the calls under way of a worker that stops."""
        await self._server.execute("DEL", keys.upstream_report(worker))

    async def usage(self) -> dict[str, UpstreamUsage]:
        """Every upstream that was ever called, by name."""
        totals, workers = checked(
            await self._server.execute_many([("HGETALL", keys.UPSTREAM_CALLS), ("ZRANGE", keys.WORKERS, 0, -1)])
        )
        counts = {field.decode(): int(count) for field, count in zip(totals[::2], totals[1::2], strict=True)}
        if not (names := names_in(counts)):
            return {}
        reports = [("HGET", keys.upstream_report(worker.decode()), "in_use") for worker in workers]
        replies = checked(await self._server.execute_many(reports)) if reports else []
        under_way = [msgspec.json.decode(report, type=dict[str, int]) for report in replies if report]
        news = checked(await self._server.execute_many(list(map(news_command, names))))
        return usage_from(counts, under_way, await self.open_circuits(names), dict(zip(names, news, strict=True)))


def names_in(counts: Mapping[str, int]) -> list[str]:
    """The upstreams that the fields of the totals name."""
    return sorted({field.partition(":")[2] for field in counts})


def news_command(upstream: str) -> Command:
    """Reads what is known of an upstream, for `usage_from`."""
    return ("HMGET", keys.upstream_news(upstream), *UpstreamNews._fields)


def _news_from(stored: Sequence[bytes | None]) -> UpstreamNews:
    error, error_at, *remaining = stored
    requests, tokens = (None if each is None else int(each) for each in remaining)
    return UpstreamNews(error.decode() if error else "", int(error_at or 0), requests, tokens)


def usage_from(
    counts: Mapping[str, int],
    under_way: Sequence[Mapping[str, int]],
    open_circuits: Collection[str],
    news: Mapping[str, Sequence[bytes | None]] = NO_NEWS,
) -> dict[str, UpstreamUsage]:
    """The usage by upstream: from the totals, the workers' reports, the names of those whose circuit is open, and the
    replies to `news_command`."""
    return {
        name: UpstreamUsage(
            counts.get(f"{CALLS}:{name}", 0),
            counts.get(f"{FAILURES}:{name}", 0),
            sum(each.get(name, 0) for each in under_way),
            name in open_circuits,
            histogram_of(FIRST_TOKEN, name, counts),
            histogram_of(GAP, name, counts),
            counts.get(f"{LIMITED}:{name}", 0),
            _news_from(news[name]) if name in news else UpstreamNews(),
        )
        for name in names_in(counts)
    }
