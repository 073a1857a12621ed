"""One snapshot task, however many look."""

import asyncio
from typing import Any

import pytest

from tailrace.errors import RedisUnavailable
from tailrace_frontend.dashboard import feed as module
from tailrace_frontend.dashboard.feed import SnapshotFeed
from tailrace_frontend.dashboard.snapshot import ServerFigures, Snapshot


class Reader:
    def __init__(self) -> None:
        self.reads = 0
        self.error: Exception | None = None

    async def read(self) -> Snapshot:
        self.reads += 1
        if self.error:
            raise self.error
        return Snapshot(
            self.reads * 1000, 0, 0, 0.0, [], {}, {}, [ServerFigures("redis", 1, 2, 3, 4)], 0, []
        )  # fmt: skip

    first = read


class Viewer:
    def __init__(self) -> None:
        self.events: list[bytes] = []

    def show(self, event: bytes) -> None:
        self.events.append(event)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)
    monkeypatch.setattr(module, "LINGER_S", 0.0)
    return Reader()


def feed_of(reader: Any) -> SnapshotFeed:
    return SnapshotFeed(reader)


async def test_feed_without_viewers_reads_nothing(reader: Reader) -> None:
    feed = feed_of(reader)
    await asyncio.sleep(0)
    assert (reader.reads, feed.is_running) == (0, False)


async def test_fifty_viewers_cost_what_one_does(reader: Reader) -> None:
    feed, viewers = feed_of(reader), [Viewer() for _ in range(50)]
    for viewer in viewers:
        feed.join(viewer)
    await until_async(lambda: all(len(viewer.events) >= 3 for viewer in viewers))
    assert reader.reads <= max(len(viewer.events) for viewer in viewers) + 1
    assert viewers[0].events[0] is viewers[49].events[0], "encoded once"
    assert b'"recent"' in viewers[0].events[0]
    assert b'"recent"' not in viewers[0].events[1]
    await feed.close()


async def test_feed_ends_with_its_last_viewer_and_begins_again(reader: Reader) -> None:
    feed, viewer = feed_of(reader), Viewer()
    feed.join(viewer)
    await until_async(lambda: viewer.events)
    feed.leave(viewer)
    await until_async(lambda: not feed.is_running)
    reads = reader.reads
    await asyncio.sleep(0.05)
    assert reader.reads == reads
    feed.join(viewer)
    await until_async(lambda: reader.reads > reads)
    await feed.close()


async def test_viewer_who_comes_later_gets_the_minutes_before(reader: Reader) -> None:
    feed, early, late = feed_of(reader), Viewer(), Viewer()
    feed.join(early)
    await until_async(lambda: len(early.events) > 2)
    feed.join(late)
    assert b'"recent":[[1.0,' in late.events[0]
    await feed.close()


async def test_snapshots_go_on_after_an_outage(reader: Reader) -> None:
    feed, viewer = feed_of(reader), Viewer()
    reader.error = RedisUnavailable("away")
    feed.join(viewer)
    await until_async(lambda: viewer.events)
    assert viewer.events[0].startswith(b"event: away\n")
    reader.error = None
    await until_async(lambda: viewer.events[-1].startswith(b"event: snapshot\n"))
    reader.error = ValueError("a defect")
    await until_async(lambda: viewer.events[-1].startswith(b"event: away\n"))
    await feed.close()


async def test_single_snapshot_needs_no_task(reader: Reader) -> None:
    feed = feed_of(reader)
    assert (await feed.now()).at == 1000
    assert not feed.is_running


async def until_async(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the task of the feed signals nothing
            await asyncio.sleep(0.01)
