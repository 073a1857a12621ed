"""`docs/growth.md` and its pictures are what `scripts/growth` writes."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.results import machine
from growth import results
from growth.curves import CURVES
from growth.page import PAGE, growth, pictures, rendered
from growth.results import Growth
from growth.svg import Line, plot


def test_page_and_pictures_are_not_stale() -> None:
    found = results.load()
    page = PAGE.read_text()
    assert rendered(page, found) == page, "run scripts/growth --render"
    for file, picture in pictures(found).items():
        assert file.read_text() == picture, "run scripts/growth --render"


def test_page_has_every_curve_with_every_amount_and_series() -> None:
    found = results.load()
    assert found.keys() == CURVES.keys()
    for name, curve in CURVES.items():
        assert tuple(sorted(found[name].points)) == curve.amounts
        wanted = {series for panel in curve.panels for series in panel.series}
        assert all(point.keys() == wanted for point in found[name].points.values()), name


def test_page_without_a_place_for_a_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for `delivery`"):
        rendered("", {"delivery": Growth("", "", {1: {}})})


def test_points_of_a_curve_are_replaced_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    results.save("kept", {0: {"a": 1.0}, 10: {"a": 2.0}})
    results.save("kept", {10: {"a": 3.0}})
    assert results.load()["kept"].points == {0: {"a": 1.0}, 10: {"a": 3.0}}
    assert results.load()["kept"].machine == machine()
    assert results.load()["kept"].series("a") == [(0, 1.0), (10, 3.0)]


@pytest.mark.parametrize(
    ("points", "shown"),
    [
        ([(0, 5.0), (100, 5.0), (1_000, 5.0), (10_000, 5.0)], "work^0.00"),
        ([(100, 1.0), (10_000, 100.0)], "work^1.00"),
        ([(100, 1.0), (3_000, 30.0), (10_000, 1000.0)], "work^1.50"),
        ([(100, 1.0), (900, 1.0)], ""),
        ([(0, 1.0)], ""),
    ],
)  # fmt: skip
def test_growth_is_the_exponent_over_the_last_decade_or_more(points: list[tuple[int, float]], shown: str) -> None:
    assert growth(points) == shown


def test_picture_places_values_by_their_scale() -> None:
    flat = plot("A & B", "logs", [("µs", [Line("a", [(0, 5.0), (10, 5.0), (100, 5.0)])])])
    assert "A &amp; B" in flat
    heights = {circle.get("cy") for circle in ET.fromstring(flat).iter() if circle.tag.endswith("circle")}
    assert len(heights) == 1
    steep = plot("x", "logs", [("ms", [Line("a", [(10, 1.0), (100, 10.0), (1_000, 100.0)])])])
    places = [
        (float(each.get("cx", 0)), float(each.get("cy", 0)))
        for each in ET.fromstring(steep).iter()
        if each.tag.endswith("circle")
    ]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1 > y2
