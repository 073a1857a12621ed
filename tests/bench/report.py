"""Output on the terminal: progress during the runs, then the table, then the plot."""

import math
from collections.abc import Collection, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench.measures import MEASURES, TITLES, Measure, Unit
from bench.results import Result

PLOT_WIDTH = 60
PLOT_FROM, PLOT_TO = 1 / 8, 8.0
"""Shares of the must at the plot's left and right edge; between them it is logarithmic."""


WIDTH = 160  # where the output is no terminal


def console() -> Console:
    shown = Console()
    return shown if shown.is_terminal else Console(width=WIDTH)


def progress(console: Console) -> Progress:
    bar = BarColumn(bar_width=30)
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), bar, MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def table(results: Mapping[str, Result], workloads: Collection[str]) -> Table:
    """A row for each measure of these workloads. A measure of peers that has not run names its script."""
    rows = Table(title="Median of the runs [lowest – highest]; the figures on the right are absolute, for orientation")
    for column in ("workload", "measure"):
        rows.add_column(column, overflow="fold")
    for column in ("must", "goal", "measured"):
        rows.add_column(column, justify="right", no_wrap=True)
    rows.add_column("beside it", overflow="fold")
    shown = None
    for name, measure in MEASURES.items():
        if measure.workload not in workloads:
            continue
        title = TITLES[measure.workload]
        if title != shown:
            rows.add_section()
        rows.add_row("" if title == shown else title, measure.description, *_figures(measure, results.get(name)))
        shown = title
    for name in results.keys() - MEASURES.keys():
        rows.add_section()
        rows.add_row(
            TITLES.get(name, name), "(its measure is in scripts/bench-peers)", "", "", "", _beside(results[name])
        )
    return rows


def _figures(measure: Measure, result: Result | None) -> tuple[str, str, Text, str]:
    sign = "≥" if measure.more else "≤"
    bounds = [f"{sign} {figure(bound, measure.unit)}" for bound in (measure.must, measure.goal)]
    if result is None or result.value is None:
        where = "scripts/bench-peers" if measure.workload.endswith("-peers") else ""
        return bounds[0], bounds[1], Text("not run", "dim"), where
    median, low, high = result.value
    spread = f" [{figure(low)} – {figure(high)}]" if result.runs > 1 else ""
    return bounds[0], bounds[1], Text(figure(median, measure.unit) + spread, _style(measure, median)), _beside(result)


def _style(measure: Measure, value: float) -> str:
    if measure.meets(value, measure.goal):
        return "bold green"
    return "green" if measure.meets(value, measure.must) else "bold red"


def _beside(result: Result) -> str:
    """A line for each side."""
    sides: dict[str, list[str]] = {}
    for name, value in result.beside.items():
        side, _, quantity = name.partition(": ")
        sides.setdefault(side if quantity else "", []).append(f"{quantity or side} {figure(value)}")
    return "\n".join(f"{side}: {', '.join(figures)}".removeprefix(": ") for side, figures in sides.items())


def figure(value: float, unit: Unit | None = None) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return "–"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    number = f"{value:,.{digits}f}" if digits == 0 else f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return number if unit is None else f"{number} {unit}"


def plot(results: Mapping[str, Result]) -> Table:
    """Each measure as a share of its must, on a logarithmic scale; left is better."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row(Text("to the must"), _scale(), Text(""))
    for name, measure in MEASURES.items():
        result = results.get(name)
        if result is not None and result.value is not None:
            median = result.value.median
            rows.add_row(Text(name), _bar(measure, median), Text(figure(median, measure.unit)))
    return rows


def _scale() -> Text:
    marks = [" "] * (PLOT_WIDTH + 2)
    for share, mark in ((0.25, "¼"), (0.5, "½"), (1, "1"), (2, "2"), (4, "4")):
        marks[_place(share)] = mark
    return Text("".join(marks) + "  (┊ must, ╵ goal; shorter is better)", "dim")


def _bar(measure: Measure, value: float) -> Text:
    length = _place(measure.share_of_must(value))
    bar = ["━"] * length + [" "] * (PLOT_WIDTH + 2 - length)
    bar[_place(measure.share_of_must(measure.goal))] = "╵"
    bar[_place(1)] = "┊"
    return Text("".join(bar), _style(measure, value))


def _place(share: float) -> int:
    """The position of a share of the must, in characters from the left."""
    reach = math.log(min(max(share, PLOT_FROM), PLOT_TO) / PLOT_FROM) / math.log(PLOT_TO / PLOT_FROM)
    return 1 + round(reach * PLOT_WIDTH) if share > 0 else 0
