"""Frontends that are killed, and clients that read slowly or stop reading."""

import asyncio
import contextlib
from collections.abc import Iterable

from system.chaos_stack import ChaosStack
from system.injectors import Link, link
from system.load import Load, Run
from system.readers import FrontendPorts, Reader


async def frontend_kills(run: Run) -> None:
    """Three frontends, one of them killed at a time; its readers resume at another one."""
    async with run.stack(workers=1, frontends=3) as stack:
        load = run.load(stack, may_cut=True)

        async def kill() -> None:
            for done in range(run.size["kills"]):
                await asyncio.sleep(run.rng.uniform(0.3, 1.0))
                victim = run.rng.choice(stack.frontends)
                await stack.kill(victim)
                await victim.ready()
                run.report(f"{done + 1} kills, {len(load.cases)} generations")

        killing = asyncio.create_task(kill())
        each = run.size["readers"] // run.size["generations"]
        await load.play_until(
            run.plans(120, 20.0), 0, lambda: not killing.done(), run.size["generations"], stay=each - 1, hop=1
        )
        await killing
        await load.reread()
        run.runs = len(stack.faults)
        run.samples = _resumed(load.readers)
        run.notes.append(f"{len(load.cases)} generations, {len(load.readers)} readers")


def _resumed(readers: Iterable[Reader]) -> list[float]:
    """Seconds from each cut, except those by the reader itself, to its next event."""
    found = []
    for reader in readers:
        cuts = [visit.until for visit in reader.visits[:-1] if visit.status == 200 and visit.end == "cut"]
        for cut in cuts if "hops" not in reader.name else ():
            found += [next((each.at for each in reader.received if each.at > cut), cut) - cut]
    return found


async def slow_readers(run: Run) -> None:
    """Clients that stall, read slowly, or vanish without closing, beside one that reads at once."""
    async with run.stack(workers=1, frontends=1, client_write_timeout_s="6") as stack, \
            link(stack.ports[0], run.rng) as slow, link(stack.ports[0], run.rng) as dead:  # fmt: skip
        load = run.load(stack)
        for _ in range(run.size["generations"]):
            await _read_slowly(run, stack, load, slow, dead)
            run.report(f"{run.runs} slow readers")
        await load.reread()


async def _read_slowly(run: Run, stack: ChaosStack, load: Load, slow: Link, dead: Link) -> None:
    slow.bytes_per_s, dead.black_hole = 1_500_000, False
    case = await load.create(run.plan(run.size["tokens"], 500.0, padding=3500))
    reading = [load.reader(case, "stays")]
    reading += [load.reader(case, f"stalls {i}", pause_s=3 + i, buffer=4096) for i in range(2)]
    reading += [load.reader(case, f"is slow {i}", FrontendPorts(lambda: [slow.port])) for i in range(2)]
    vanished = Reader("vanishes", case.plan, case.generation_id, FrontendPorts(lambda: [dead.port], may_cut=True))
    vanishing = asyncio.create_task(vanished.read(60))
    await stack.until(lambda: bool(vanished.received), 20, "no event is received")
    dead.black_hole = dead.half_open = True
    await asyncio.gather(*(reader.read(60) for reader in reading))
    vanishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await vanishing
    run.runs += len(reading)
