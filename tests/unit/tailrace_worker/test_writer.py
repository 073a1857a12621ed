"""The writer: what it merges, which batch is in flight, what is sent again."""

import asyncio
import tracemalloc

import pytest

from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import (
    NO_EXTRA,
    Created,
    Entry,
    Event,
    Extra,
    GenerationRecord,
    Item,
    ItemClosed,
    ItemOpened,
    Options,
    Reasoning,
    Started,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace.ids import EntryId
from tailrace.log import AppendResult, LeaseGrant, Outcome
from tailrace.log.codec import to_row
from tailrace.log.state import GenerationState
from tailrace_worker.writer import MAX_UNSENT_BYTES, MERGE_CHARACTERS, Stopped, Writer

RECORD = GenerationRecord("gen_" + "a" * 26, "me", "m", Options(60, 60), created=1000)
EPOCH = 2000


def state() -> GenerationState:
    return GenerationState(RECORD, "running", EPOCH, 1, 0, 9000, 99000, "job_id")


LAST_SEQ = 7
BEFORE = [
    to_row(Entry(EntryId(1000, n), event))
    for n, event in (
        (0, Created(1.0)), (2, ItemOpened(0, "text", choices=[0])), (4, ItemOpened(1, "text")), (6, ItemOpened(2,
        "reasoning")), (7, ItemOpened(3, "call", id="call_x", name="f")),
    )
]  # fmt: skip


class Harness:
    """A writer on a log in which four items are open. `wake_ups` counts its calls of `wake`."""

    def __init__(self) -> None:
        self.wake_ups = 0
        self.writer = Writer(LeaseGrant(Outcome.OK, EPOCH, 2000, state(), BEFORE), self._wake)

    def _wake(self, _: Writer) -> None:
        self.wake_ups += 1

    def batch_of(self, *events: Event | tuple[Event, Extra]) -> list[tuple[int, str, str]]:
        """Number, field and value of the rows that these events become in one batch."""
        for event in events:
            self.writer.add(*(event if isinstance(event, tuple) else (event, NO_EXTRA)))
        batch = self.writer.freeze()
        assert batch is not None
        return [(row.seq, row.field, row.value) for row in batch.rows]


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_adjacent_deltas_of_one_place_are_merged(harness: Harness) -> None:
    rows = harness.batch_of(Started(1, 2.0), Text(0, "a"), Text(0, "b"), Text(0, "c"))
    assert rows[1:] == [(LAST_SEQ + 2, "text:0", "abc")]


async def test_deltas_of_another_place_or_with_extra_are_entries_of_their_own(harness: Harness) -> None:
    rows = harness.batch_of(
        Text(0, "a"), Text(1, "b"), (Text(1, "c"), Extra(chunk_fields={"x": 1})), Text(1, "d"),
        Reasoning(2, "e"), Reasoning(2, "f", key="reasoning"), ToolArguments(3, "g"), ToolArguments(3, "h"),
    )  # fmt: skip
    assert [value for _, _, value in rows] == ["a", "b", "c", "d", "e", "f", "gh"]


async def test_merged_delta_stays_below_the_cap(harness: Harness) -> None:
    rows = harness.batch_of(Text(0, "x" * (MERGE_CHARACTERS - 1)), Text(0, "y"), Text(0, "z"))
    assert [len(value) for _, _, value in rows] == [MERGE_CHARACTERS, 1]


async def test_first_event_wakes_the_appender_at_once(harness: Harness) -> None:
    harness.writer.add(Started(1, 2.0))
    assert harness.wake_ups == 1


async def test_batch_does_not_change_until_its_result(harness: Harness) -> None:
    harness.writer.add(Text(0, "a"))
    first = harness.writer.freeze()
    harness.writer.add(Text(0, "b"))
    assert harness.writer.freeze() is first
    harness.writer.on_result(RedisUnavailable())
    assert harness.writer.freeze() is first
    harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 1))
    second = harness.writer.freeze()
    assert second is not None
    assert [row.value for row in second.rows] == ["b"]
    assert second.after_seq == LAST_SEQ + 1


