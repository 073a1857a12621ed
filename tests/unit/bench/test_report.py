import io

import pytest
from rich.console import Console

from bench.measures import MEASURES
from bench.quantiles import Spread
from bench.report import figure, plot, table
from bench.results import Result


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (1.5, "1.5"), (12.34, "12.3"), (1234.5, "1,234"), (48_775.1, "48,775"), (0, "0"),
     (float("nan"), "–")],
)  # fmt: skip
def test_figure_has_three_significant_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_figure_may_have_a_unit() -> None:
    assert figure(15.41, "KB") == "15.4 KB"


def shown(results: dict[str, Result]) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table(results, {measure.workload for measure in MEASURES.values()}), plot(results))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_has_a_row_for_each_measure_run_or_not() -> None:
    text = shown({"scattered/web": Result("2026-11-21", 10, 3, Spread(0.2, 0.1, 0.3), {"naive: web µs": 95.0})})
    assert "0.2 × [0.1 – 0.3]" in text
    assert "naive: web µs 95" in text
    assert text.count("not run") == len(MEASURES) - 1


@pytest.mark.parametrize("value", [1e-9, 0.0001, 1, 1e9])
def test_plot_places_any_value(value: float) -> None:
    assert "scattered/web" in shown({"scattered/web": Result("2026-11-21", 10, 1, Spread(value, value, value), {})})
