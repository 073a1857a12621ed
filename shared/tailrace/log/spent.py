"""What a generation has used, in short: kept in its state, so that any process that finds the end can charge it.

`done` has the same, beside an output that may be megabytes.
"""

from typing import Any, NamedTuple, Self

import msgspec

from tailrace.events import MAX_TOKENS, Done, Json
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState

NANO = 10**9
"""Costs are summed as integers, in billionths of a US dollar: a sum of floats depends on its order."""


class Spent(NamedTuple):
    """Tokens of the input and of the output, the cost in billionths of a US dollar, and the time of the end in ms of
    the log's server."""

    input: int
    output: int
    cost: int
    ended_at: int

    @classmethod
    def of(cls, done: Done | StoredDone) -> Self:
        """What this end has used. What its usage lacks counts nothing."""
        usage = done.usage or {}
        cost = round((done.cost or 0) * NANO)
        return cls(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), cost, round(done.at * 1000))

    @classmethod
    def parse(cls, stored: str) -> Self | None:
        """As the state has it; None where there is none."""
        parts = stored.split()
        return cls(*map(int, parts)) if len(parts) == len(cls._fields) else None

    def __str__(self) -> str:
        """As the state has it."""
        return " ".join(map(str, self))


def with_spent(state: GenerationState, done: Done | StoredDone) -> GenerationState:
    """The state as this end leaves it, as far as charging its owner needs it."""
    return msgspec.structs.replace(state, status=done.status, spent=str(Spent.of(done)))


def _count(usage: Json, name: str) -> int:
    count: Any = usage.get(name)
    return count if type(count) is int and 0 <= count < MAX_TOKENS else 0
