"""Tables of text: for a terminal cut to its width, for a file or a pipe whole and plain."""

import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = "  "
LEAST = 6
"""Characters that a column keeps where others need the room."""

BAR, REST = "█", "░"
STEPS = ((60, "s"), (60, "min"), (24, "h"))
THOUSANDS = ("", "k", "M", "G", "T")
SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def terminal_columns() -> int:
    """The width of the terminal that stdout is; 0 where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def table(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Rows in columns, the first of which is the header; a name that begins with `>` stands to the right.

    `columns`: of the terminal; 0: nothing is cut. Otherwise the widest columns are cut, never the first one, which has
    the ids. Characters of double width count as two.
    """
    is_right = [name.startswith(">") for name in rows[0]]
    shown = [[name.removeprefix(">") for name in rows[0]], *rows[1:]]
    widths = [max(map(cell_len, cells)) for cells in zip(*shown, strict=True)]
    if columns:
        _shrink(widths, is_right, columns)
    lines = []
    for row in shown:
        cells = [_fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append(GAP.join(_pad(*each) for each in zip(cells, widths, is_right, strict=True)).rstrip())
    return [_fit(line, columns) for line in lines] if columns else lines


def _shrink(widths: list[int], is_right: Sequence[bool], columns: int) -> None:
    """Narrow the widest column, one character at a time, until all fit or none may be narrower: those of words before
    those of numbers."""
    for kind in (False, True):
        cut = [n for n in range(1, len(widths)) if is_right[n] is kind]
        while sum(widths) + len(GAP) * (len(widths) - 1) > columns:
            widest = max(cut, key=lambda n: widths[n], default=0)
            if not widest or widths[widest] <= LEAST:
                break
            widths[widest] -= 1


def _fit(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(0, width - 1))}…"


def _pad(text: str, width: int, is_right: bool) -> str:
    room = " " * (width - cell_len(text))
    return room + text if is_right else text + room


def fitted(line: str, columns: int) -> str:
    """A line, cut to the width of the terminal; 0: whole."""
    return _fit(line, columns) if columns else line


def bar(part: float, whole: float, width: int = 10) -> str:
    """How much of the whole is taken; anything at all is one block."""
    filled = min(width, max(round(width * part / whole), 1 if part > 0 else 0)) if whole > 0 else 0
    return BAR * filled + REST * (width - filled)


def age(seconds: float) -> str:
    """A time span in its largest unit: `59 s`, `3 min`, `5 h`, `2 d`."""
    amount = max(0, int(seconds))
    for step, unit in STEPS:
        if amount < step:
            return f"{amount} {unit}"
        amount //= step
    return f"{amount} d"


def short(count: float) -> str:
    """A count in four characters or so: `950`, `16.9k`, `5M`."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(THOUSANDS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.3g}{THOUSANDS[unit]}"


def size(count: float | None) -> str:
    """Bytes in their largest unit: `512 B`, `93.5 MiB`; "" where they are not known."""
    if count is None:
        return ""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(SIZES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.3g} {SIZES[unit]}"
