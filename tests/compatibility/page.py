"""The table of `docs/compatibility.md`."""

from collections.abc import Sequence
from pathlib import Path

from compatibility.results import Result

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN = "<!-- scripts/compatibility writes this table -->\n"
END = "<!-- to here -->"


def rendered(page: str, results: Sequence[Result]) -> str:
    """The page with its table as the results are.

    Raises:
        ValueError: it has no place for the table.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/compatibility.md has no place for its table: {BEGIN}")
    return "".join((before, begin, *(f"{line}\n" for line in table(results)), end, after))


def table(results: Sequence[Result]) -> list[str]:
    head = ["| server | from | fit | contract tests | chaos, short | run |", "|---|---|---|---|---|---|"]
    return head + [_row(each) for each in results]


def _row(result: Result) -> str:
    fit = "; ".join(result.lacking).replace("|", "\\|") if result.lacking else "yes"
    suite, chaos = result.contract, result.chaos
    tests = scenarios = "not run"
    if suite:
        tests = f"{suite.passed} passed" + (f", {suite.skipped} skipped" if suite.skipped else "")
        tests += f", {len(suite.failures)} failed" if suite.failures else ""
    if chaos is not None:
        wrong = [f"{name}: {count} violations" for name, count in chaos.items() if count]
        scenarios = ", ".join(wrong) or f"{len(chaos)} scenarios, 0 violations"
    return f"| {result.name} | {result.source} | {fit} | {tests} | {scenarios} | {result.date} |"
