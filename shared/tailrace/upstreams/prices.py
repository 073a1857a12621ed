"""What an answer costs: its usage, at the prices of the upstream that wrote it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tailrace.events import MAX_TOKENS, Json

TOKENS = 1_000_000
"""Prices are for so many tokens."""

DIGITS = 9
"""Decimals of a cost in US dollars: one token at 0.001 USD a million is 10⁻⁹."""


Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """US dollars a million tokens. `cached`: of the part of the prompt that the upstream had cached; without it that
    part costs as much as the rest of the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: Dollars
    output: Dollars
    cached: Dollars | None = None


def cost_of(usage: Json | None, price: Price | None) -> float | None:
    """The cost in US dollars; None without a price, or where the usage lacks one of its counts.

    `usage` has the names of Chat Completions, and whatever values the upstream has sent: `completion_tokens` includes
    the tokens of the reasoning, `prompt_tokens` the cached ones. The cost of an estimated usage is an estimate.
    """
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if price is None or prompt is None or completion is None:
        return None
    cached = 0
    if price.cached is not None:
        cached = min(prompt, _count((usage or {}).get("prompt_tokens_details"), "cached_tokens") or 0)
    dollars = (prompt - cached) * price.input + cached * (price.cached or 0) + completion * price.output
    return round(dollars / TOKENS, DIGITS)


def _count(counts: Any, name: str) -> int | None:
    """A count of an object; None for anything else."""
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if type(count) is int and 0 <= count < MAX_TOKENS else None