async def test_rows_that_a_server_with_older_data_lacks_are_sent_again_unchanged(harness: Harness) -> None:
    harness.writer.add(Text(0, "a"))
    first = harness.writer.freeze()
    harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 1))
    harness.writer.add(Text(0, "b"))
    harness.writer.freeze()
    harness.writer.on_result(AppendResult(Outcome.BEHIND, LAST_SEQ))
    again = harness.writer.freeze()
    assert first is not None
    assert again is not None
    assert again.after_seq == LAST_SEQ
    assert [row.value for row in again.rows] == ["a", "b"]
    assert again.rows[0] == first.rows[0]


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (AppendResult(Outcome.FENCED), Outcome.FENCED),
        (AppendResult(Outcome.GONE), Outcome.GONE),
        (RedisFull(), "out_of_memory"),
        (RedisRefused(detail="no"), "append_refused"),
    ],
)
async def test_writer_stops_at_results_that_cannot_be_retried(
    harness: Harness, result: AppendResult | Exception, outcome: Outcome | str
) -> None:
    harness.writer.add(Text(0, "a"))
    harness.writer.freeze()
    harness.writer.on_result(result)
    assert harness.writer.stopped.result().outcome == outcome
    assert harness.writer.freeze() is None
    with pytest.raises(Stopped):
        await harness.writer.flush()


async def test_flush_returns_when_every_event_is_in_the_log(harness: Harness) -> None:
    harness.writer.add(Text(0, "a"))
    flushing = asyncio.create_task(harness.writer.flush())
    await asyncio.sleep(0)
    harness.writer.freeze()
    harness.writer.add(Text(0, "b"))
    harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 1))
    await asyncio.sleep(0)
    assert not flushing.done()
    harness.writer.freeze()
    harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 2))
    await flushing
    await harness.writer.flush()


@pytest.mark.parametrize("size", [1, 13, 100])
async def test_row_costs_about_250_bytes_of_memory_beside_its_text(harness: Harness, size: int) -> None:
    rows = 4000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(rows):
        harness.batch_of(Text(0, f"{n:0{size}}"))
        harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + n + 1))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / rows - size < 275


async def test_rows_are_not_sent_again_while_a_batch_is_in_flight(harness: Harness) -> None:
    """The result of that batch shows what Redis lacks."""
    harness.writer.add(Text(0, "a"))
    first, wake_ups = harness.writer.freeze(), harness.wake_ups
    harness.writer.resend(-1)
    assert harness.writer.freeze() is first
    assert harness.wake_ups == wake_ups
    harness.writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 1))
    harness.writer.resend(LAST_SEQ)
    again = harness.writer.freeze()
    assert again is not None
    assert [row.value for row in again.rows] == ["a"]
    assert harness.wake_ups == wake_ups + 1


async def test_output_bytes_are_those_of_this_attempt_s_content(harness: Harness) -> None:
    extra = Extra(chunk_fields={"x": 1})
    closed = ItemClosed(Item(0, "text", 0, text="a" * 99))
    harness.batch_of(Started(2, 2.0), Text(0, "é" * 2), Text(0, "é"), (Text(0, "b"), extra), closed)
    assert harness.writer.output_bytes == 6 + 1 + len(to_row(Entry(EntryId(1, 1), Text(0, "b"), extra)).extra)


async def test_output_bytes_are_those_of_long_ids_in_each_row(harness: Harness) -> None:
    """Each row of a call has its id: without a limit a long one would be the log's size."""
    arguments = (ToolArguments(1, "x", tool=0, call="c" * 1000), Extra(call={"x": 1}))
    opened = ItemOpened(1, "call", tool=0, id="c" * 1000, name="f")
    harness.batch_of(Started(2, 2.0), opened, arguments, arguments)
    assert harness.writer.output_bytes >= 3 * 1000


async def test_writer_has_no_room_until_redis_has_taken_what_it_holds(harness: Harness) -> None:
    writer = harness.writer
    writer.add(Text(0, "a"))
    assert writer.count_received(MAX_UNSENT_BYTES)
    writer.freeze()
    writer.add(Text(0, "b"))
    assert not writer.count_received(1)
    waiting = asyncio.create_task(writer.wait_for_room())
    writer.on_result(RedisUnavailable())
    await asyncio.sleep(0)
    assert not waiting.done()
    writer.on_result(AppendResult(Outcome.OK, LAST_SEQ + 1))
    await waiting
    assert writer.count_received(0)


async def test_bytes_without_events_take_no_room(harness: Harness) -> None:
    assert harness.writer.count_received(MAX_UNSENT_BYTES + 1)
    await harness.writer.wait_for_room()
