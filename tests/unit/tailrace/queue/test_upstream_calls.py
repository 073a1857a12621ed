"""Circuits, slots and counts, on the real server. Two processes are two `UpstreamCalls`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from tailrace import keys, scripts
from tailrace.queue import Breaker, Queue, UpstreamUsage
from tailrace.queue.durations import FIRST_TOKEN, GAP, Histogram, duration_counts
from tailrace.queue.upstream_calls import CIRCUIT_LIFE_MS, LIMITED, NEWS_LIFE_MS, SLOT_LEASES, Probe, UpstreamCalls

BREAKER = Breaker(failures=3, window_ms=60_000, probe_ms=60_000)
QUICK = BREAKER._replace(probe_ms=40)


async def opened(calls: UpstreamCalls, breaker: Breaker = BREAKER) -> None:
    for number in range(breaker.failures):
        await calls.fail("primary", f"call {number}", f"call {number}", breaker)


@asynccontextmanager
async def published(queue: Queue) -> AsyncIterator[asyncio.Queue[bytes | None]]:
    """What is published on the channel of circuits, from now on."""
    received: asyncio.Queue[bytes | None] = asyncio.Queue()
    subscriber = queue.server.subscriber()
    subscriber.start()
    subscriber.add(keys.CIRCUITS, received.put_nowait)
    assert await received.get() is None  # subscribed
    yield received
    await subscriber.close()


# ── circuits ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_circuit_opens_at_the_last_failure_that_the_window_allows(queue: Queue) -> None:
    calls = queue.upstreams
    assert await calls.fail("primary", "a", "a", BREAKER) is None
    assert await calls.fail("primary", "b", "b", BREAKER) is None
    assert await calls.open_circuits(["primary", "backup"]) == {}
    assert await calls.fail("primary", "c", "c", BREAKER) == BREAKER.probe_ms
    states = await calls.open_circuits(["primary", "backup"])
    assert list(states) == ["primary"]
    assert 50_000 < states["primary"] <= BREAKER.probe_ms


async def test_failure_that_is_recorded_again_counts_once(queue: Queue) -> None:
    for _ in range(5):
        assert await queue.upstreams.fail("primary", "a", "a", BREAKER) is None


async def test_failures_of_one_generation_count_once(queue: Queue) -> None:
    for number in range(9):
        assert await queue.upstreams.fail("primary", f"call {number}", "one generation", BREAKER) is None


async def test_failures_before_the_window_do_not_count(queue: Queue) -> None:
    brief = BREAKER._replace(window_ms=30)
    await queue.upstreams.fail("primary", "a", "a", brief)
    await queue.upstreams.fail("primary", "b", "b", brief)
    await asyncio.sleep(0.05)
    assert await queue.upstreams.fail("primary", "c", "c", brief) is None


async def test_failure_of_another_upstream_does_not_count(queue: Queue) -> None:
    for name in ("a", "b", "c"):
        assert await queue.upstreams.fail(name, "call", "call", BREAKER) is None


async def test_failures_of_an_open_circuit_do_not_put_the_probe_off(queue: Queue) -> None:
    await opened(queue.upstreams)
    await asyncio.sleep(0.02)
    wait_ms = await queue.upstreams.fail("primary", "late", "late", BREAKER)
    assert wait_ms is not None
    assert wait_ms <= BREAKER.probe_ms - 20


async def test_probe_is_refused_until_it_is_due(queue: Queue) -> None:
    assert await queue.upstreams.probe("primary", "a", BREAKER) == Probe()
    await opened(queue.upstreams)
    refused = await queue.upstreams.probe("primary", "a", BREAKER)
    assert refused.opened is None
    assert refused.wait_ms is not None
    assert 50_000 < refused.wait_ms <= BREAKER.probe_ms


async def test_probe_is_one_call_of_all_workers(queue: Queue) -> None:
    await opened(queue.upstreams, QUICK)
    await asyncio.sleep(0.05)
    slow = QUICK._replace(probe_ms=60_000)
    probes = await asyncio.gather(*(queue.upstreams.probe("primary", f"p{n}", slow) for n in range(20)))
    (granted,) = [number for number, probe in enumerate(probes) if probe.opened is not None]
    assert all(probe.wait_ms for number, probe in enumerate(probes) if number != granted)
    assert await queue.upstreams.probe("primary", f"p{granted}", slow) == probes[granted], "a lost reply is asked for"


async def test_probe_whose_worker_dies_is_followed_by_another(queue: Queue) -> None:
    await opened(queue.upstreams, QUICK)
    for call in ("first", "second"):
        await asyncio.sleep(0.05)
        assert (await queue.upstreams.probe("primary", call, QUICK)).opened is not None


async def test_failed_probe_puts_the_next_one_off(queue: Queue) -> None:
    await opened(queue.upstreams, QUICK)
    await asyncio.sleep(0.05)
    await queue.upstreams.probe("primary", "p", QUICK)
    await asyncio.sleep(0.02)
    assert await queue.upstreams.fail("primary", "p", "p", BREAKER) == BREAKER.probe_ms
    assert (await queue.upstreams.open_circuits(["primary"]))["primary"] > 50_000
    wait_ms = await queue.upstreams.fail("primary", "p", "p", QUICK)
    assert wait_ms is not None
    assert wait_ms > 50_000, "once"


async def test_answered_probe_closes_the_circuit_and_forgets_the_failures(queue: Queue) -> None:
    await opened(queue.upstreams, QUICK)
    await asyncio.sleep(0.05)
    probe = await queue.upstreams.probe("primary", "p", QUICK)
    assert probe.opened is not None
    await queue.upstreams.close("primary", probe.opened)
    assert await queue.upstreams.open_circuits(["primary"]) == {}
    assert await queue.upstreams.fail("primary", "a", "a", BREAKER) is None
    assert await queue.upstreams.fail("primary", "b", "b", BREAKER) is None


async def test_probe_of_the_circuit_before_closes_nothing(queue: Queue) -> None:
    await opened(queue.upstreams, QUICK)
    await queue.upstreams.close("primary", 1)
    assert list(await queue.upstreams.open_circuits(["primary"])) == ["primary"]
    (unknown,) = await queue.server.execute(
        *scripts.CLOSE_CIRCUIT.on([keys.circuit("x"), keys.failures("x"), keys.CIRCUITS], 1)
    )
    assert unknown == b"UNKNOWN"


async def test_changes_of_a_circuit_are_published_and_nothing_else(queue: Queue) -> None:
    async with published(queue) as received:
        await opened(queue.upstreams, QUICK)
        assert await received.get() == b""
        await asyncio.sleep(0.05)
        probe = await queue.upstreams.probe("primary", "p", QUICK)
        await queue.upstreams.fail("primary", "late", "late", QUICK)
        await queue.upstreams.fail("primary", "p", "p", QUICK)
        assert await received.get() == b""
        assert probe.opened is not None
        await queue.upstreams.close("primary", probe.opened)
        assert await received.get() == b""
        await asyncio.sleep(0.05)
        assert received.empty()


async def test_circuit_of_an_upstream_of_the_past_expires(queue: Queue, redis: Redis) -> None:
    await opened(queue.upstreams)
    assert CIRCUIT_LIFE_MS - 5000 < await redis.pttl(keys.circuit("primary")) <= CIRCUIT_LIFE_MS
    await queue.upstreams.fail("backup", "a", "a", BREAKER)
    assert 0 < await redis.pttl(keys.failures("backup")) <= BREAKER.window_ms


# ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def calls_on(queue: Queue, life_ms: int) -> UpstreamCalls:
    """With slots and reports that live so long."""
    return UpstreamCalls(queue.server, lease_ms=life_ms // SLOT_LEASES)


async def test_slots_are_never_more_than_there_are(queue: Queue, redis: Redis) -> None:
    workers = [calls_on(queue, 5000) for _ in range(4)]
    taken = await asyncio.gather(*(workers[n % 4].occupy("primary", f"call {n}", 7) for n in range(100)))
    assert sum(taken) == 7
    assert await redis.zcard(keys.slots("primary")) == 7
    holder = next(n for n, is_taken in enumerate(taken) if is_taken)
    await workers[0].free("primary", f"call {holder}")
    assert await workers[1].occupy("primary", "next", 7)
    assert not await workers[2].occupy("primary", "one more", 7)
    assert await workers[3].occupy("backup", "call", 1)


async def test_slot_that_is_asked_for_again_is_the_same(queue: Queue, redis: Redis) -> None:
    calls = calls_on(queue, 5000)
    assert [await calls.occupy("primary", "a", 1) for _ in range(3)] == [True, True, True]
    assert await redis.zcard(keys.slots("primary")) == 1


async def test_slot_of_a_worker_that_died_is_free_after_its_life(queue: Queue) -> None:
    calls = calls_on(queue, 60)
    assert await calls.occupy("primary", "of the dead", 1)
    assert not await calls.occupy("primary", "next", 1)
    await asyncio.sleep(0.08)
    assert await calls.occupy("primary", "next", 1)


async def test_slot_lives_as_long_as_it_is_renewed(queue: Queue, redis: Redis) -> None:
    calls = calls_on(queue, 90)
    await calls.occupy("primary", "a", 1)
    for _ in range(5):
        await asyncio.sleep(0.03)
        await calls.renew({"primary": ["a"], "backup": []})
        assert not await calls.occupy("primary", "b", 1)
    assert 0 < await redis.pttl(keys.slots("primary")) <= 90
    await asyncio.sleep(0.12)
    assert await redis.exists(keys.slots("primary")) == 0


async def test_call_whose_slot_expired_counts_again_once_it_is_renewed(queue: Queue, redis: Redis) -> None:
    calls = calls_on(queue, 60)
    await calls.occupy("primary", "suspended", 2)
    await asyncio.sleep(0.08)
    others = calls_on(queue, 5000)
    assert await others.occupy("primary", "a", 2)
    assert await others.occupy("primary", "b", 2)
    await others.renew({"primary": ["suspended"]})
    assert await redis.zcard(keys.slots("primary")) == 3
    await others.free("primary", "a")
    assert not await others.occupy("primary", "c", 2)
    await others.free("primary", "b")
    assert await others.occupy("primary", "c", 2)


# ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_counts_of_all_workers_are_added_and_a_repeated_report_once(queue: Queue) -> None:
    calls = queue.upstreams
    assert await calls.usage() == {}
    for worker in ("one", "two"):
        await queue.presence.heartbeat(worker)
        for _ in range(2):
            await calls.report(worker, 1, {"primary": (10, 1), "backup": (1, 0)}, {"primary": 3})
    assert await calls.usage() == {"backup": UpstreamUsage(2, 0, 0), "primary": UpstreamUsage(20, 2, 6)}
    await calls.report("one", 2, {"primary": (5, 0)}, {"primary": 1})
    await calls.withdraw("two")
    await opened(calls)
    assert (await calls.usage())["primary"] == UpstreamUsage(25, 2, 1, is_open=True)


async def test_durations_of_all_workers_are_added(queue: Queue) -> None:
    calls = queue.upstreams
    for worker in ("one", "two"):
        durations = duration_counts(GAP, "primary", [0.02, 7.0]) | duration_counts(FIRST_TOKEN, "primary", [0.5])
        await calls.report(worker, 1, {"primary": (1, 0)}, {}, durations)
    usage = (await calls.usage())["primary"]
    assert usage.gap == Histogram((0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0), 14.04)
    assert (sum(usage.first_token.counts), usage.first_token.seconds) == (2, 1.0)


async def test_report_of_a_worker_that_died_expires(queue: Queue, redis: Redis) -> None:
    calls = calls_on(queue, 3000)
    await calls.report("one", 1, {"primary": (1, 0)}, {"primary": 1})
    assert 2000 < await redis.pttl(keys.upstream_report("one")) <= 3000
    assert (await calls.usage())["primary"] == UpstreamUsage(1, 0, 0), "it sends no heartbeat"


async def test_news_of_an_upstream_replace_what_was_known(queue: Queue, redis: Redis) -> None:
    calls = queue.upstreams
    await calls.report("one", 1, {"primary": (2, 1)}, {}, {f"{LIMITED}:primary": 3})
    await calls.note("primary")
    assert not await redis.exists(keys.upstream_news("primary")), "there are none"
    await calls.note("primary", error="429", remaining={"requests": 17})
    await calls.note("primary", remaining={"requests": 16, "tokens": 4000})
    usage = (await calls.usage())["primary"]
    assert (usage.limited, usage.news.error, usage.news.requests, usage.news.tokens) == (3, "429", 16, 4000)
    assert abs(await queue.server.now() - usage.news.error_at) < 5000
    assert 0 < await redis.pttl(keys.upstream_news("primary")) <= NEWS_LIFE_MS
