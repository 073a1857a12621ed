"""The writer: what merges, what is frozen, what is sent again."""

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
from tailrace_worker.writer import MERGE_CHARACTERS, Stopped, Writer

RECORD = GenerationRecord("gen_" + "a" * 26, "me", "m", Options(60, 60), created=1000)
ATTEMPT = 2000


def state() -> GenerationState:
    return GenerationState(RECORD, "running", ATTEMPT, 1, 0, 9000, 99000, "dispatch")


TOP = 7
BEFORE = [
    to_row(Entry(EntryId(1000, n), event))
    for n, event in (
        (0, Created(1.0)), (2, ItemOpened(0, "text", choices=[0])), (4, ItemOpened(1, "text")), (6, ItemOpened(2,
        "reasoning")), (7, ItemOpened(3, "call", id="call_x", name="f")),
    )
]  # fmt: skip


class Desk:
    """A writer on a log in which four items are open, and whoever it wakes."""

    def __init__(self) -> None:
        self.woken = 0
        self.writer = Writer(LeaseGrant(Outcome.OK, ATTEMPT, 2000, state(), BEFORE), self._wake)

    def _wake(self, _: Writer) -> None:
        self.woken += 1

    def sent(self, *events: Event | tuple[Event, Extra]) -> list[tuple[int, str, str]]:
        """Number, field and value of the rows that these events become in one batch."""
        for event in events:
            self.writer.add(*(event if isinstance(event, tuple) else (event, NO_EXTRA)))
        batch = self.writer.freeze()
        assert batch is not None
        return [(row.seq, row.field, row.value) for row in batch.rows]


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_adjacent_deltas_of_one_place_become_one(desk: Desk) -> None:
    rows = desk.sent(Started(1, 2.0), Text(0, "a"), Text(0, "b"), Text(0, "c"))
    assert rows[1:] == [(TOP + 2, "text:0", "abc")]


async def test_another_place_or_anything_extra_is_an_entry_of_its_own(desk: Desk) -> None:
    rows = desk.sent(
        Text(0, "a"), Text(1, "b"), (Text(1, "c"), Extra(chunk_fields={"x": 1})), Text(1, "d"),
        Reasoning(2, "e"), Reasoning(2, "f", key="reasoning"), ToolArguments(3, "g"), ToolArguments(3, "h"),
    )  # fmt: skip
    assert [value for _, _, value in rows] == ["a", "b", "c", "d", "e", "f", "gh"]


async def test_a_merged_delta_stays_below_the_cap(desk: Desk) -> None:
    rows = desk.sent(Text(0, "x" * (MERGE_CHARACTERS - 1)), Text(0, "y"), Text(0, "z"))
    assert [len(value) for _, _, value in rows] == [MERGE_CHARACTERS, 1]


async def test_the_first_event_wakes_the_pipeline_at_once(desk: Desk) -> None:
    desk.writer.add(Started(1, 2.0))
    assert desk.woken == 1


async def test_a_batch_is_frozen_until_it_is_answered(desk: Desk) -> None:
    desk.writer.add(Text(0, "a"))
    first = desk.writer.freeze()
    desk.writer.add(Text(0, "b"))
    assert desk.writer.freeze() is first
    desk.writer.on_result(RedisUnavailable())
    assert desk.writer.freeze() is first
    desk.writer.on_result(AppendResult(Outcome.OK, TOP + 1))
    second = desk.writer.freeze()
    assert second is not None
    assert [row.value for row in second.rows] == ["b"]
    assert second.after_seq == TOP + 1


async def test_what_a_server_with_older_data_lacks_is_sent_again_as_it_was(desk: Desk) -> None:
    desk.writer.add(Text(0, "a"))
    first = desk.writer.freeze()
    desk.writer.on_result(AppendResult(Outcome.OK, TOP + 1))
    desk.writer.add(Text(0, "b"))
    desk.writer.freeze()
    desk.writer.on_result(AppendResult(Outcome.BEHIND, TOP))
    again = desk.writer.freeze()
    assert first is not None
    assert again is not None
    assert again.after_seq == TOP
    assert [row.value for row in again.rows] == ["a", "b"]
    assert again.rows[0] == first.rows[0]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (AppendResult(Outcome.FENCED), Outcome.FENCED),
        (AppendResult(Outcome.GONE), Outcome.GONE),
        (RedisFull(), "out_of_memory"),
        (RedisRefused(detail="no"), "append_refused"),
    ],
)
async def test_what_cannot_go_on_stops_the_writer(
    desk: Desk, answer: AppendResult | Exception, outcome: Outcome | str
) -> None:
    desk.writer.add(Text(0, "a"))
    desk.writer.freeze()
    desk.writer.on_result(answer)
    assert desk.writer.stopped.result().outcome == outcome
    assert desk.writer.freeze() is None
    with pytest.raises(Stopped):
        await desk.writer.flush()


async def test_flush_returns_when_everything_is_in_the_log(desk: Desk) -> None:
    desk.writer.add(Text(0, "a"))
    flushing = asyncio.create_task(desk.writer.flush())
    await asyncio.sleep(0)
    desk.writer.freeze()
    desk.writer.add(Text(0, "b"))
    desk.writer.on_result(AppendResult(Outcome.OK, TOP + 1))
    await asyncio.sleep(0)
    assert not flushing.done()
    desk.writer.freeze()
    desk.writer.on_result(AppendResult(Outcome.OK, TOP + 2))
    await flushing
    await desk.writer.flush()


@pytest.mark.parametrize("size", [1, 13, 100])
async def test_a_row_costs_about_250_bytes_of_memory_beside_its_text(desk: Desk, size: int) -> None:
    rows = 4000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(rows):
        desk.sent(Text(0, f"{n:0{size}}"))
        desk.writer.on_result(AppendResult(Outcome.OK, TOP + n + 1))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / rows - size < 275
