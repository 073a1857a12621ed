import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from simulation.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Scale, chart

SPACE = "{http://www.w3.org/2000/svg}"
LINES = [Line("a & b", [(1.0, 10.0), (100.0, 1000.0)]), Line("c", [(1.0, 20.0), (100.0, 900.0)])]


@pytest.mark.parametrize("is_log", [False, True])
def test_chart_is_well_formed_and_keeps_its_lines_inside(is_log: bool) -> None:
    root = ET.fromstring(chart("t", "x", "y", LINES, log_x=is_log, log_y=is_log))
    lines = root.findall(f"{SPACE}polyline")
    assert len(lines) == 2
    for line in lines:
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert LEFT <= x <= WIDTH - RIGHT
            assert TOP <= y <= HEIGHT - BOTTOM
    assert "a & b" in [text.text for text in root.iter(f"{SPACE}text")]


def test_line_that_ends_early_is_named_at_its_highest_point() -> None:
    short = Line("short", [(1.0, 0.0), (20.0, 1000.0), (30.0, 0.0)])
    root = ET.fromstring(chart("t", "x", "y", [short, LINES[0]]))
    (label,) = [text for text in root.iter(f"{SPACE}text") if text.text == "short"]
    assert float(label.get("x") or 0) == pytest.approx(
        Scale(1, 100, LEFT, WIDTH - RIGHT, is_log=False).place(20) + 6, abs=0.1
    )


def test_labels_do_not_cover_each_other() -> None:
    same = [Line(name, [(0.0, 0.0), (1.0, 5.0)]) for name in "abcd"]
    root = ET.fromstring(chart("t", "x", "y", same))
    places = sorted(float(text.get("y") or 0) for text in root.iter(f"{SPACE}text") if text.text in list("abcd"))
    assert all(later - earlier >= 14 for earlier, later in pairwise(places))


def test_chart_has_colors_for_dark_pages() -> None:
    svg = chart("t", "x", "y", LINES)
    light, dark = svg.split("@media (prefers-color-scheme: dark)")
    assert all(f".{kind}{n}" in part for part in (light, dark) for kind in "ct" for n in range(4))


@pytest.mark.parametrize(("low", "high"), [(0.0, 5.0), (0.0, 113.0), (1.0, 24.0), (0.0, 3621.0)])
def test_scale_has_a_few_ticks_within_its_range(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100, is_log=False).ticks
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
