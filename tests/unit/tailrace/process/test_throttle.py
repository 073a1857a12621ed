import pytest

from tailrace.process import throttle as module
from tailrace.process.throttle import Throttle, shared_interval


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_burst_passes_at_once_and_later_batches_wait_one_interval(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=3)
    assert [throttle.charge() <= 0 for _ in range(3)] == [True] * 3
    for _ in range(5):
        assert throttle.charge() == pytest.approx(0.5)
        clock.now += 0.5


def test_rare_batches_never_wait(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=1)
    for _ in range(10):
        assert throttle.charge() <= 0
        clock.now += 0.6


def test_pause_restores_the_burst(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=2)
    for _ in range(4):
        throttle.charge()
    clock.now += 10
    assert [throttle.charge() <= 0 for _ in range(3)] == [True, True, False]


def test_interval_grows_with_the_batch_up_to_its_limit(clock: Clock) -> None:
    throttle = Throttle(0.5, burst=0, each_s=0.1, longest_s=2.0)
    for count, interval_s in ((1, 0.5), (5, 0.5), (6, 0.6), (20, 2.0), (1000, 2.0)):
        assert throttle.charge(count) == pytest.approx(interval_s)
        clock.now += interval_s


def test_connections_share_an_interval_while_they_are_few() -> None:
    assert [shared_interval(0.002, count) for count in (0, 1, 3, 5, 40)] == [0.002, 0.002, 0.006, 0.01, 0.01]
