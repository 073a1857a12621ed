"""The cases of the table, from `cases.json`, which programs in every language read.

A case is the name of a model: the upstream plays the case's script for the models `CASE` and `CASE.ANYTHING`. So a
client needs no field that its package does not have. `expected` are fields of an answer that the client must have.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Case(NamedTuple):
    """`checks`: what a cell of this column has checked, a sentence. `script`: the steps that the upstream plays."""

    checks: str
    script: list[Json]
    expected: Json


CASES = {name: Case(**each) for name, each in json.loads(Path(__file__).with_name("cases.json").read_text()).items()}

SETTINGS: Json = {"lease_s": "1", "upstream_retries": "0", "disconnect_grace_s": "6", "keepalive_s": "3"}
"""Of the product that the cases run against. A late failure comes after `keepalive_s`."""

FAILURES = ("failure", "late-failure")


def repeats(case: str) -> int:
    """How often a client may repeat its request: a failure after the status is known by the repetition alone."""
    return int(case == "late-failure")


def case_of(model: str) -> str | None:
    """The case that a model names."""
    name = model.partition(".")[0]
    return name if name in CASES else None
