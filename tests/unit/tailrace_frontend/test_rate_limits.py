import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from tailrace.errors import LONGEST_RETRY_S, RateLimited
from tailrace.queue import FREE
from tailrace.settings import Settings
from tailrace_frontend.rate_limits import (
    BURST_S,
    DELAY_S,
    STREAM_INTERVAL_S,
    TURNS,
    UNIT_BYTES,
    UNIT_READ_BYTES,
    Pace,
    Rate,
    RateLimits,
    units,
)

PER_MINUTE = 480  # one in an eighth of a second: sums of it are exact


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as its only element; a delay lets it pass."""
    now = [1000.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return now


def limits(**settings: Any) -> RateLimits:
    chosen = {"max_requests_per_minute_per_caller": PER_MINUTE, "max_readers_per_caller": 50, **settings}
    return RateLimits(Settings(api_keys=SecretStr("anna:anna-key-1"), **chosen))


async def served(calls: int, limits: RateLimits, owner: str = "anna", *, streams: bool = False) -> int:
    count = 0
    for _ in range(calls):
        try:
            await (limits.charge_stream(owner) if streams else limits.charge_request(owner))
        except RateLimited:
            return count
        count += 1
    return count


def test_rate_lets_a_burst_pass_and_then_one_unit_an_interval(clock: list[float]) -> None:
    rate = Rate(lambda _: Pace(0.125, 1.0))
    assert [rate.charge("anna", 1) for _ in range(9)] == [0.0] * 9
    assert rate.charge("anna", 1) == 0.125
    clock[0] += 0.125
    assert rate.charge("anna", 1) == 0.0
    assert rate.charge("anna", 1) > 0.0
    assert rate.charge("ben", 1) == 0.0


def test_refused_request_is_not_counted(clock: list[float]) -> None:
    rate = Rate(lambda _: Pace(0.1, 0.0))
    rate.charge("anna", 100)
    waits = [rate.charge("anna", 100) for _ in range(3)]
    assert waits == pytest.approx([10.0] * 3)
    clock[0] += 10.001
    assert rate.charge("anna", 1) == 0.0


def test_debt_is_paid_at_a_raised_limit_and_no_faster_at_a_lowered_one(clock: list[float]) -> None:
    pace = Pace(60.0, 2.0)
    rate = Rate(lambda _: pace)
    rate.charge("anna", 100)
    assert rate.ahead_s("anna") == 6000.0
    assert rate.charge("anna", 1) == 5998.0
    pace = Pace(0.125, 2.0)
    assert rate.ahead_s("anna") == 12.5
    assert rate.charge("anna", 1) == 10.5
    clock[0] += 10.5
    assert rate.charge("anna", 1) == 0.0
    assert rate.ahead_s("anna") == 2.125
    pace = Pace(60.0, 2.0)
    assert rate.ahead_s("anna") == 2.125, "it was within the limit of that time"
    clock[0] += 2.125
    rate.add("anna", 1)
    assert rate.ahead_s("anna") == 60.0


def test_body_costs_a_unit_for_each_4_kib_and_a_list_one_for_20_items() -> None:
    assert [units(each) for each in (0, UNIT_BYTES - 1, UNIT_BYTES, 8 * 1024**2)] == [1, 1, 2, 2049]
    assert [units(0, each) for each in (0, 19, 20, 100)] == [1, 1, 2, 6]


async def test_caller_beyond_the_rate_is_refused_and_others_are_not(clock: list[float]) -> None:
    one = limits()
    assert await served(1000, one) == PER_MINUTE / 60 * BURST_S + 1
    assert await served(5, one, "ben") == 5


@pytest.mark.parametrize(("body_bytes", "least", "most"), [(0, 0.5, 1.5), (8 * 1024**2, 1.5, 4.5)])
async def test_refusal_is_delayed_and_has_the_seconds_until_a_retry_succeeds(
    clock: list[float], body_bytes: int, least: float, most: float
) -> None:
    one = limits()
    await one.charge_request("anna", PER_MINUTE * UNIT_BYTES)
    began = clock[0]
    with pytest.raises(RateLimited) as raised:
        await one.charge_request("anna", body_bytes)
    assert least <= clock[0] - began <= most
    clock[0] += int(raised.value.headers()["Retry-After"]) - 1
    assert await served(1, one) == 0
    clock[0] += 1
    assert await served(1, one) == 1


async def test_streams_are_counted_apart_and_every_reader_may_reconnect_at_once(clock: list[float]) -> None:
    one = limits()
    await served(1000, one)
    burst = int(PER_MINUTE / 60 * BURST_S + 50 + 1)
    assert await served(burst, one, streams=True) == burst
    assert clock[0] - 1000 - DELAY_S * 1.5 <= burst * STREAM_INTERVAL_S
    assert await served(1000, one, streams=True) < burst


async def test_streams_of_a_caller_are_opened_one_after_another(clock: list[float]) -> None:
    one, opened = limits(), list[float]()
    for _ in range(20):
        await one.charge_stream("anna")
        opened.append(clock[0])
        clock[0] = 1000.0  # the next request came at the same time
    assert opened == pytest.approx([1000 + number * STREAM_INTERVAL_S for number in range(20)])
    await one.charge_stream("ben")
    assert clock[0] == 1000.0


async def test_stream_that_comes_later_is_opened_at_once(clock: list[float]) -> None:
    one = limits()
    await one.charge_stream("anna")
    clock[0] += STREAM_INTERVAL_S
    before = clock[0]
    await one.charge_stream("anna")
    assert clock[0] == before


async def test_open_mode_counts_nothing() -> None:
    one = RateLimits(Settings(max_requests_per_minute_per_caller=1))
    assert await served(1000, one) == 1000
    assert await served(1000, one, streams=True) == 1000
    assert one.creation("open", 10**6) == FREE


async def test_delayed_refusals_wait_beside_each_other() -> None:
    one = limits()
    await one.charge_request("anna", PER_MINUTE * UNIT_BYTES)
    began = time.monotonic()
    results = await asyncio.gather(*(one.charge_request("anna") for _ in range(50)), return_exceptions=True)
    assert all(isinstance(each, RateLimited) for each in results)
    assert time.monotonic() - began < 4 * DELAY_S


async def test_requests_of_a_caller_are_worked_on_a_few_at_a_time_in_their_order() -> None:
    one, started, finish = limits(), list[int](), asyncio.Event()

    async def work(number: int) -> None:
        async with one.turn("anna"):
            started.append(number)
            await finish.wait()

    tasks = [asyncio.create_task(work(number)) for number in range(3 * TURNS)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert started == list(range(TURNS))
    async with asyncio.timeout(1), one.turn("ben"):
        pass
    tasks[TURNS].cancel()
    finish.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert started == [*range(TURNS), *range(TURNS + 1, 3 * TURNS)]


async def test_open_mode_works_on_everything_at_once() -> None:
    one = RateLimits(Settings())
    async with asyncio.timeout(1), AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(one.turn("open"))


async def test_answer_is_charged_by_its_bytes_once_they_are_known(clock: list[float]) -> None:
    one = limits()
    per_s = PER_MINUTE // 60
    one.charge_answer("anna", int(2 * BURST_S * per_s) * UNIT_READ_BYTES)
    assert await served(1, one) == 0
    assert await served(1, one, "ben") == 1
    clock[0] += BURST_S
    assert await served(1, one) == 1


async def test_caller_reads_one_generation_at_a_time_and_no_more_than_its_rate_allows() -> None:
    one, reads, most = limits(), list[str](), 0

    async def read(owner: str, answer_bytes: int) -> None:
        nonlocal most
        async with one.reading(owner):
            reads.append(owner)
            most = max(most, reads.count(owner))
            await asyncio.sleep(0)
            one.charge_answer(owner, answer_bytes)
            reads.remove(owner)

    large = int(2 * BURST_S * PER_MINUTE / 60) * UNIT_READ_BYTES
    results = await asyncio.gather(*(read("anna", large) for _ in range(10)), return_exceptions=True)
    assert [result is None for result in results] == [True] + 9 * [False]
    assert all(isinstance(each, RateLimited) for each in results[1:])
    await asyncio.gather(*(read("ben", 100) for _ in range(10)))
    assert most == 1


async def test_body_of_unknown_length_may_exceed_the_rate_and_the_others_are_refused(clock: list[float]) -> None:
    one, received = limits(), 0
    for _ in range(1000):
        await one.charge_body("anna", "first", received, UNIT_BYTES)
        received += UNIT_BYTES
    with pytest.raises(RateLimited) as raised:
        await one.charge_body("anna", "second", 0, UNIT_BYTES)
    assert raised.value.retry_after > 100
    assert raised.value.headers()["Retry-After"] == str(LONGEST_RETRY_S)
    await one.charge_body("anna", "first", received, UNIT_BYTES)
    assert await served(1, one) == 0
    await one.charge_body("ben", "third", 0, UNIT_BYTES)


async def test_pieces_of_a_body_cost_as_much_as_all_of_it(clock: list[float]) -> None:
    one = limits()
    for received in range(0, 10 * UNIT_BYTES, 64):
        await one.charge_body("anna", "body", received, 64)
    assert await served(1000, one) == PER_MINUTE / 60 * BURST_S + 1 - 10


async def test_open_mode_charges_no_answer_and_reads_side_by_side() -> None:
    one = RateLimits(Settings(max_requests_per_minute_per_caller=1))
    one.charge_answer("open", 10**9)
    for body in ("first", "second"):
        await one.charge_body("open", body, 0, 10**9)
    async with asyncio.timeout(1), one.reading("open"), one.reading("open"):
        pass


async def test_nothing_is_kept_of_callers_who_have_paid(clock: list[float]) -> None:
    one = limits()

    async def use(owner: str) -> None:
        await one.charge_request(owner)
        await one.charge_body(owner, object(), 0, UNIT_BYTES)
        await one.charge_stream(owner)
        async with one.turn(owner), one.reading(owner):
            one.charge_answer(owner, UNIT_READ_BYTES)

    def kept() -> int:
        return sum(len(each) for each in vars(one).values() if hasattr(each, "__len__"))

    for number in range(1000):
        await use(f"caller {number}")
    assert kept() >= 1000
    clock[0] += 3600
    for _ in range(1000):
        await use("anna")
        clock[0] += 1
    assert kept() < 10
