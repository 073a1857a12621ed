import pytest

from tailrace.process import throttle as module
from tailrace.process.throttle import Throttle


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_some_in_a_row_follow_at_once_and_then_they_are_a_gap_apart(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=3)
    assert [throttle.charge() <= 0 for _ in range(3)] == [True] * 3
    for _ in range(5):
        assert throttle.charge() == pytest.approx(0.5)
        clock.now += 0.5


def test_who_comes_seldom_never_waits(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=1)
    for _ in range(10):
        assert throttle.charge() <= 0
        clock.now += 0.6


def test_a_pause_gives_back_what_may_follow_at_once(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=2)
    for _ in range(4):
        throttle.charge()
    clock.now += 10
    assert [throttle.charge() <= 0 for _ in range(3)] == [True, True, False]


def test_the_more_is_done_at_once_the_longer_is_the_gap_up_to_its_bound(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=0, each_s=0.1, longest_s=2.0)
    for count, interval_s in ((1, 0.5), (5, 0.5), (6, 0.6), (20, 2.0), (1000, 2.0)):
        assert throttle.charge(count) == pytest.approx(interval_s)
        clock.now += interval_s
