"""Line charts as SVG, readable on light and on dark pages: colors follow `prefers-color-scheme`."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 34, 44
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600 }
.grid { stroke: #ddd } .axis { stroke: #888 }
.line { fill: none; stroke-width: 2 }
.c0 { stroke: #0b62d6 } .c1 { stroke: #b3460b } .c2 { stroke: #0a7d4f } .c3 { stroke: #8a2bb0 }
.t0 { fill: #0b62d6 } .t1 { fill: #b3460b } .t2 { fill: #0a7d4f } .t3 { fill: #8a2bb0 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #3a3a3a } .axis { stroke: #888 }
.c0 { stroke: #79b0ff } .c1 { stroke: #ffab70 } .c2 { stroke: #6fdca8 } .c3 { stroke: #d9a2f5 }
.t0 { fill: #79b0ff } .t1 { fill: #ffab70 } .t2 { fill: #6fdca8 } .t3 { fill: #d9a2f5 }
}
"""
DASHES = ("", "7 4", "2 4", "9 3 2 3")
"""Lines differ without color, too."""


class Line(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]


class Scale(NamedTuple):
    """From values to pixels; logarithmic where the values span three orders."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        if self.is_log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        while (self.high - self.low) / step > 7:
            step *= 2.5 if f"{step:e}"[0] == "2" else 2
        return [each * step for each in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def chart(title: str, across: str, up: str, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False) -> str:
    """A chart with a line for each series, named at its end."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    y = Scale(min(ys) if log_y else 0.0, max(ys) * 1.05, HEIGHT - BOTTOM, TOP, log_y)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            f' aria-label="{escape(title)}">'
        ),
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
        *_grid(x, y),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>',
        (
            f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
            f"{escape(up)}</text>"
        ),
        *_lines(lines, x, y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(x: Scale, y: Scale) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts += [
        f'<text x="{x.place(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{_number(tick)}</text>'
        for tick in x.ticks
    ]
    return parts


def _lines(lines: Sequence[Line], x: Scale, y: Scale) -> list[str]:
    parts, taken = [], list[tuple[float, float]]()
    for number, line in enumerate(lines):
        points = " ".join(f"{x.place(each):.1f},{y.place(value):.1f}" for each, value in line.points)
        dash = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
        parts.append(f'<polyline class="line c{number}" points="{points}"{dash}/>')
        beside, at = _label(line, x, y, taken)
        taken.append((beside, at))
        parts.append(f'<text class="t{number}" x="{beside:.1f}" y="{at:.1f}">{escape(line.name)}</text>')
    return parts


def _label(line: Line, x: Scale, y: Scale, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Beside the end of a line, or beside its highest point where others go on further; not on another label."""
    point = line.points[-1] if line.points[-1][0] >= x.high else max(line.points, key=lambda each: each[1])
    beside, at = x.place(point[0]) + 6, y.place(point[1]) + 4
    while any(abs(at - other) < 14 and abs(beside - place) < RIGHT for place, other in taken):
        at -= 14
    return beside, at


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
