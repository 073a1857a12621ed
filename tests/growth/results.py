"""What was measured, in one file beside this one; a run replaces the points of its curves that it has measured."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from bench.results import machine

FILE = Path(__file__).parent / "results.json"

Point = dict[str, float]
"""What was measured where there was so much work, by the names of the series."""


class Growth(msgspec.Struct, frozen=True):
    """One curve: its points, by the amount of work."""

    date: str
    machine: str
    points: dict[int, dict[str, float]]

    def series(self, name: str) -> list[tuple[int, float]]:
        """Amounts of work and values, in ascending order."""
        return [(x, self.points[x][name]) for x in sorted(self.points) if name in self.points[x]]


def load() -> dict[str, Growth]:
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Growth]) if FILE.exists() else {}


def save(curve: str, points: Mapping[int, Point]) -> None:
    """Write these points; the others of the curve stay if they are of the same day and machine."""
    found, today = load(), datetime.now().astimezone().date().isoformat()
    before = found.get(curve)
    kept = before.points if before and (before.date, before.machine) == (today, machine()) else {}
    found[curve] = Growth(today, machine(), kept | dict(points))
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
