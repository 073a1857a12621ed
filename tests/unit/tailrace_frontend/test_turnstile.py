import asyncio
from collections import Counter

from tailrace_frontend.turnstile import BEGIN, OPEN, READ, STAGES, Turnstile


async def test_few_steps_pass_in_each_turn_and_all_in_order() -> None:
    turnstile, turn, began = Turnstile(3), 0, list[tuple[int, int]]()

    async def request(number: int) -> None:
        await turnstile.enter()
        began.append((turn, number))

    requests = [asyncio.create_task(request(number)) for number in range(10)]
    while not all(each.done() for each in requests):
        turn += 1
        await asyncio.sleep(0)
    assert [number for _, number in began] == list(range(10))
    assert max(Counter(turn for turn, _ in began).values()) <= 3
    await turnstile.enter()


async def test_live_readers_have_a_turn_between_any_few_steps() -> None:
    """The callback of a live reader, which runs once a turn, runs before each further group of steps."""
    turnstile, steps_since, most, passed = Turnstile(4, STAGES), 0, 0, 0
    loop = asyncio.get_running_loop()

    def deliver() -> None:
        nonlocal steps_since, most
        most, steps_since = max(most, steps_since), 0
        if passed < 3 * 1000:
            loop.call_soon(deliver)

    async def join() -> None:
        nonlocal steps_since, passed
        for stage in (BEGIN, OPEN, READ):
            await turnstile.enter(stage)
            steps_since += 1
            passed += 1

    loop.call_soon(deliver)
    await asyncio.gather(*(join() for _ in range(1000)))
    await asyncio.sleep(0)
    assert passed == 3 * 1000
    assert most <= 2 * 4  # those of a turn that waited, and those that need not wait


async def test_a_join_that_has_begun_passes_before_those_that_have_not() -> None:
    turnstile, order = Turnstile(1, STAGES), list[str]()

    async def join(name: str) -> None:
        for stage in (BEGIN, OPEN, READ):
            await turnstile.enter(stage)
        order.append(name)

    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(join(str(number)))
        most_begun = 0
        while turnstile.waiting or len(order) < 50:
            most_begun = max(most_begun, sum(len(each) for each in turnstile._waiting[OPEN:]))
            await asyncio.sleep(0)
    assert order == [str(number) for number in range(50)]
    assert most_begun <= 2


async def test_late_stages_that_never_end_do_not_stop_arrivals() -> None:
    turnstile, arrived = Turnstile(6, STAGES), list[int]()

    def read() -> None:
        turnstile.wait(read, READ)

    for _ in range(20):
        turnstile.wait(read, READ)
    for number in range(10):
        turnstile.wait(lambda number=number: arrived.append(number), BEGIN)  # type: ignore[misc]
    turnstile.take_step()
    for _ in range(12):
        await asyncio.sleep(0)
    assert arrived == list(range(10))


async def test_a_cancelled_join_keeps_no_other_from_passing() -> None:
    turnstile = Turnstile(1)
    await turnstile.enter()
    cancelled, other = asyncio.create_task(turnstile.enter()), asyncio.create_task(turnstile.enter())
    await asyncio.sleep(0)
    cancelled.cancel()
    async with asyncio.timeout(1):
        await other


async def test_a_step_that_fails_keeps_no_other_from_passing() -> None:
    turnstile, passed, errors = Turnstile(1), list[int](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    assert turnstile.take_step()

    def fail() -> None:
        raise RuntimeError

    turnstile.wait(fail)
    turnstile.wait(lambda: passed.append(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert passed == [1]
    assert [type(error) for error in errors] == [RuntimeError]
    assert turnstile.take_step()
