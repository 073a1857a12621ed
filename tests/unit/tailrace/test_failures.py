"""The table of error codes, and the sources that use it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tailrace.events import Failure
from tailrace.failures import (
    FAILURES,
    FORMAT_ERRORS,
    RESTART_REASONS,
    FailureCode,
    FailureKind,
    FormatErrorCode,
    RestartReason,
    failure,
)

ROOT = Path(__file__).parents[3]
SOURCES = [
    path for root in ("shared", "services") for path in (ROOT / root).rglob("*.py") if path.name != "failures.py"
]


def nodes() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield from ast.walk(ast.parse(path.read_text()))


def codes_of_calls(name: str, position: int) -> set[str]:
    """Every constant that the sources pass to this function as that argument."""
    return {
        str(argument.value)
        for node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for argument in node.args[position : position + 1]
        if isinstance(argument, ast.Constant)
    }


def test_tables_have_exactly_the_codes_of_the_types() -> None:
    assert tuple(FAILURES) == get_args(FailureCode)
    assert tuple(FORMAT_ERRORS) == get_args(FormatErrorCode)
    assert tuple(RESTART_REASONS) == get_args(RestartReason)


def test_sources_use_only_codes_of_the_table() -> None:
    used = codes_of_calls("failure", 0)
    assert "deadline_exceeded" in used
    assert used <= {*FAILURES, *FORMAT_ERRORS}


def test_sources_write_no_code_beside_the_table() -> None:
    """A `Failure` that is made by hand has the upstream's own code."""
    assert codes_of_calls("Failure", 1) == set()


def test_codes_of_the_table_are_used_by_the_sources() -> None:
    used = {node.value for node in nodes() if isinstance(node, ast.Constant)}
    assert {*FAILURES, *FORMAT_ERRORS, *RESTART_REASONS} - used == set()


def test_failure_has_the_message_and_type_of_its_row() -> None:
    assert failure("upstream_rate_limited") == Failure(
        "The upstream's rate limit was reached.", "upstream_rate_limited", "rate_limit_exceeded"
    )


def test_failure_keeps_the_message_that_its_place_knows() -> None:
    assert failure("upstream_error", "The upstream failed (502).").message == "The upstream failed (502)."


@pytest.mark.parametrize("code", [*FAILURES.items(), *FORMAT_ERRORS.items()], ids=lambda row: str(row[0]))
def test_row_is_written_in_whole_sentences(code: tuple[str, FailureKind]) -> None:
    _, row = code
    texts = [row.message, row.meaning]
    assert [text for text in texts if not (text[0].isupper() and text.endswith("."))] == []
