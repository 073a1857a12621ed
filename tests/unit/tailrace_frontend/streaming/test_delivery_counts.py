"""What a frontend counts of its delivery: lag, gaps, replays and cuts."""

import asyncio
import time

import pytest

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace.log.codec import pack, stamp, stamped, to_row

RECORD = record()
ENTRIES = LOGS["text"](RECORD)


@pytest.fixture
def harness() -> HubHarness:
    return HubHarness(client_write_timeout_s=0.05)


def counts(harness: HubHarness, name: str, *labels: str) -> int:
    return harness.hub.stats.count(name, *labels).value


async def follow(harness: HubHarness, first: int = 3) -> None:
    """A reader that has the first entries and follows live."""
    await harness.create(RECORD, ENTRIES[:first])
    collector = await harness.follow(RECORD)
    harness.confirm(RECORD)
    await until(lambda: collector.is_idle and len(collector.events) >= 1)


async def test_lag_is_that_of_messages_with_a_stamp_that_were_written(harness: HubHarness) -> None:
    await follow(harness)
    lag = harness.hub.stats.durations("delivery_lag_seconds")
    rows = [to_row(entry) for entry in ENTRIES[3:6]]
    harness.publish(RECORD, stamped(rows[:1], stamp(time.time() - 0.5)))
    assert sum(lag.counts) == 1
    assert 0.5 <= lag.total < 60
    harness.publish(RECORD, pack(rows[1:2]))  # of a version without stamps
    assert sum(lag.counts) == 1
    harness.publish(RECORD, stamped(rows[2:3], stamp(time.time() + 100)))  # its clock is ahead
    assert (sum(lag.counts), lag.counts[0]) == (2, 1)
    await harness.close()


async def test_missing_message_is_a_gap_and_is_counted_once(harness: HubHarness) -> None:
    await follow(harness)
    assert counts(harness, "gaps_found_total") == 0
    rows = [to_row(entry) for entry in ENTRIES]
    harness.publish(RECORD, stamped(rows[3:4], stamp(0.0)))
    await harness.append(RECORD, ENTRIES[3:6], published=False)
    harness.publish(RECORD, stamped(rows[5:6], stamp(0.0)))
    assert counts(harness, "gaps_found_total") == 1
    await harness.close()


async def test_entries_from_the_log_are_replayed_ones(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD)
    await until(lambda: collector.cursor.is_final)
    assert counts(harness, "replayed_entries_total") == len(collector.events)
    assert counts(harness, "replayed_bytes_total") == len(collector.body)
    await harness.close()


async def test_streams_that_end_before_their_log_are_counted_by_reason(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    slow, withdrawn, drained, gone = [await harness.connect(RECORD) for _ in range(4)]
    await until(lambda: all(each.stream.is_idle for each in (slow, withdrawn, drained, gone)))
    slow.flow.pause_writing()
    slow.stream.wake()
    await until(lambda: slow.stream.activity == "blocked")
    await asyncio.sleep(0.1)  # beyond the write timeout
    slow.stream.tick(time.monotonic())
    harness.valid_owners.clear()
    withdrawn.stream.tick(time.monotonic() + 31)
    drained.stream.drain()
    gone.disconnect()
    await until(lambda: harness.running == 0)
    found = {reason: counts(harness, "reader_cuts_total", reason) for reason in ("slow", "unauthorized", "stopping")}
    assert found == {"slow": 1, "unauthorized": 1, "stopping": 1}
    assert counts(harness, "reader_cuts_total", "memory") == counts(harness, "reader_cuts_total", "damaged") == 0
    await harness.close()
