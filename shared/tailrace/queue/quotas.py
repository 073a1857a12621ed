"""What callers use, in tokens and US dollars, on the queue's server: what is reserved, what is charged, what is left.

    create   load.lua      checks every limit, then charges all: reserves the tokens that the generation may use
    done     settle.lua    puts what it has used in the place of that, once, by all that wrote or found the end

A reservation holds back the tokens of the minute and of the budgets while the generation runs. So fifty requests at
once exceed a limit by one reservation at most, and not by fifty answers.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import msgspec

from tailrace import keys, scripts
from tailrace.log.spent import NANO, Spent
from tailrace.log.state import GenerationState
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command

CHARGEABLE_S = 7200
"""An end is charged within so many seconds. Its mark (91 bytes) lives a minute longer, so that it is charged once."""

LIFE_S = 40 * 86400
"""Of what a caller uses, from its last end: longer than a month."""

USUAL_OUTPUT = 500
"""Tokens that are reserved for an output where the request has no limit, and the caller no output of this model yet."""

DAY = timedelta(days=1)


class Budgets(msgspec.Struct, frozen=True):
    """Tokens, and billionths of a US dollar, of a UTC day and of a month; 0: no limit."""

    day_tokens: int = 0
    day_cost: int = 0
    month_tokens: int = 0
    month_cost: int = 0

    @property
    def are_set(self) -> bool:
        return any(msgspec.structs.astuple(self))


class Reservation(msgspec.Struct, frozen=True):
    """What a creation may use, of a caller who has a limit of tokens or a budget.

    `input`: tokens; `max_output`: tokens of each choice, 0: the request has no limit. Prices in billionths of a US
    dollar a token. `tokens_per_minute`: 0: no limit. `hold`: ms until the generation's deadline.
    """

    generation_id: str
    model: str
    hold: int
    input: int
    budgets: Budgets
    tokens_per_minute: int = 0
    max_output: int = 0
    choices: int = 1
    input_price: float = 0.0
    output_price: float = 0.0
    usual_output: int = USUAL_OUTPUT
    life: int = LIFE_S * 1000


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a creation is checked against, as `load.lua` reads it; None: not checked. `is_full`: the log's server is
    nearly full."""

    max_queued: int | None = None
    max_unfinished: int | None = None
    max_stored_bytes: int | None = None
    body_bytes: int = 0
    is_full: bool = False
    reservation: Reservation | None = None


NO_TERMS = Terms()


class Quota(NamedTuple):
    """What a caller has used when a creation was checked, reserved tokens and costs included.

    `refused`: the first limit that refuses it ("": none), `wait_ms`: until it would not. `minute`: tokens that are not
    paid for yet."""

    refused: str = ""
    wait_ms: int = 0
    minute: int = 0
    used: Budgets = Budgets()

    @classmethod
    def of(cls, wait: Any, reply: Sequence[Any]) -> Self:
        """From the end of the reply of `load.lua`."""
        refused, minute, *used = reply
        return cls(refused.decode(), int(wait), int(minute), Budgets(*map(int, used)))


class CallerUse(NamedTuple):
    """What a caller uses now. `running`, `waiting`: generations; `minute`: tokens that are not paid for yet; `spent`:
    what has ended in this day and month, `held_tokens`, `held_cost`: what runs has reserved."""

    running: int
    waiting: int
    minute: int
    spent: Budgets
    held_tokens: int
    held_cost: int


class Quotas:
    """What callers use. `lease_ms`: a generation whose deadline passed so long ago is none any more."""

    def __init__(self, server: RedisServer, *, lease_ms: int) -> None:
        self._server = server
        self._lease_ms = lease_ms

    def settle_commands(self, state: GenerationState) -> list[Command]:
        """Charge the end that the state has. Repeating it changes nothing. (None of a generation that an earlier
        version has ended.)"""
        spent = Spent.parse(state.spent)
        if spent is None:
            return []
        record, ends = state.record, period_ends(spent.ended_at)
        model = record.model if state.status == "completed" else ""
        return [_settle(record.owner, record.id, spent, ends, model)]

    async def release(self, owner: str, generation_id: str) -> None:
        """Give back what a creation has reserved that was not accepted."""
        await self._server.execute(*_settle(owner, generation_id, Spent(0, 0, 0, 0), (0, 0), ""))

    async def use_of(self, owners: Sequence[str]) -> list[CallerUse]:
        """What these callers use now."""
        now_ms = await self._server.now()
        oldest = now_ms - self._lease_ms
        commands: list[Command] = []
        for owner in owners:
            commands += [
                ("ZCOUNT", keys.unfinished_of(owner), oldest, "+inf"),
                ("ZCOUNT", keys.running(owner), now_ms, "+inf"),
                ("HGETALL", keys.use(owner)),
            ]
        replies = iter(checked(await self._server.execute_many(commands)) if commands else [])
        of_each = zip(replies, replies, replies, strict=True)
        return [_use(int(unfinished), int(running), flat, now_ms) for unfinished, running, flat in of_each]


def _settle(owner: str, generation_id: str, spent: Spent, ends: tuple[int, int], model: str) -> Command:
    names = [
        keys.use(owner), keys.reserved(owner), keys.reserved_until(owner), keys.settled(owner), keys.outputs(owner),
    ]  # fmt: skip
    return scripts.SETTLE.on(names, generation_id, *spent, *ends, model, CHARGEABLE_S * 1000, LIFE_S * 1000)


def period_ends(at_ms: int) -> tuple[int, int]:
    """The ends of the UTC day and of the month of this time; all in ms."""
    midnight = datetime.fromtimestamp(at_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (midnight.replace(day=1) + 32 * DAY).replace(day=1)
    return int((midnight + DAY).timestamp()) * 1000, int(next_month.timestamp()) * 1000


def nano_dollars(dollars: float) -> int:
    """A sum in billionths of a US dollar; at least one, unless it is 0, which is no limit."""
    return max(1, round(dollars * NANO)) if dollars else 0


def _use(unfinished: int, running: int, flat: Sequence[bytes], now_ms: int) -> CallerUse:
    """From a caller's `use`."""
    fields = {name.decode(): float(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def current(period: str, unit: str) -> int:
        return int(fields.get(f"{period}_{unit}", 0)) if now_ms < fields.get(f"{period}_ends", 0) else 0

    drained = (now_ms - fields.get("at", 0)) * fields.get("rate", 0)
    return CallerUse(
        running,
        max(0, unfinished - running),
        round(max(0.0, fields.get("level", 0) - drained)),
        Budgets(*(current(period, unit) for period in ("day", "month") for unit in ("tokens", "cost"))),
        int(fields.get("held_tokens", 0)),
        int(fields.get("held_cost", 0)),
    )
