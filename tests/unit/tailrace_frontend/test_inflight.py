import time

import pytest

from tailrace_frontend import inflight
from tailrace_frontend.inflight import Inflight


class Cuts(list[str]):
    """Names of the transfers that were cut."""

    def of(self, name: str) -> inflight.Cut:
        return lambda: self.append(name)


def test_transfers_share_the_budget_and_give_it_back() -> None:
    budget, cuts = Inflight(10), Cuts()
    assert budget.hold("a", 6, cuts.of("a"))
    assert not budget.hold("b", 5, cuts.of("b"))
    assert budget.hold("b", 4, cuts.of("b"))
    assert not budget.hold("b", 5, cuts.of("b"))
    assert budget.total == 10
    budget.release("a")
    budget.release("a")
    assert budget.hold("b", 10, cuts.of("b"))
    budget.release("b")
    assert (budget.total, cuts) == (0, [])


def test_oldest_transfer_is_cut_for_another_once_it_has_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget, cuts = Inflight(10), Cuts()
    assert budget.hold("a", 5, cuts.of("a"))
    now += inflight.UNDISTURBED_S
    assert budget.hold("b", 5, cuts.of("b"))
    assert budget.hold("a", 5, cuts.of("a"))  # it goes on, and does not become younger
    assert budget.hold("c", 2, cuts.of("c"))
    assert cuts == ["a"]
    assert not budget.hold("d", 4, cuts.of("d"))
    assert (budget.total, cuts) == (7, ["a"])


def test_transfer_is_never_cut_for_itself() -> None:
    budget, cuts = Inflight(10, undisturbed_s=0.0), Cuts()
    assert budget.hold("a", 8, cuts.of("a"))
    assert not budget.hold("a", 12, cuts.of("a"))
    assert (budget.total, cuts) == (8, [])
