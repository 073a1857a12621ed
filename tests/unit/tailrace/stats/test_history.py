"""The history on the real server. Two processes are two `History`."""

import random
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.redis.server import RedisServer
from tailrace.stats import Stats
from tailrace.stats.history import HELD, History
from tailrace.stats.history_reader import HistoryReader, Slot
from tailrace.stats.slots import BUCKETS, COUNTERS, HISTOGRAMS, MAX_BUCKET, MINUTES, TEN_MINUTES, WIDTHS
from tailrace.stats.table import METRICS, Metric

NOON = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


class Harness:
    """A server that may be away, or lose replies, and the processes that write into it."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.server = RedisServer(redis)
        self.clock = Clock()
        self.reader = HistoryReader(self.server, clock=self.clock)

    def process(self, tier: str = "frontend", **options: object) -> tuple[Stats, History]:
        stats = Stats(tier)  # type: ignore[arg-type]
        return stats, History(stats, self.server, {}, clock=self.clock, **options)  # type: ignore[arg-type]

    async def newest(self) -> Slot:
        return (await self.reader.last(MINUTES, 1))[0]


@pytest.fixture
def harness(redis: Redis) -> Harness:
    return Harness(redis)


async def test_counts_of_all_processes_add_up_in_slots_of_both_widths(harness: Harness) -> None:
    for _ in range(3):
        stats, history = harness.process()
        stats.count("generations_created_total").inc(2)
        stats.count("generations_total", "failed", "worker_lost").inc()
        stats.count("generations_total", "completed", "stop").inc(5)
        stats.count("generations_total", "completed", "length").inc(1)
        stats.count("output_tokens_total", "demo").inc(100)
        await history.flush()
    for width in WIDTHS:
        harness.clock.now = NOON + 30
        slot = (await harness.reader.last(width, 1))[0]
        assert (slot.start, slot.seconds) == (NOON, 30), "it is not over"
        expected = {"created": 6, "ended:failed": 3, "failed:worker_lost": 3, "ended:completed": 18, "output": 300}
        assert {name: slot.counts[name] for name in expected} == expected
        assert slot.counts["input"] == 0
        assert slot.per_second("output") == 10
        harness.clock.now = NOON + width.seconds
        slot = (await harness.reader.last(width, 2))[0]
        assert (slot.start, slot.seconds, slot.per_second("output")) == (NOON, width.seconds, 300 / width.seconds)


async def test_each_flush_has_only_what_was_counted_since_the_last_one(harness: Harness) -> None:
    stats, history = harness.process()
    for _ in range(4):
        stats.count("generations_created_total").inc()
        stats.durations("delivery_lag_seconds").observe(0.003)
        await history.flush()
        await history.flush()
    slot = await harness.newest()
    assert slot.counts["created"] == 4
    assert slot.histograms["lag"].count == 4
    assert slot.histograms["lag"].seconds == pytest.approx(0.012)


async def test_time_moves_on_by_slots(harness: Harness) -> None:
    stats, history = harness.process()
    for minute in range(20):
        stats.count("generations_created_total").inc(minute)
        await history.flush()
        harness.clock.now += 60
    minutes = await harness.reader.last(MINUTES, 21)
    assert [slot.counts["created"] for slot in minutes] == [*range(20), 0]
    assert [slot.start for slot in minutes] == [NOON + 60 * n for n in range(21)]
    tens = await harness.reader.last(TEN_MINUTES, 3)
    assert [slot.counts["created"] for slot in tens] == [sum(range(10)), sum(range(10, 20)), 0]


async def test_flush_whose_reply_was_lost_is_added_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is lost after the script has run, several times, and more is counted meanwhile."""
    stats, history = harness.process()
    execute = harness.server.execute

    async def lose_reply(*command: object) -> object:
        await execute(*command)
        raise RedisUnavailable("the reply was lost")

    monkeypatch.setattr(harness.server, "execute", lose_reply)
    for _ in range(5):
        stats.count("generations_created_total").inc()
        with pytest.raises(RedisUnavailable):
            await history.flush()
    monkeypatch.undo()
    await history.flush()
    assert (await harness.newest()).counts["created"] == 5


