"""The tables of `docs/growth.md`, and its pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from growth.curves import CURVES, Curve
from growth.results import Growth
from growth.svg import Line, plot

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "growth.md"
BEGIN = "<!-- scripts/growth writes `{}` from here -->\n"
END = "<!-- to here -->"


def pictures(results: Mapping[str, Growth]) -> dict[Path, str]:
    """The picture of each curve that was measured, by its file."""
    return {DOCS / f"growth-{name}.svg": _picture(CURVES[name], found) for name, found in results.items()}


def _picture(curve: Curve, found: Growth) -> str:
    panels = [(panel.unit, [Line(name, found.series(name)) for name in panel.series]) for panel in curve.panels]
    return plot(curve.title, curve.work, panels)


def rendered(page: str, results: Mapping[str, Growth]) -> str:
    """The page with its tables as the results are.

    Raises:
        ValueError: it has no place for a table.
    """
    for name, found in results.items():
        begin = BEGIN.format(name)
        before, there, rest = page.partition(begin)
        _, end, after = rest.partition(END)
        if not there or not end:
            raise ValueError(f"docs/growth.md has no place for `{name}`: {begin}")
        page = "".join((before, begin, *(f"{line}\n" for line in _table(name, CURVES[name], found)), end, after))
    return page


def _table(name: str, curve: Curve, found: Growth) -> Iterator[str]:
    amounts = sorted(found.points)
    yield f"![{curve.title}](growth-{name}.svg)\n"
    yield f"| {curve.work} | {' | '.join(f'{amount:,}' for amount in amounts)} | grows as |"
    yield "|---" * (len(amounts) + 2) + "|"
    for panel in curve.panels:
        for series in panel.series:
            values = dict(found.series(series))
            cells = [_figure(values[amount]) if amount in values else "" for amount in amounts]
            yield f"| {series}, {panel.unit.strip()} | {' | '.join(cells)} | {growth(found.series(series))} |"
    yield f"\n{found.machine}, {found.date}, one run.\n"


def growth(points: Sequence[tuple[int, float]]) -> str:
    """The exponent of the work, by the last decade of it or more: 0 is flat, 1 linear."""
    last, value = points[-1]
    earlier = [(x, y) for x, y in points[:-1] if 0 < x <= last / 10]
    if not earlier or min(value, earlier[-1][1]) <= 0:
        return ""
    x, y = earlier[-1]
    return f"work^{math.log(value / y) / math.log(last / x):.2f}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
