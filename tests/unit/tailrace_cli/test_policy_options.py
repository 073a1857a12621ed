"""The options of `tailrace callers set`."""

import argparse
import typing

import pytest

from tailrace.queue import CallerPolicy
from tailrace_cli.arguments import parser
from tailrace_cli.callers import changes
from tailrace_cli.policy_options import FIELDS, Value


def test_there_is_an_option_of_its_type_for_each_field_of_a_policy() -> None:
    hints = typing.get_type_hints(CallerPolicy)
    (types,) = ({name: typing.get_args(hint)[0] for name, hint in hints.items()},)
    assert {name: typing.get_origin(kind) or kind for name, kind in types.items()} == {
        name: field.type for name, field in FIELDS.items()
    }


def test_options_are_the_changes_of_a_policy() -> None:
    words = ["callers", "set", "web", "--weight", "2.5", "--max-running", "default", "--models", "demo, gpt-*,"]
    given = vars(parser().parse_args(words))
    assert changes({name: given[name] for name in FIELDS}) == {
        "weight": 2.5, "max_running": None, "models": ["demo", "gpt-*"],
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "problem"), [(int, "neither a whole number"), (float, "neither a number")])
def test_value_that_is_no_number_is_refused(kind: type, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=problem):
        Value(kind)("many")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_what_json_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="neither a number"):
        Value(float)(text)
