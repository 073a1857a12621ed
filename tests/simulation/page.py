"""Writes the tables and plots of docs/capacity.md. What surrounds them is written by hand."""

from collections.abc import Callable, Collection
from pathlib import Path

from simulation.plots import LONG_PLOTS, PLOTS
from simulation.tables import LONG, TABLES

PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
BEGIN = "<!-- scripts/simulate writes `{}` from here -->"
END = "<!-- to here -->"
FAST = [name for name in TABLES if name not in LONG]
FAST_PLOTS = [name for name in PLOTS if name not in LONG_PLOTS]


def rendered(page: str, names: Collection[str], on_table: Callable[[str], None] = lambda _: None) -> str:
    """The page with these tables as they are now.

    Raises:
        ValueError: it has no place for a table.
    """
    for name in names:
        on_table(name)
        begin = f"{BEGIN.format(name)}\n"
        if page.count(begin) != 1:
            raise ValueError(f"docs/capacity.md has {page.count(begin)} places for `{name}`: {begin}")
        before, _, rest = page.partition(begin)
        _, end, after = rest.partition(END)
        page = "".join((before, begin, *(f"{line}\n" for line in TABLES[name]()), end, after))
    return page


def plot_path(name: str) -> Path:
    return PAGE.parent / f"{name}.svg"


def write(tables: Collection[str], plots: Collection[str], on_part: Callable[[str], None] = lambda _: None) -> None:
    """Raises:
    ValueError: the page has no place for a table.
    """
    PAGE.write_text(rendered(PAGE.read_text(), tables, on_part))
    for name in plots:
        on_part(name)
        plot_path(name).write_text(PLOTS[name]())
