"""Races for the end, and cursors that were never handed out."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from system.checker import Case, Plan, Text
from system.fleet import Fleet
from system.load import Load, Run
from system.wire_client import CUT, Event, EventParser, ask, open_exchange


async def in_turn(count: int, at_once: int, one: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as working:
        for _ in range(at_once):
            working.create_task(work())


async def cancel_races(run: Run) -> None:
    """Cancel arrives when the answer ends: one of them wins, and everybody hears of that one end only."""
    async with run.fleet(workers=2, frontends=2) as fleet:
        load = run.load(fleet)
        outcomes: list[str] = []

        async def race(number: int) -> None:
            plan = run.plan(4, 60.0, statuses=frozenset({"completed", "cancelled"}))
            case = await load.create(plan)
            reader = load.reader(case, "stays")
            reading = asyncio.create_task(reader.read(30))
            await asyncio.sleep(run.rng.uniform(0.02, 0.12))
            began = time.monotonic()
            path = f"/v1/generations/{case.generation}/cancel"
            status, told = await ask(load.nodes.next(), "POST", path)
            run.samples.append(time.monotonic() - began)
            run.check(status == 200, "status", f"cancel is answered {status} {told}")
            await reading
            if status == 200 and reader.done:
                outcomes.append(told["status"])
                ends = {told["status"], reader.done["status"]}
                run.check(len(ends) == 1, "two ends", f"{plan.tag}: {ends}")
            await load.look_at(case)
            case.compare()
            if number % 20 == 0:
                run.tell(f"{number} races, {outcomes.count('cancelled')} cancelled")

        await in_turn(run.size["races"], run.size["at once"], race)
        run.runs = len(outcomes)
        run.notes.append(f"{outcomes.count('cancelled')} cancelled, {outcomes.count('completed')} completed")


async def cursor_fuzz(run: Run) -> None:
    """Cursors from the past, the future, other logs and no log at all: 204, 400, 404, or the text, told exactly."""
    async with run.fleet(workers=1, frontends=1) as fleet:
        load = run.load(fleet)
        ended = [await load.play(run.plan(30), hop=0) for _ in range(2)]
        live = await load.create(run.plan(10**6, 2.0))
        answers: dict[int, int] = {}

        async def probe(number: int) -> None:
            case = run.rng.choice(ended) if number % 10 else live
            status = await _probe(run, fleet, load, case, case is live, _cursor(run, load, case, number))
            answers[status] = answers.get(status, 0) + 1
            if number % 50 == 0:
                run.tell(f"{number} cursors: {answers}")

        await in_turn(run.size["cursors"], run.size["at once"], probe)
        await ask(fleet.ports[0], "POST", f"/v1/generations/{live.generation}/cancel")
        run.runs = sum(answers.values())
        run.notes.append(", ".join(f"{count} × {status}" for status, count in sorted(answers.items())))


def _cursor(run: Run, load: Load, case: Case, number: int) -> bytes:
    """One of many kinds of cursor; the first kind is one that was really told."""
    rng = run.rng
    told = [heard.event.id or "" for reader in load.readers for heard in reader.heard]
    mine = [heard.event.id or "" for reader in case.readers for heard in reader.heard] or told
    epoch, _, n = rng.choice(mine).partition("-")
    kinds: list[Callable[[], str | bytes]] = [
        lambda: rng.choice(mine),
        lambda: rng.choice(told),
        lambda: f"{epoch}-{int(n) + rng.randint(-3, 60)}",
        lambda: f"{int(epoch) + rng.randint(-2000, 2000)}-{n}",
        lambda: f"{rng.randrange(10 ** rng.randint(1, 15))}-{rng.randrange(10 ** rng.randint(1, 15))}",
        lambda: f"{2 ** rng.randint(50, 70)}-{2 ** rng.randint(1, 70)}",
        lambda: f"-{epoch}-{n}",
        lambda: f"{epoch}-{n}-{n}",
        lambda: rng.choice(["0", "$", "-", "+", "0-0", "*", "latest", "null", "１２-３", "0x10-1", "1e3-1", " "]),
        lambda: rng.randbytes(rng.randint(1, 40)).translate(None, b"\r\n"),
        lambda: "9" * rng.randint(16, 5000) + "-1",
        lambda: f"{epoch}-{n}, {epoch}-{n}",
    ]
    cursor = kinds[number % len(kinds)]()
    return cursor.encode() if isinstance(cursor, str) else cursor


async def _probe(run: Run, fleet: Fleet, load: Load, case: Case, is_live: bool, cursor: bytes) -> int:
    """Ask with that cursor; an answer in events is read to its end, a live one up to its first text."""
    path = f"/v1/generations/{case.generation}/events"
    headers: dict[str, str | bytes] = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
    try:
        async with asyncio.timeout(12):
            exchange = await open_exchange(fleet.ports[0], "GET", path, headers)
            try:
                if exchange.status == 200:
                    await _judge(run, case.plan, is_live, cursor, exchange.pieces())
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


async def _judge(run: Run, plan: Plan, is_live: bool, cursor: bytes, pieces: AsyncIterator[bytes]) -> None:
    """What follows a cursor is the rest of the log, or all of it after a word that begins anew."""
    parser, events = EventParser(), list[Event]()
    async for piece in pieces:
        events += parser.feed(piece)
        if is_live and any(event.kind == "text" for event in events):
            return
        if events and events[-1].kind == "done":
            break
    run.check(bool(events) and events[-1].kind == "done", "silent end", f"{cursor[:60]!r}: {[e.kind for e in events]}")
    if events and events[0].kind == "restarted" and events[0].id is None:
        fold = Text(plan)
        for kind, detail in itertools.chain.from_iterable(fold.add(event) for event in events):
            run.wrong(kind, repr(cursor[:60]), detail)
        return
    text = "".join(event.value["text"] for event in events if event.kind == "text")
    numbers = [int(token.split(":")[1].split("@")[0]) for token in text.split()]
    run.check(
        numbers == list(range(plan.tokens))[-len(numbers) :] or not numbers, "lost", f"{cursor[:60]!r}: {numbers}"
    )
