import xml.etree.ElementTree as ET

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


def test_chart_has_colors_for_dark_pages() -> None:
    svg = chart("t", "x", "y", LINES)
    light, dark = svg.split("@media (prefers-color-scheme: dark)")
    assert all(f".{kind}{n}" in part for part in (light, dark) for kind in "ct" for n in range(4))


@pytest.mark.parametrize(("low", "high"), [(0.0, 5.0), (0.0, 113.0), (1.0, 24.0), (0.0, 3621.0)])
def test_scale_has_a_few_ticks_within_its_range(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100, is_log=False).ticks
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
