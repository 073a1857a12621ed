"""What each caller may have of the workers, beside the others.

The settings have the rights; where they can change at run time, another `RightOf` answers. It is asked whenever a job
is enqueued, taken or removed, so it answers from memory.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from tailrace.errors import Misconfigured
from tailrace.settings import Settings

LEAST_WEIGHT, GREATEST_WEIGHT = 0.001, 1000.0


class Right(NamedTuple):
    """`weight`: the caller's share, relative to those of the other callers whose generations wait. `max_running`: how
    many of the caller's generations run at once; 0: any number."""

    weight: float = 1.0
    max_running: int = 0

    @property
    def step(self) -> float:
        """The virtual time that one generation takes."""
        return 1 / min(max(self.weight, LEAST_WEIGHT), GREATEST_WEIGHT)


EQUAL = Right()

RightOf = Callable[[str], Right]
"""A caller's name → its right."""


def rights_from(settings: Settings) -> RightOf:
    """
    Raises:
        Misconfigured: `TAILRACE_WEIGHTS` is not as it is described.
    """
    weights = parse_weights(settings.weights)
    return lambda owner: Right(weights.get(owner, 1.0), settings.max_running_per_caller)


def parse_weights(text: str) -> dict[str, float]:
    """`caller=3,caller=0.5` as a dict.

    Raises:
        Misconfigured: with the entry's position.
    """
    weights = {}
    for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        name, _, value = entry.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not name.strip() or not LEAST_WEIGHT <= weight <= GREATEST_WEIGHT:
            raise Misconfigured(
                f"TAILRACE_WEIGHTS: entry {position} is not `caller=weight` with a weight of {LEAST_WEIGHT:g} to "
                f"{GREATEST_WEIGHT:g}"
            )
        weights[name.strip()] = weight
    return weights
