"""Tables for terminals and pipes."""

import pytest
from rich.cells import cell_len

from tailrace_cli.tables import age, bar, fitted, short, size, table

ROWS = [("ID", "QUESTION", ">TOKENS"), ("gen_a", "A long question", "1,200"), ("gen_bcd", "漢字", "7")]


def test_table_in_a_pipe_is_whole() -> None:
    assert table(ROWS, 0) == [
        "ID       QUESTION         TOKENS",
        "gen_a    A long question   1,200",
        "gen_bcd  漢字                  7",
    ]


def test_table_is_cut_to_the_terminal_in_its_widest_column_of_words() -> None:
    lines = table(ROWS, 27)
    assert lines[1] == "gen_a    A long qu…   1,200"
    assert {cell_len(line) for line in lines} == {27}


@pytest.mark.parametrize("columns", range(1, 40))
def test_line_of_a_table_is_never_wider_than_the_terminal(columns: int) -> None:
    assert max(map(cell_len, table(ROWS, columns))) <= columns


def test_first_column_is_cut_last() -> None:
    assert [line.split()[0] for line in table(ROWS, 24)] == ["ID", "gen_a", "gen_bcd"]


def test_line_is_cut_to_the_terminal() -> None:
    assert fitted("A long line", 6) == "A lon…"
    assert fitted("A long line", 0) == "A long line"


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(0, 10, "░░░░"), (1, 1000, "█░░░"), (5, 10, "██░░"), (20, 10, "████"), (3, 0, "░░░░")]
)
def test_bar_is_as_full_as_what_it_shows(part: int, whole: int, shown: str) -> None:
    assert bar(part, whole, 4) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (2e5, "2 d")],
)
def test_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1023, "0.999 KiB"), (98 << 20, "98 MiB"), (1 << 60, "1.05e+06 TiB")],
)
def test_size_is_in_its_largest_unit(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (16_922, "16.9k"), (5_000_000, "5M"), (2e18, "2e+06T")]
)
def test_count_is_short(count: float, text: str) -> None:
    assert short(count) == text
