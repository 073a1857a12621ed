"""The options of `tailrace callers set`: one for each field of a policy (`tailrace.queue.CallerPolicy`)."""

import argparse
import math
from typing import Any, NamedTuple

DEFAULT = "default"
"""A value that removes the field from the policy."""


class Field(NamedTuple):
    """A field of a policy: its type, and what it is. A list is words with commas between them."""

    type: type
    help: str


FIELDS = {
    "weight": Field(float, "its share of the workers, beside those of other callers"),
    "max_running": Field(int, "generations that run at once; 0: any number"),
    "requests_per_minute": Field(int, "requests in a minute"),
    "tokens_per_minute": Field(int, "tokens in a minute; 0: no limit"),
    "max_unfinished": Field(int, "generations that may wait or run"),
    "max_readers": Field(int, "event streams at each frontend"),
    "max_stored_bytes": Field(int, "bytes that are stored for it"),
    "models": Field(list, "models that it may name, as llama*,demo"),
    "budget_day_tokens": Field(int, "tokens in a UTC day; 0: no limit"),
    "budget_day_usd": Field(float, "US dollars in a UTC day; 0: no limit"),
    "budget_month_tokens": Field(int, "tokens in a UTC month; 0: no limit"),
    "budget_month_usd": Field(float, "US dollars in a UTC month; 0: no limit"),
}
PLACEHOLDERS: dict[type, str] = {int: "N", float: "X", list: "NAMES"}


class Value:
    """Reads the value of a field from the command line; `default` stays that word."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __call__(self, text: str) -> Any:
        if text == DEFAULT:
            return text
        if self._kind is list:
            return [each.strip() for each in text.split(",") if each.strip()]
        try:
            value = self._kind(text)
            if math.isfinite(value):
                return value
            raise ValueError
        except ValueError:
            what = "a whole number" if self._kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is neither {what} nor `{DEFAULT}`") from None


def option(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


def options() -> list[tuple[str, dict[str, Any]]]:
    """Each option with what `argparse` takes beside its name."""
    return [
        (option(name), {"type": Value(field.type), "metavar": PLACEHOLDERS[field.type], "help": field.help})
        for name, field in FIELDS.items()
    ]
