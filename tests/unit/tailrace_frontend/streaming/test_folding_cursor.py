"""The cursor of a format that folds: what it sends, and how often."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.hub_harness import Client, Collector, HubHarness, until
from support.logs import LogBuilder, record, text_opened, texts
from tailrace.events import Entry, Finish
from tailrace.ids import EntryId
from tailrace.wire import JSON_VALUES
from tailrace.wire.json_value import JsonLines
from tailrace_frontend.encoders import Encoders
from tailrace_frontend.streaming import folding_cursor
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.folding_cursor import FoldingCursor

RECORD = record(structured=True)
PIECES = '{"ci|ty"|: "Par|is", "n|": 1|2|}| '


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness(lease_s=5.0)
    yield harness
    await harness.close()


def log_of(pieces: str = PIECES) -> list[Entry]:
    log = LogBuilder(RECORD, coalesce=1).start().add(text_opened(), *texts(pieces))
    return log.end("completed", Finish(0, "stop"))


async def follow(harness: HubHarness, after: EntryId | None = None) -> Collector:
    """A cursor on the log, whose reader has the entries up to a position."""
    collector, state = Collector(), await harness.log.state(RECORD.id)
    lines = await Encoders(harness.log, asyncio.Semaphore(1)).bind(JSON_VALUES, state, after)
    assert isinstance(lines, JsonLines)
    collector.cursor = FoldingCursor(harness.hub, JSON_VALUES, lines, state, after, collector)
    harness.tasks.append(asyncio.create_task(collector.run()))
    return collector


def lines_in(collector: Collector) -> list[dict[str, Any]]:
    return [json.loads(line) for line in collector.body.splitlines()]


async def caught_up(collector: Collector) -> None:
    await until(lambda: collector.cursor.state is State.FOLLOWING and collector.is_idle)


async def completed(collector: Collector) -> list[dict[str, Any]]:
    await until(lambda: collector.cursor.state is State.COMPLETE)
    return lines_in(collector)


async def test_finished_log_is_one_line(harness: HubHarness) -> None:
    await harness.create(RECORD, log_of())
    (line,) = await completed(await follow(harness))
    assert (line["value"], line["is_complete"], line["done"]["status"]) == (
        {"city": "Paris", "n": 12},
        True,
        "completed",
    )


async def test_live_log_is_a_line_for_each_change(harness: HubHarness) -> None:
    entries = log_of()
    await harness.create(RECORD, entries[:1])
    collector = await follow(harness)
    await caught_up(collector)
    for entry in entries[1:]:
        await harness.append(RECORD, [entry])
        await asyncio.sleep(0.001)
    lines = await completed(collector)
    assert [line["value"] for line in lines] == [
        {}, {"city": "Par"}, {"city": "Paris"}, {"city": "Paris", "n": 1}, *3 * [{"city": "Paris", "n": 12}],
    ]  # fmt: skip


@pytest.mark.parametrize("cut", range(1, len(log_of())))
async def test_reader_that_resumes_gets_only_what_is_new(harness: HubHarness, cut: int) -> None:
    entries = log_of()
    await harness.create(RECORD, entries[:cut])
    collector = await follow(harness, after=entries[cut - 1].id)
    await caught_up(collector)
    assert lines_in(collector) == []
    await harness.append(RECORD, entries[cut:])
    *_, end = await completed(collector)
    assert (end["value"], end["id"]) == ({"city": "Paris", "n": 12}, str(entries[-1].id))


async def test_two_readers_of_one_log_have_values_of_their_own(harness: HubHarness) -> None:
    entries = log_of()
    await harness.create(RECORD, entries[:5])
    one, two = await follow(harness), await follow(harness, after=entries[2].id)
    await caught_up(one)
    await caught_up(two)
    await harness.append(RECORD, entries[5:])
    for collector in (one, two):
        assert (await completed(collector))[-1]["value"] == {"city": "Paris", "n": 12}


async def test_large_values_are_sent_at_their_rate(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding_cursor, "BYTES_PER_S", 100)
    entries = log_of('["|' + "|".join("abcdefgh" for _ in range(40)) + '"]')
    await harness.create(RECORD, entries[:4])
    collector = await follow(harness)
    await caught_up(collector)
    for entry in entries[4:-2]:
        await harness.append(RECORD, [entry])
    cursor = collector.cursor
    assert isinstance(cursor, FoldingCursor)
    assert len(lines_in(collector)) == 1
    assert cursor.needs_tick
    cursor._due_at = time.monotonic()
    collector.wake()  # as the hub's tick does
    await until(lambda: collector.is_idle)
    assert lines_in(collector)[-1]["value"] == ["abcdefgh" * 39]
    assert not collector.cursor.needs_tick
    await harness.append(RECORD, entries[-2:])
    assert (await completed(collector))[-1]["done"]


async def test_restart_is_a_line(harness: HubHarness) -> None:
    log = LogBuilder(RECORD, coalesce=1).start().add(text_opened(), *texts('{"a": 1'))
    log._flush()
    before = len(log.entries)
    entries = log.restart().add(text_opened(1), *texts('{"b": 2}', item=1)).end("completed", Finish(0, "stop"))
    await harness.create(RECORD, entries[:before])
    collector = await follow(harness)
    await caught_up(collector)
    for entry in entries[before:]:
        await harness.append(RECORD, [entry])
        await asyncio.sleep(0.001)
    values = [(line["value"], line.get("restarted", {}).get("reason")) for line in await completed(collector)]
    assert values == [({"a": 1}, None), (None, "worker_lost"), ({"b": 2}, None), ({"b": 2}, None)]


async def test_log_that_no_longer_continues_begins_again(harness: HubHarness) -> None:
    entries = log_of()
    await harness.create(RECORD, entries)
    other = EntryId(entries[5].id.epoch - 1, entries[5].id.seq)
    collector = await follow(harness, after=other)
    lines = await completed(collector)
    if len(lines) == 2:  # the position was no entry of this log
        assert lines[0] == {"value": None, "is_complete": False, "restarted": {"reason": "log_changed"}}
    assert lines[-1]["value"] == {"city": "Paris", "n": 12}


async def test_deleted_log_ends_with_a_line(harness: HubHarness) -> None:
    await harness.create(RECORD, log_of()[:5])
    collector = await follow(harness)
    await caught_up(collector)
    await harness.delete(RECORD)
    assert (await completed(collector))[-1]["gone"] == {"reason": "deleted"}


async def test_slow_client_is_sent_one_line_for_what_it_has_missed(harness: HubHarness) -> None:
    entries = log_of()
    await harness.create(RECORD, entries[:3])
    collector = await follow(harness)
    await caught_up(collector)
    collector.has_room = collector.is_idle = False
    for entry in entries[3:]:
        await harness.append(RECORD, [entry])
    assert lines_in(collector) == []
    collector.make_room()
    (line,) = await completed(collector)
    assert line["value"] == {"city": "Paris", "n": 12}


async def test_connection_uses_it_for_lines(harness: HubHarness) -> None:
    from support.hub_harness import HEADERS
    from tailrace_frontend.api_keys import ApiKey
    from tailrace_frontend.streaming.stream_connection import StreamConnection

    await harness.create(RECORD, log_of())
    client = Client()
    stream = StreamConnection(
        harness.hub, JSON_VALUES, JSON_VALUES.bind(RECORD, None), await harness.log.state(RECORD.id), None,
        headers=HEADERS, client=client.connection, send=client.send, caller=ApiKey(RECORD.owner, b""),
        may_read=lambda _: True,
    )  # fmt: skip
    await stream.run()
    assert isinstance(stream.cursor, FoldingCursor)
    assert client.completed
    assert json.loads(client.body)["value"] == {"city": "Paris", "n": 12}


async def test_large_value_counts_among_what_the_process_holds(harness: HubHarness) -> None:
    entries = log_of('["|' + "x" * 100_000 + "|" + "y" * 900_000 + '"]')
    await harness.create(RECORD, entries[:4])
    collector = await follow(harness)
    await caught_up(collector)
    assert collector.held == 0
    await harness.append(RECORD, entries[4:5])
    assert collector.held == 200_004
    await harness.append(RECORD, entries[5:6])
    assert collector.cursor.state is State.ABORTED
    again = await follow(harness, after=entries[5].id)
    await until(lambda: again.cursor.is_final)
    assert (again.cursor.state, again.body) == (State.ABORTED, b"")
