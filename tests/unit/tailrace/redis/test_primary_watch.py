"""When connections are closed and subscribers moved. `tests/contract/test_moved_address.py` has the servers."""

import time

import pytest

from tailrace.redis import primary_watch as module
from tailrace.redis.primary_watch import PrimaryWatch


class Recorder:
    """A pool with one idle connection, a pipeline and a subscriber at once; all calls are recorded."""

    def __init__(self) -> None:
        self._available_connections = [self]
        self.calls: list[str] = []
        self.moments: list[float] = []

    async def disconnect(self, nowait: bool = False) -> None:
        self.calls.append("disconnect now" if nowait else "disconnect")

    def reset(self) -> None:
        self.calls.append("reset")

    def reconnect_from_before(self, moment: float) -> None:
        self.moments.append(moment)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def watch(recorder: Recorder) -> PrimaryWatch:
    watch = PrimaryWatch(recorder, [recorder])  # type: ignore[list-item]  # it has what is called
    watch.subscribers.append(recorder)  # type: ignore[arg-type]
    return watch


async def test_leave_closes_idle_connections_once_for_all_calls_that_were_under_way(
    watch: PrimaryWatch, recorder: Recorder
) -> None:
    began = time.monotonic()
    assert [await watch.leave(began) for _ in range(3)] == [True, False, False]
    assert recorder.calls == ["reset", "disconnect now"]
    assert watch.was_left_since(began)
    assert not watch.was_left_since(time.monotonic())


async def test_leave_is_repeated_after_a_pause_where_the_address_has_not_moved(
    watch: PrimaryWatch, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await watch.leave(time.monotonic())
    assert not await watch.leave(time.monotonic())
    monkeypatch.setattr(module, "REDIAL_S", 0.0)
    assert await watch.leave(time.monotonic())
    assert len(recorder.calls) == 4


def test_note_run_moves_subscribers_of_the_former_server_only(watch: PrimaryWatch, recorder: Recorder) -> None:
    watch.note_run("a")
    watch.note_run("a")
    before = time.monotonic()
    assert recorder.moments == []
    watch.note_run("b")
    assert len(recorder.moments) == 1
    assert recorder.moments[0] <= before
