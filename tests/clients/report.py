"""The table as Markdown, and its place in `docs/clients.md`."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from clients.cases import CASES
from clients.table import Cell

BEGIN = "<!-- scripts/clients writes from here -->"
END = "<!-- to here -->"
SIGNS = {True: "✓", False: "✗"}
NOT_RUN = "not run"


class Notes:
    """Footnotes, numbered in the order of their first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"–<sup>{self.texts.index(text) + 1}</sup>"

    def lines(self) -> list[str]:
        return [f"{number}. {text}" for number, text in enumerate(self.texts, 1)]


def markdown(cells: Sequence[Cell], environment: Mapping[str, str]) -> str:
    """The part of the page that is generated. `environment`: versions of what the clients ran on, by name."""
    ran = [cell for cell in cells if cell.ok is not None]
    passed = sum(cell.ok is True for cell in ran)
    on = ", ".join(f"{name} {version}" for name, version in environment.items())
    notes = Notes()
    tables = [_table(package, list(rows), notes) for package, rows in groupby(_sorted(cells), key=_package)]
    lines = [
        f"{passed} of {len(ran)} cells, on {on}.",
        "",
        *_cases(),
        "",
        "## The table",
        "",
        *"\n\n".join(tables).split("\n"),
    ]
    return "\n".join([*lines, "", *notes.lines()] if notes.texts else lines)


def _sorted(cells: Iterable[Cell]) -> list[Cell]:
    """The cells with those of a package together, in the order in which packages are first met."""
    order = list(dict.fromkeys(cell.package for cell in cells))
    return sorted(cells, key=lambda cell: order.index(cell.package))


def _package(cell: Cell) -> str:
    return f"{cell.package} {cell.version}".strip()


def _cases() -> list[str]:
    return ["| case | what is checked |", "|---|---|", *(f"| {name} | {case.checks} |" for name, case in CASES.items())]


def _table(title: str, cells: Sequence[Cell], notes: Notes) -> str:
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.client, {})[cell.case] = cell
    head = [f"### {title}", "", f"| | {' | '.join(CASES)} |", "|---|" + ":-:|" * len(CASES)]
    return "\n".join([*head, *(_row(client, found, notes) for client, found in rows.items())])


def _row(client: str, found: Mapping[str, Cell], notes: Notes) -> str:
    label = client.partition(" ")[2] or client
    return f"| {label} | {' | '.join(_sign(found.get(case), notes) for case in CASES)} |"


def _sign(cell: Cell | None, notes: Notes) -> str:
    if cell is None:
        return NOT_RUN
    return notes.mark(cell.detail) if cell.ok is None else SIGNS[cell.ok]


def replaced(page: str, generated: str) -> str:
    """The page with another generated part.

    Raises:
        ValueError: it has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no `{BEGIN}` and `{END}`")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"
