"""docs/capacity.md is what `scripts/simulate write --all` writes."""

import pytest

from simulation.page import BEGIN, FAST, FAST_PLOTS, PAGE, plot_path, rendered
from simulation.plots import LONG_PLOTS, PLOTS
from simulation.tables import LONG, TABLES


def test_fast_tables_are_not_stale() -> None:
    page = PAGE.read_text()
    assert rendered(page, FAST) == page, "run scripts/simulate write"


@pytest.mark.parametrize("name", FAST_PLOTS)
def test_fast_plots_are_not_stale(name: str) -> None:
    assert plot_path(name).read_text() == PLOTS[name](), "run scripts/simulate write"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(LONG))
def test_long_tables_are_not_stale(name: str) -> None:
    page = PAGE.read_text()
    assert rendered(page, [name]) == page, "run scripts/simulate write --all"


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LONG_PLOTS))
def test_long_plots_are_not_stale(name: str) -> None:
    assert plot_path(name).read_text() == PLOTS[name](), "run scripts/simulate write --all"


def test_page_shows_every_table_and_plot() -> None:
    page = PAGE.read_text()
    assert [name for name in TABLES if page.count(BEGIN.format(name)) != 1] == []
    assert [name for name in PLOTS if page.count(f"({name}.svg)") != 1] == []


def test_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for `sizing`"):
        rendered(PAGE.read_text().replace(BEGIN.format("sizing"), ""), ["sizing"])
