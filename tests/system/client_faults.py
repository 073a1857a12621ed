"""Clients that cancel at the end of an answer, and clients that send cursors which they never received."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from system.chaos_stack import ChaosStack
from system.checker import Case, Fold, Plan
from system.load import Load, Run
from system.readers import Reader
from system.wire_client import CUT, Event, EventParser, ask, open_exchange

RACE_TOKENS, RACE_RATE = 12, 60.0


async def in_turn(count: int, at_once: int, one: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as working:
        for _ in range(at_once):
            working.create_task(work())


class Aim:
    """When to cancel, in seconds after a reader's first text, so that the cancel wins about half of the races.

    The first guess is the plan's own duration. Each result moves the aim by a little: a cancel that won was early, one
    that lost was late. So the aim finds the median of this machine at this load, and follows it.
    """

    STEP_S = 0.002
    JITTER_S = 0.01

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._after_s = (RACE_TOKENS - 1) / RACE_RATE

    def delay_s(self) -> float:
        return max(0.0, self._after_s + self._rng.uniform(-self.JITTER_S, self.JITTER_S))

    def learn(self, status: str) -> None:
        self._after_s = max(0.0, self._after_s + (self.STEP_S if status == "cancelled" else -self.STEP_S))


async def cancel_races(run: Run) -> None:
    """A cancel arrives when the answer ends: one of them wins, and every client receives that one end."""
    async with run.stack(workers=2, frontends=2) as stack:
        load, aim, outcomes = run.load(stack), Aim(run.rng), list[str]()

        async def race(number: int) -> None:
            case = await load.create(run.plan(RACE_TOKENS, RACE_RATE, statuses=frozenset({"completed", "cancelled"})))
            reader = load.reader(case, "stays")
            reading = asyncio.create_task(reader.read(30))
            await _first_text(reader)
            await asyncio.sleep(aim.delay_s())
            if status := await _cancel(run, load, case):
                aim.learn(status)
                await reading
                outcomes.append(status)
                ends = {status, reader.done["status"] if reader.done else status}
                run.check(len(ends) == 1, "two ends", f"{case.plan.tag}: {ends}")
            await reading
            await load.reread_case(case)
            case.compare()
            if number % 20 == 0:
                run.report(f"{number} races, {outcomes.count('cancelled')} cancelled")

        await in_turn(run.size["races"], run.size["at once"], race)
        run.runs = len(outcomes)
        won = outcomes.count("cancelled")
        share = won / max(1, len(outcomes))
        run.notes.append(f"{won} cancelled, {len(outcomes) - won} completed: the cancel won {share:.0%}")


async def _first_text(reader: Reader) -> None:
    while not reader.over and not any(each.event.kind == "text" for each in reader.received):  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def _cancel(run: Run, load: Load, case: Case) -> str:
    """The final status that the answer names; empty if there is no answer of 200."""
    began = time.monotonic()
    status, answer = await ask(load.ports.next(), "POST", f"/v1/generations/{case.generation_id}/cancel")
    run.samples.append(time.monotonic() - began)
    run.check(status == 200, "status", f"the answer to a cancel is {status} {answer}")
    return str(answer["status"]) if status == 200 else ""


async def cursor_fuzz(run: Run) -> None:
    """Cursors from the past, the future, other logs and no log: the answer is 204, 400, 404, or exactly the text."""
    async with run.stack(workers=1, frontends=1) as stack:
        load = run.load(stack)
        ended = [await load.play(run.plan(30), hop=0) for _ in range(2)]
        live = await load.create(run.plan(10**6, 2.0))
        answers: dict[int, int] = {}

        async def probe(number: int) -> None:
            case = run.rng.choice(ended) if number % 10 else live
            status = await _probe(run, stack, load, case, case is live, _cursor(run, load, case, number))
            answers[status] = answers.get(status, 0) + 1
            if number % 50 == 0:
                run.report(f"{number} cursors: {answers}")

        await in_turn(run.size["cursors"], run.size["at once"], probe)
        await ask(stack.ports[0], "POST", f"/v1/generations/{live.generation_id}/cancel")
        run.runs = sum(answers.values())
        run.notes.append(", ".join(f"{count} × {status}" for status, count in sorted(answers.items())))


def _cursor(run: Run, load: Load, case: Case, number: int) -> bytes:
    """One of many kinds of cursor; the first kind is an id of this log."""
    rng = run.rng
    every = [each.event.id or "" for reader in load.readers for each in reader.received]
    own = [each.event.id or "" for reader in case.readers for each in reader.received] or every
    epoch, _, seq = rng.choice(own).partition("-")
    kinds: list[Callable[[], str | bytes]] = [
        lambda: rng.choice(own),
        lambda: rng.choice(every),
        lambda: f"{epoch}-{int(seq) + rng.randint(-3, 60)}",
        lambda: f"{int(epoch) + rng.randint(-2000, 2000)}-{seq}",
        lambda: f"{rng.randrange(10 ** rng.randint(1, 15))}-{rng.randrange(10 ** rng.randint(1, 15))}",
        lambda: f"{2 ** rng.randint(50, 70)}-{2 ** rng.randint(1, 70)}",
        lambda: f"-{epoch}-{seq}",
        lambda: f"{epoch}-{seq}-{seq}",
        lambda: rng.choice(["0", "$", "-", "+", "0-0", "*", "latest", "null", "１２-３", "0x10-1", "1e3-1", " "]),
        lambda: rng.randbytes(rng.randint(1, 40)).translate(None, b"\r\n"),
        lambda: "9" * rng.randint(16, 5000) + "-1",
        lambda: f"{epoch}-{seq}, {epoch}-{seq}",
    ]
    cursor = kinds[number % len(kinds)]()
    return cursor.encode() if isinstance(cursor, str) else cursor


async def _probe(run: Run, stack: ChaosStack, load: Load, case: Case, is_live: bool, cursor: bytes) -> int:
    """The status for that cursor. A stream is read to its end, that of the running generation to its first text."""
    path = f"/v1/generations/{case.generation_id}/events"
    headers: dict[str, str | bytes] = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
    try:
        async with asyncio.timeout(12):
            exchange = await open_exchange(stack.ports[0], "GET", path, headers)
            try:
                if exchange.status == 200:
                    await _judge(run, case.plan, is_live, cursor, exchange.chunks())
            finally:
                exchange.close()
    except CUT as error:
        run.wrong("no answer", repr(cursor[:60]), repr(error))
        return 0
    except TimeoutError:
        run.wrong("hang", repr(cursor[:60]), f"on {case.plan.tag}, live: {is_live}")
        return -1
    if exchange.status not in (200, 204, 400, 404, 410):
        run.wrong("status", repr(cursor[:60]), str(exchange.status))
    return exchange.status


async def _judge(run: Run, plan: Plan, is_live: bool, cursor: bytes, chunks: AsyncIterator[bytes]) -> None:
    """What follows a cursor is the rest of the log, or all of it after a `restarted` without an id."""
    parser, events = EventParser(), list[Event]()
    async for chunk in chunks:
        events += parser.feed(chunk)
        if is_live and any(event.kind == "text" for event in events):
            return
        if events and events[-1].kind == "done":
            break
    run.check(bool(events) and events[-1].kind == "done", "silent end", f"{cursor[:60]!r}: {[e.kind for e in events]}")
    if events and events[0].kind == "restarted" and events[0].id is None:
        fold = Fold(plan)
        for kind, detail in itertools.chain.from_iterable(fold.add(event) for event in events):
            run.wrong(kind, repr(cursor[:60]), detail)
        return
    text = "".join(event.value["text"] for event in events if event.kind == "text")
    numbers = [int(token.split(":")[1].split("@")[0]) for token in text.split()]
    run.check(
        numbers == list(range(plan.tokens))[-len(numbers) :] or not numbers, "lost", f"{cursor[:60]!r}: {numbers}"
    )
