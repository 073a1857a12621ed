"""Plots as SVG: a panel for each unit, the work on a logarithmic axis, values from zero.

A value axis that begins at zero shows what is flat as flat. Where values span more than a decade, it is logarithmic as
well: a cost that is linear in the work then rises by a decade in each decade of work.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 44, 40
COLOURS = ("#1f6feb", "#bc4c00", "#1a7f37", "#8250df")
STYLE = "font:11px system-ui,sans-serif"


class Line(NamedTuple):
    """A series: amounts of work, and values."""

    name: str
    points: Sequence[tuple[float, float]]


def plot(title: str, work: str, panels: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """One picture. `panels`: each with its unit."""
    width = WIDTH * len(panels)
    size, box = f'width="{width}" height="{HEIGHT + 22}"', f'viewBox="0 0 {width} {HEIGHT + 22}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" style="{STYLE}">',
        f"<title>{escape(title)}</title>",
        f'<rect {size} fill="#fff"/>',
        f'<text x="12" y="16" font-weight="600" fill="#1f2328">{escape(title)}</text>',
    ]
    for index, (unit, lines) in enumerate(panels):
        parts.append(f'<g transform="translate({index * WIDTH},22)">{_panel(unit.strip(), work, lines)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(unit: str, work: str, lines: Sequence[Line]) -> str:
    shown = [line for line in lines if line.points]
    amounts = sorted({x for line in shown for x, _ in line.points})
    values = [y for line in shown for _, y in line.points]
    is_log = min(values) > 0 and max(values) / min(values) > 10
    across, up = _across(amounts), _up(values, is_log=is_log)
    parts = [f'<text x="{LEFT}" y="{TOP - 26}" fill="#59636e">{escape(unit)}</text>']
    for value in _ticks(values, is_log=is_log):
        y = up(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d1d9e0"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#59636e">{_shown(value)}</text>')
    for amount in amounts:
        place = f'x="{across(amount):.1f}" y="{HEIGHT - BOTTOM + 16}"'
        parts.append(f'<text {place} text-anchor="middle" fill="#59636e">{_shown(amount)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end" fill="#59636e">{escape(work)}</text>')
    for number, line in enumerate(shown):
        parts.append(_line(line, COLOURS[number % len(COLOURS)], number, across, up))
    return "".join(parts)


def _line(line: Line, colour: str, number: int, across: "Scale", up: "Scale") -> str:
    places = [(across(x), up(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
    key = LEFT + 106 * number
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>{dots}'
        f'<rect x="{key}" y="{TOP - 18}" width="10" height="3" fill="{colour}"/>'
        f'<text x="{key + 14}" y="{TOP - 13}" fill="#1f2328">{escape(line.name)}</text>'
    )


class Scale(NamedTuple):
    """From a value to a place: `begin` … `end` for values from `low` to `high`."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool
    zero: float = 0.0

    def __call__(self, value: float) -> float:
        low, high, here = self.low, self.high, value
        if self.is_log:
            low, high, here = math.log10(low), math.log10(high), math.log10(max(value, self.zero or self.low))
        share = (here - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)


def _across(amounts: Sequence[float]) -> Scale:
    """No work is shown half a decade before the least work."""
    least = min((amount for amount in amounts if amount > 0), default=1)
    zero = least / 3 if 0 in amounts else least
    return Scale(zero, max(least, *amounts), LEFT + 14, WIDTH - RIGHT - 18, True, zero)


def _up(values: Sequence[float], *, is_log: bool) -> Scale:
    ticks = _ticks(values, is_log=is_log)
    return Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP, is_log)


def _ticks(values: Sequence[float], *, is_log: bool) -> list[float]:
    if is_log:
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return [10.0**power for power in range(first, last + 1)]
    highest = max(values) or 1
    unit = 10 ** math.floor(math.log10(highest / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor * 4 >= highest)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def _shown(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if value >= 10_000 or (value >= 1000 and value % 500 == 0) else f"{value:g}"
