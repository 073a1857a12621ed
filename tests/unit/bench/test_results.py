"""Summing up, comparing and keeping results."""

from pathlib import Path

import pytest

from bench.measures import MEASURES, TITLES, Finding
from bench.quantiles import Spread
from bench.results import Result, load, save, summed_up, worse


def result(value: float) -> Result:
    return Result("2026-11-21", 10, 3, Spread(value, value, value), {})


def test_runs_are_summed_up_by_measure() -> None:
    runs = [Finding("scattered/web", value, {"web µs": 100 * value}) for value in (0.3, 0.1, 0.2)]
    summed = summed_up([*runs, Finding("fan-out", None, {"web µs": 5})], 10)
    assert summed["scattered/web"].value == (0.2, 0.1, 0.3)
    assert summed["scattered/web"].beside == {"web µs": 20}
    assert summed["scattered/web"].runs == 3
    assert summed["fan-out"].value is None


@pytest.mark.parametrize(("now", "is_worse"), [(0.2, False), (0.239, False), (0.241, True), (0.1, False)])
def test_ratio_may_grow_by_a_fifth(now: float, is_worse: bool) -> None:
    assert bool(worse({"scattered/web": result(now)}, {"scattered/web": result(0.2)})) is is_worse


@pytest.mark.parametrize(("now", "is_worse"), [(40.0, False), (33.0, False), (31.0, True), (80.0, False)])
def test_value_may_shrink_by_a_fifth_where_more_is_better(now: float, is_worse: bool) -> None:
    assert bool(worse({"replay/tokens": result(now)}, {"replay/tokens": result(40)})) is is_worse


def test_latency_depends_on_the_machine_and_is_not_compared() -> None:
    assert worse({"busy/p99": result(100)}, {"busy/p99": result(1)}) == []


def test_new_measure_is_not_worse() -> None:
    assert worse({"scattered/web": result(1)}, {}) == []
    nothing = Result("2026-11-21", 10, 3, None, {})
    assert worse({"scattered/web": nothing}, {"scattered/web": result(1)}) == []


def test_partial_run_adds_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "results.json"
    assert load(path) is None
    save(path, {"scattered/web": result(0.2), "replay/tokens": result(30)})
    save(path, {"scattered/web": result(0.1)})
    kept = load(path)
    assert kept is not None
    assert kept.measures == {"scattered/web": result(0.1), "replay/tokens": result(30)}


def test_every_measure_has_a_titled_workload_and_a_goal_beyond_its_must() -> None:
    assert {measure.workload for measure in MEASURES.values()} <= TITLES.keys()
    assert all(measure.meets(measure.goal, measure.must) for measure in MEASURES.values())
