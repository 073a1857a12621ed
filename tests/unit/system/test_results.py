"""The table of the chaos suite."""

import pytest

from system.load import Run
from system.results import Play, Row, quantile, spread, table


def play(samples: list[float], load: float = 1.0, *notes: str) -> Play:
    run = Run("worker-kills", 1, {}, [], lambda _: None)
    run.runs, run.samples, run.notes = 2, samples, list(notes)
    return Play(run, 10.0, load)


def test_quantile_is_a_sample() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.99, 1)] == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("values", "text"), [([1.25], "1.2"), ([2.0, 1.0, 1.5], "1.0-2.0"), ([1.01, 1.02], "1.0")])
def test_spread_is_a_value_or_a_range(values: list[float], text: str) -> None:
    assert spread(values, "{:.1f}") == text


def test_table_has_the_figures_of_one_run() -> None:
    _, _, line, note = table([Row("worker-kills", [play([1.0, 2.0], 0.5, "a note")])]).splitlines()
    assert line.split()[:8] == ["worker-kills", "2", "0", "2.00", "2.00", "2.00", "10", "0.5"]
    assert note.strip() == "a note"


def test_table_has_the_range_of_several_runs() -> None:
    plays = [play([1.0], 0.5), play([3.0], 2.5)]
    plays[1].run.wrong("lost", "g1")
    line = table([Row("worker-kills", plays)]).splitlines()[2]
    assert line.split()[:8] == ["worker-kills", "4", "1", "1.00-3.00", "1.00-3.00", "1.00-3.00", "10", "0.5-2.5"]


def test_table_leaves_times_empty_where_a_scenario_measures_none() -> None:
    line = table([Row("same-job", [play([])])]).splitlines()[2]
    assert line.split() == ["same-job", "2", "0", "10", "1.0", "jobs"]
