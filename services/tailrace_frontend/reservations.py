"""What a request may use, in tokens and US dollars, before it has used anything.

Its input by the size of its text, as `done` estimates it where the upstream reports nothing. Its output by its own
limit, where it has one; `load.lua` takes less where the caller's outputs of the model are shorter.
"""

import math

from tailrace.events import Api, Json, Options
from tailrace.log.output import BYTES_A_TOKEN
from tailrace.log.spent import NANO
from tailrace.prompt_size import prompt_bytes
from tailrace.queue import CallerLimits, Reservation
from tailrace.upstreams import CurrentUpstreams
from tailrace.upstreams.prices import TOKENS, Price

OUTPUT_LIMITS: dict[Api, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "ui-messages": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
}
"""Fields of a request that limit its output, by its API."""

ALL_OUTPUT_LIMITS = sorted({name for names in OUTPUT_LIMITS.values() for name in names})

MOST_CHOICES = 128
"""Of OpenAI's API."""


def reservation_of(
    generation_id: str,
    api: Api,
    request: Json,
    options: Options,
    limits: CallerLimits,
    upstreams: CurrentUpstreams | None,
) -> Reservation | None:
    """What the creation of this generation reserves; None where the caller has no limit of tokens and no budget."""
    budgets = limits.budgets
    if not limits.tokens_per_minute and not budgets.are_set:
        return None
    price = _price_of(str(request["model"]), upstreams)
    return Reservation(
        generation_id,
        str(request["model"]),
        hold=1000 * options.deadline_s,
        input=math.ceil(prompt_bytes(request) / BYTES_A_TOKEN),
        budgets=budgets,
        tokens_per_minute=limits.tokens_per_minute,
        max_output=_output_limit(api, request),
        choices=min(_count(request.get("n")) or 1, MOST_CHOICES),
        input_price=price.input * NANO / TOKENS if price else 0.0,
        output_price=price.output * NANO / TOKENS if price else 0.0,
    )


def _output_limit(api: Api, request: Json) -> int:
    """The most tokens that an output of the request may have, whichever of its fields the upstream reads; 0: no limit.

    Fields of the other API limit nothing, because most upstreams ignore them. They may raise the limit, because they
    are sent on as they are.
    """
    counts = {name: _count(value) for name in ALL_OUTPUT_LIMITS if (value := request.get(name)) is not None}
    is_limited = any(name in counts for name in OUTPUT_LIMITS[api]) and all(counts.values())
    return max(counts.values()) if is_limited else 0


def _price_of(model: str, upstreams: CurrentUpstreams | None) -> Price | None:
    """The price of the first upstream that serves the model and has one."""
    targets = upstreams.targets(model) if upstreams else []
    return next(filter(None, (target.upstream.price_of(target.model) for target in targets)), None)


def _count(value: object) -> int:
    """A count of a request; 0 for anything else."""
    return value if type(value) is int and 0 < value < 2**31 else 0