async def test_nothing_is_lost_while_redis_is_away_and_minutes_stay_apart(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats, history = harness.process()

    async def fail(*_: object) -> object:
        raise RedisUnavailable("away")

    monkeypatch.setattr(harness.server, "execute", fail)
    for minute in range(15):
        stats.count("generations_created_total").inc(minute + 1)
        await history.flush_or_log()
        harness.clock.now += 60
    monkeypatch.undo()
    await history.flush()
    slots = await harness.reader.last(MINUTES, 16)
    assert [slot.counts["created"] for slot in slots] == [*range(1, 16), 0]


async def test_long_absence_takes_bounded_memory_and_loses_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats, history = harness.process()

    async def fail(*_: object) -> object:
        raise RedisUnavailable("away")

    monkeypatch.setattr(harness.server, "execute", fail)
    for _ in range(3 * HELD):
        stats.count("generations_created_total").inc()
        await history.flush_or_log()
        harness.clock.now += 60
    assert len(history._held) <= HELD
    monkeypatch.undo()
    await history.flush()
    assert sum(slot.counts["created"] for slot in await harness.reader.last(TEN_MINUTES)) == 3 * HELD


async def test_process_that_restarts_adds_to_what_was_before(harness: Harness) -> None:
    for _ in range(2):
        stats, history = harness.process()
        stats.count("generations_created_total").inc(3)
        await history.flush()
    assert (await harness.newest()).counts["created"] == 6


async def test_means_are_of_the_sum_over_all_processes_and_peaks_of_the_deployment(harness: Harness) -> None:
    async def waiting() -> float:
        return 7 + (harness.clock.now - NOON) / 10

    processes = [
        History(Stats("worker"), harness.server, {"running": lambda: 4.0}, waiting, clock=harness.clock)
        for _ in range(3)
    ]
    for _ in range(11):
        harness.clock.now += 5
        for history in processes:
            await history.flush()
    slot = await harness.newest()
    assert slot.means["running"] == pytest.approx(3 * 4)
    assert slot.waiting_max == 12


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("draw", [random.expovariate, lambda mean: random.lognormvariate(0, 2) * mean])
async def test_quantile_is_within_a_bucket_of_the_truth(
    harness: Harness, part: float, draw: Callable[[float], float]
) -> None:
    random.seed(7)
    stats, history = harness.process()
    values = sorted(min(80.0, abs(draw(1.5))) for _ in range(5000))
    for value in values:
        stats.durations("e2e_latency_seconds", "demo").observe(value)
    await history.flush()
    histogram = (await harness.newest()).histograms["e2e"]
    truth, found = values[int(part * len(values))], histogram.quantile(part)
    assert found is not None
    assert truth / 2 <= found <= truth * 2
    assert histogram.mean == pytest.approx(sum(values) / len(values))


async def test_quantile_of_nothing_is_none(harness: Harness) -> None:
    slot = await harness.newest()
    assert {each.quantile(0.95) for each in slot.histograms.values()} == {None}
    assert {each.mean for each in slot.histograms.values()} == {None}


async def test_bucket_stops_at_its_greatest_value(harness: Harness) -> None:
    stats, history = harness.process()
    for _ in range(3):
        stats.durations("delivery_lag_seconds").counts[0] += MAX_BUCKET
        await history.flush()
    assert (await harness.newest()).histograms["lag"].counts[0] == MAX_BUCKET


async def test_slots_expire(harness: Harness) -> None:
    stats, history = harness.process()
    stats.count("generations_created_total").inc()
    await history.flush()
    for width in WIDTHS:
        number = NOON // width.seconds
        for name in (keys.stats(width.seconds, number), keys.stats_durations(width.seconds, number)):
            life = await harness.redis.pttl(name)
            assert life == -2 or 0 < life <= width.life_ms


def _labels(metric: Metric) -> tuple[str, ...]:
    return metric.known[0] if metric.known else ("demo",) * len(metric.labels)


async def test_history_of_a_hundred_processes_takes_less_than_a_megabyte(harness: Harness) -> None:
    """Every counter, every known label and every bucket of every slot has a value."""
    redis = harness.redis

    async def waiting() -> float:
        return 9_999

    for number in range(100):
        stats, history = harness.process("worker" if number % 2 else "frontend")
        for metric in METRICS:
            if stats.tier not in metric.tiers or metric.kind == "gauge":
                continue
            for labels in metric.known or [_labels(metric)]:
                if metric.kind == "counter":
                    stats.count(metric.name, *labels).inc(1000)
                else:
                    durations = stats.durations(metric.name, *labels)
                    for bucket in range(len(durations.counts)):
                        durations.counts[bucket] += 1000
                    durations.total += 12345.678
        history._gauges = {"readers": lambda: 9.0, "running": lambda: 9.0}
        history._waiting = waiting
        harness.clock.now = NOON + number % 50
        await history.flush()
    harness.clock.now = NOON
    source = NOON // MINUTES.seconds, NOON // TEN_MINUTES.seconds
    for width, first in zip(WIDTHS, source, strict=True):
        for slot in range(1, width.kept + 1):
            for key in (keys.stats, keys.stats_durations):
                await redis.copy(key(width.seconds, first), key(width.seconds, first + slot))
                await redis.pexpire(key(width.seconds, first + slot), width.life_ms)
    names = [key async for key in redis.scan_iter("tailrace:{stats}:*")]
    assert len(names) == 2 * sum(width.kept + 1 for width in WIDTHS) + 100
    used = sum([await redis.memory_usage(name, samples=0) or 0 for name in names])
    assert used < 1_000_000


def test_histograms_have_places_of_their_own() -> None:
    assert sum(len(metric.bounds) + 1 for metric in HISTOGRAMS) == BUCKETS
    assert len({metric.history for metric in (*HISTOGRAMS, *COUNTERS)}) == len(HISTOGRAMS) + len(COUNTERS)
