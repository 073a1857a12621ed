"""What callers may use: checked together, reserved at creation, charged once at the end. On the embedded server."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from tailrace import keys
from tailrace.ids import new_generation_id
from tailrace.log.spent import NANO, Spent
from tailrace.log.state import GenerationState
from tailrace.queue import Budgets, Charge, Claim, Queue, Quota, Reservation, Terms
from tailrace.queue.quotas import CHARGEABLE_S, LIFE_S, USUAL_OUTPUT, nano_dollars, period_ends
from tailrace.redis.server import checked

HOUR_MS = 3_600_000


def new_ids() -> Iterator[str]:
    while True:
        yield new_generation_id()


IDS = new_ids()


def terms(limit: int = 0, most: int = 0, **more: Any) -> Terms:
    """Of a request without an input, with at most so many tokens of output."""
    budgets = more.pop("budgets", Budgets())
    generation_id = more.pop("generation_id", None) or next(IDS)
    return Terms(
        reservation=Reservation(
            generation_id, "demo", 60_000, more.pop("input", 0), budgets, limit, max_output=most, **more
        )
    )


async def asked(queue: Queue, wanted: Terms, owner: str = "anna") -> Quota:
    return (await queue.load(owner, terms=wanted)).quota


async def ended(queue: Queue, wanted: Terms, used: int, *, at: int | None = None, cost: float = 0.0, **of: Any) -> None:
    """Settle the generation, as every end does."""
    assert wanted.reservation is not None
    now = await queue.server.now() if at is None else at
    spent = Spent(0, used, nano_dollars(cost), now)
    await settle(queue, state_of(wanted.reservation.generation_id, spent, **of))


def state_of(generation_id: str, spent: Spent, owner: str = "anna", status: Any = "completed") -> GenerationState:
    record = record_of(id=generation_id, owner=owner, model="demo")
    return GenerationState(record, status, 1, 1, 1, 0, 0, "job", spent=str(spent))


async def settle(queue: Queue, state: GenerationState) -> list[Any]:
    return checked(await queue.server.execute_many(queue.quotas.settle_commands(state)))


async def use(queue: Queue, owner: str = "anna") -> Any:
    return (await queue.quotas.use_of([owner]))[0]


# Tokens a minute


async def test_tokens_are_reserved_up_to_the_limit_and_a_refusal_has_the_time_to_wait(queue: Queue) -> None:
    first = await asked(queue, terms(6000, 3000))
    assert (first.refused, first.minute) == ("", 3000)
    assert (await asked(queue, terms(6000, 3000))).refused == ""
    refused = await asked(queue, terms(6000, 3000))
    assert refused.refused == "tokens"
    assert 25_000 < refused.wait_ms <= 30_000, "3,000 tokens are paid for in half a minute"
    assert (await asked(queue, terms(6000, 3000), "berta")).refused == ""


async def test_many_at_once_exceed_the_limit_by_one_reservation_at_most(queue: Queue) -> None:
    quotas = await asyncio.gather(*(asked(queue, terms(100, 30)) for _ in range(50)))
    accepted = [quota for quota in quotas if not quota.refused]
    assert 3 <= len(accepted) <= 4  # the fourth after a tenth of a minute
    assert max(quota.minute for quota in quotas) <= 100


async def test_request_larger_than_the_limit_passes_where_nothing_is_owed(queue: Queue) -> None:
    assert (await asked(queue, terms(100, 1000))).refused == ""
    assert (await asked(queue, terms(100, 1))).refused == "tokens"
    assert (await asked(queue, terms(100_000_000, 1000))).refused == "", "a limit that was raised holds at once"


async def test_tokens_that_are_owed_are_paid_at_a_raised_limit(queue: Queue, redis: Redis) -> None:
    name: Any = keys.use("anna")
    assert (await asked(queue, terms(1, 100_000))).refused == ""
    refused = await asked(queue, terms(60_000, 1))
    assert refused.refused == "tokens"
    assert 35_000 < refused.wait_ms <= 40_001
    at: Any = await redis.hget(name, "at")  # type: ignore[misc]
    await redis.hset(name, "at", str(float(at) - 41_000))  # type: ignore[misc]
    assert (await asked(queue, terms(60_000, 1))).refused == ""


async def test_end_keeps_the_time_in_which_tokens_were_paid_at_a_raised_limit(queue: Queue, redis: Redis) -> None:
    name: Any = keys.use("anna")
    wanted = terms(1, 100_000)
    await asked(queue, wanted)
    at: Any = await redis.hget(name, "at")  # type: ignore[misc]
    await redis.hset(name, "at", str(float(at) - 41_000))  # type: ignore[misc]
    await ended(queue, wanted, 99_999)
    assert (await asked(queue, terms(60_000, 1))).refused == ""


async def test_tokens_of_the_limit_before_are_paid_by_then(queue: Queue, redis: Redis) -> None:
    name: Any = keys.use("anna")
    assert (await asked(queue, terms(60_000, 60_000))).refused == ""
    at: Any = await redis.hget(name, "at")  # type: ignore[misc]
    await redis.hset(name, "at", str(float(at) - 60_000))  # type: ignore[misc]
    assert (await asked(queue, terms(1, 1))).refused == "", "a limit that was lowered makes no debt of what is paid"


async def test_end_puts_what_was_used_in_the_place_of_the_reservation(queue: Queue) -> None:
    wanted = terms(60_000, 30_000)
    await asked(queue, wanted)
    await ended(queue, wanted, 100)
    left = await asked(queue, terms(60_000, 1))
    assert left.minute <= 101
    more = terms(60_000, 1000)
    await asked(queue, more)
    await ended(queue, more, 59_000)
    assert 58_000 < (await asked(queue, terms(60_000, 10_000))).minute <= 60_101, "more than it had reserved"


async def test_end_without_usage_gives_the_reservation_back(queue: Queue) -> None:
    for status in ("cancelled", "failed"):
        wanted = terms(60_000, 50_000)
        assert (await asked(queue, wanted)).refused == ""
        await ended(queue, wanted, 0, status=status)
    assert (await use(queue)).held_tokens == 0
    assert (await use(queue)).spent == Budgets()


async def test_same_creation_reserves_once(queue: Queue) -> None:
    wanted = terms(6000, 3000)
    for _ in range(5):  # its reply was lost
        assert (await asked(queue, wanted)).refused == ""
    assert (await use(queue)).held_tokens == 3000


async def test_repeat_by_its_key_reserves_nothing(queue: Queue) -> None:
    for wanted in (terms(6000, 3000), terms(6000, 3000), terms(6000, 3000)):
        assert wanted.reservation is not None
        claim = Claim.of(wanted.reservation.generation_id, b"{}")
        await queue.load("anna", "key", claim, 60, terms=wanted)
    assert (await use(queue)).held_tokens == 3000


async def test_reservation_that_was_not_accepted_is_given_back_and_its_generation_can_be_charged(queue: Queue) -> None:
    wanted = terms(6000, 6000)
    await asked(queue, wanted)
    assert wanted.reservation is not None
    for _ in range(2):
        await queue.quotas.release("anna", wanted.reservation.generation_id)
    used = await use(queue)
    assert (used.minute, used.held_tokens) == (0, 0)
    await ended(queue, wanted, 7)
    assert (await use(queue)).spent.day_tokens == 7


async def test_reservation_leaves_at_its_deadline(queue: Queue, redis: Redis) -> None:
    wanted = terms(6000, 3000)
    await asked(queue, wanted)
    assert wanted.reservation is not None
    await redis.zadd(keys.reserved_until("anna"), {wanted.reservation.generation_id: 1})
    await queue.load("anna")
    assert (await use(queue)).held_tokens == 0
    assert not await redis.exists(keys.reserved("anna"), keys.reserved_until("anna"))


async def test_choices_and_the_input_are_reserved_too(queue: Queue) -> None:
    await asked(queue, terms(60_000, 100, input=40, choices=3))
    assert (await use(queue)).held_tokens == 340


async def test_output_without_a_limit_is_estimated_by_those_of_the_caller_and_the_model(queue: Queue) -> None:
    await asked(queue, terms(10**9))
    assert (await use(queue)).held_tokens == USUAL_OUTPUT
    rng = random.Random(3)
    sizes = sorted(rng.randrange(1, 2000) for _ in range(100))
    for size in rng.sample(sizes, 100):
        await ended(queue, terms(), size)
    before = (await use(queue)).held_tokens
    await asked(queue, terms(10**9))
    estimate = (await use(queue)).held_tokens - before
    assert sizes[89] <= estimate <= 1.42 * sizes[89] + 1
    await asked(queue, terms(10**9, 5))
    assert (await use(queue)).held_tokens - before == estimate + 5
    assert (await asked(queue, terms(10**9), "berta")).refused == ""
    assert (await use(queue, "berta")).held_tokens == USUAL_OUTPUT


# Budgets


async def test_budget_refuses_within_one_generation_and_names_its_end(queue: Queue) -> None:
    budgets = Budgets(day_tokens=100)
    first = terms(0, 60, budgets=budgets)
    assert (await asked(queue, first)).refused == ""
    second = terms(0, 60, budgets=budgets)
    assert (await asked(queue, second)).refused == "", "what is left is 40"
    held = await asked(queue, terms(0, 60, budgets=budgets))
    assert (held.refused, held.wait_ms) == ("day_tokens", 0), "what runs may leave some of it"
    for wanted in (first, second):
        await ended(queue, wanted, 60)
    spent = await asked(queue, terms(0, 60, budgets=budgets))
    assert spent.refused == "day_tokens"
    day_ends, _ = period_ends(await queue.server.now())
    assert abs(await queue.server.now() + spent.wait_ms - day_ends) < 5000
    assert spent.used == Budgets(120, 0, 120, 0)


@pytest.mark.parametrize("unit", ["day_tokens", "day_cost", "month_tokens", "month_cost"])
async def test_each_budget_refuses_once_it_is_spent(queue: Queue, unit: str) -> None:
    budgets = Budgets(**{unit: nano_dollars(0.5) if unit.endswith("cost") else 500})
    prices = {"input_price": 1_000_000.0, "output_price": 2_000_000.0}
    wanted = terms(0, 100, budgets=budgets, **prices)
    await asked(queue, wanted)
    assert (await use(queue)).held_cost == nano_dollars(0.2)
    await ended(queue, wanted, 499, cost=0.499)
    one = terms(0, 0, budgets=budgets, usual_output=0)
    assert (await asked(queue, one)).refused == ""
    await ended(queue, one, 1, cost=0.001)
    assert (await asked(queue, terms(0, 1, budgets=budgets))).refused == unit


async def test_budget_begins_anew_with_its_day_and_its_month(queue: Queue, redis: Redis) -> None:
    budgets = Budgets(day_tokens=100, month_tokens=1000)
    await ended(queue, terms(), 500)
    assert (await asked(queue, terms(0, 1, budgets=budgets))).refused == "day_tokens"
    await redis.hset(keys.use("anna"), "day_ends", "1")  # type: ignore[misc]
    assert (await asked(queue, terms(0, 1, budgets=budgets))).refused == ""
    await ended(queue, terms(), 500)
    assert (await use(queue)).spent == Budgets(500, 0, 1000, 0)
    await redis.hset(keys.use("anna"), mapping={"day_ends": "1", "month_ends": "1"})  # type: ignore[misc]
    assert (await use(queue)).spent == Budgets()
    assert (await asked(queue, terms(0, 1, budgets=budgets))).refused == ""


async def test_end_before_a_border_counts_for_the_period_before(queue: Queue, redis: Redis) -> None:
    """It is charged after midnight, or after the first of the month."""
    wanted, now = terms(), await queue.server.now()
    await ended(queue, wanted, 10, at=now)
    last_day, last_month = now - 3000, (now - 4000)
    for at, ends in ((last_day, {"day_ends": now + 1}), (last_month, {"day_ends": now + 1, "month_ends": now + 1})):
        spent = Spent(0, 5, 0, at)
        await redis.hset(keys.use("anna"), mapping={k: str(v + HOUR_MS * 2000) for k, v in ends.items()})  # type: ignore[misc]
        await settle(queue, state_of(new_generation_id(), spent))
    assert (await use(queue)).spent == Budgets(10, 0, 15, 0)


def test_periods_end_at_midnight_and_on_the_first_of_the_next_month() -> None:
    def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
        return round(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1000)

    assert period_ends(ms(2026, 11, 22, 23, 59)) == (ms(2026, 11, 23), ms(2026, 12, 1))
    assert period_ends(ms(2026, 12, 31)) == (ms(2027, 1, 1), ms(2027, 1, 1))
    assert period_ends(ms(2028, 2, 28)) == (ms(2028, 2, 29), ms(2028, 3, 1))
    assert period_ends(ms(2026, 1, 31, 12)) == (ms(2026, 2, 1), ms(2026, 2, 1))


# Exactly once


async def test_end_is_charged_once_however_often_it_is_written(queue: Queue) -> None:
    wanted = terms(60_000, 100)
    await asked(queue, wanted)
    for used in (80, 80, 90, 0):  # the same end again, then another one that a restored log has got
        await ended(queue, wanted, used, cost=0.5)
    used_now = await use(queue)
    assert used_now.spent == Budgets(80, nano_dollars(0.5), 80, nano_dollars(0.5))
    assert (used_now.held_tokens, used_now.minute <= 80) == (0, True)


async def test_end_that_is_older_than_its_mark_is_not_charged(queue: Queue) -> None:
    wanted, now = terms(6000, 100), await queue.server.now()
    await asked(queue, wanted)
    await ended(queue, wanted, 80, at=now - 1000 * CHARGEABLE_S - 1000)
    used = await use(queue)
    assert (used.spent, used.held_tokens) == (Budgets(), 0)
    await ended(queue, terms(), 80, at=now - 1000 * CHARGEABLE_S + 60_000)
    assert (await use(queue)).spent.month_tokens in (0, 80)  # 0 in the first two hours of a month


async def test_mark_outlives_the_time_in_which_an_end_can_be_charged(queue: Queue, redis: Redis) -> None:
    wanted, now = terms(), await queue.server.now()
    await ended(queue, wanted, 80)
    assert wanted.reservation is not None
    name = keys.settled("anna")
    assert await redis.pttl(name) > 1000 * CHARGEABLE_S
    await redis.zadd(name, {wanted.reservation.generation_id: now - 1000 * CHARGEABLE_S, "older": 1})
    await ended(queue, terms(), 1)
    assert await redis.zscore(name, wanted.reservation.generation_id)
    assert await redis.zscore(name, "older") is None


async def test_generation_that_an_earlier_version_has_ended_is_not_charged(queue: Queue) -> None:
    state = msgspec.structs.replace(state_of(new_generation_id(), Spent(1, 1, 1, 1)), spent="")
    assert queue.quotas.settle_commands(state) == []


async def test_sum_of_what_is_reserved_is_that_of_its_parts_whatever_happens(queue: Queue, redis: Redis) -> None:
    rng = random.Random(11)
    made: list[Terms] = []
    charged: dict[str, int] = {}
    for _ in range(300):
        if not made or rng.random() < 0.4:
            made.append(terms(10**9, rng.randrange(1, 500), budgets=Budgets(day_tokens=10**9)))
            await asked(queue, made[-1])
            continue
        wanted, used = rng.choice(made), rng.randrange(500)
        assert wanted.reservation is not None
        charged.setdefault(wanted.reservation.generation_id, used)
        await ended(queue, wanted, used)
    held = await redis.hgetall(keys.reserved("anna"))  # type: ignore[misc]
    used_now = await use(queue)
    assert used_now.held_tokens == sum(int(each.split(b"+")[0]) for each in held.values())
    assert used_now.spent.day_tokens == sum(charged.values())
    assert set(held) == set(await redis.zrange(keys.reserved_until("anna"), 0, -1))


# All limits before any charge


async def test_creation_that_one_limit_refuses_is_charged_by_none(queue: Queue, redis: Redis) -> None:
    charge, budgets = Charge(1, 60_000, 2000), Budgets(day_tokens=10)
    await ended(queue, terms(), 10)
    before = {name: await redis.dump(name) for name in await redis.keys()}
    reservation = terms(1000, 1, budgets=budgets).reservation
    refusals = {
        "day_tokens": Terms(reservation=reservation),
        "queue": Terms(0, reservation=reservation),
        "unfinished": Terms(9, 0, reservation=reservation),
        "stored": Terms(9, 9, 99, 100, reservation=reservation),
        "memory": Terms(9, 9, 99, 1, True, reservation),
        "tokens": terms(1, 5, input=5),
    }
    owed = {"level": "6", "at": str(await queue.server.now()), "rate": "0"}
    await redis.hset(keys.use("berta"), mapping=owed)  # type: ignore[misc]
    for name, wanted in refusals.items():
        if name == "tokens":
            continue
        load = await queue.load("anna", "key", Claim.of("gen", b""), 60, charge, wanted)
        assert load.quota.refused == name
    assert {name: await redis.dump(name) for name in await redis.keys() if name != keys.use("berta").encode()} == before
    load = await queue.load("berta", "key", Claim.of("gen", b""), 60, charge, refusals["tokens"])
    assert load.quota.refused == "tokens"
    assert not await redis.exists(keys.owed("berta"), keys.reserved("berta"))
    assert (await queue.load("berta", charge=charge, terms=terms(100, 50))).quota.refused == ""
    beyond = await queue.load("berta", charge=charge, terms=terms(100, 50))
    assert (beyond.quota.refused, beyond.usage.wait_ms > 0) == ("requests", True)
    assert (await use(queue, "berta")).held_tokens == 50


async def test_keys_of_a_caller_who_is_gone_expire(queue: Queue, redis: Redis) -> None:
    wanted = terms(1000, 5)
    await asked(queue, wanted)
    await asked(queue, terms(1000, 5))
    await ended(queue, wanted, 3)
    for name in await redis.keys():
        assert 0 < await redis.pttl(name) <= 1000 * LIFE_S


async def test_costs_are_summed_without_an_error_of_rounding(queue: Queue) -> None:
    for _ in range(30):
        await ended(queue, terms(), 1, cost=0.1)
    assert (await use(queue)).spent.day_cost == 3 * NANO


def test_least_budget_is_one_and_not_none() -> None:
    assert [nano_dollars(each) for each in (0.0, 1e-12, 0.4e-9, 1e-9, 0.25)] == [0, 1, 1, 1, 250_000_000]
