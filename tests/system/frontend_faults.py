"""Web nodes that die, and clients that take their time."""

import asyncio
import contextlib
from collections.abc import Iterable

from system.fleet import Fleet
from system.injectors import Link, link
from system.load import Load, Run
from system.readers import Nodes, Reader


async def frontend_kills(run: Run) -> None:
    """Three frontends, one of them killed at a time; their readers go on at another."""
    async with run.fleet(workers=1, frontends=3) as fleet:
        load = run.load(fleet, may_cut=True)

        async def kill() -> None:
            for done in range(run.size["kills"]):
                await asyncio.sleep(run.rng.uniform(0.3, 1.0))
                victim = run.rng.choice(fleet.frontends)
                await fleet.kill(victim)
                await victim.ready()
                run.tell(f"{done + 1} kills, {len(load.cases)} generations")

        killing = asyncio.create_task(kill())
        each = run.size["readers"] // run.size["generations"]
        await load.play_until(
            run.plans(120, 20.0), 0, lambda: not killing.done(), run.size["generations"], stay=each - 1, hop=1
        )
        await killing
        await load.look_again()
        run.runs = len(fleet.faults)
        run.samples = _resumed(load.readers)
        run.notes.append(f"{len(load.cases)} generations, {len(load.readers)} readers")


def _resumed(readers: Iterable[Reader]) -> list[float]:
    """Seconds from each cut that a reader did not make itself to its next event."""
    found = []
    for reader in readers:
        cuts = [visit.until for visit in reader.visits[:-1] if visit.status == 200 and visit.end == "cut"]
        for cut in cuts if "hops" not in reader.name else ():
            found += [next((heard.at for heard in reader.heard if heard.at > cut), cut) - cut]
    return found


async def slow_readers(run: Run) -> None:
    """Clients that stall, read slowly, or are gone without a word, beside one that reads at once."""
    async with run.fleet(workers=1, frontends=1, client_write_timeout_s="6") as fleet, \
            link(fleet.ports[0], run.rng) as slow, link(fleet.ports[0], run.rng) as dead:  # fmt: skip
        load = run.load(fleet)
        for _ in range(run.size["generations"]):
            await _read_slowly(run, fleet, load, slow, dead)
            run.tell(f"{run.runs} slow readers")
        await load.look_again()


async def _read_slowly(run: Run, fleet: Fleet, load: Load, slow: Link, dead: Link) -> None:
    slow.bytes_per_s, dead.black_hole = 1_500_000, False
    case = await load.create(run.plan(run.size["tokens"], 500.0, padding=3500))
    reading = [load.reader(case, "stays")]
    reading += [load.reader(case, f"stalls {i}", pause_s=3 + i, buffer=4096) for i in range(2)]
    reading += [load.reader(case, f"is slow {i}", Nodes(lambda: [slow.port])) for i in range(2)]
    vanished = Reader("vanishes", case.plan, case.generation, Nodes(lambda: [dead.port], may_cut=True))
    vanishing = asyncio.create_task(vanished.read(60))
    await fleet.until(lambda: bool(vanished.heard), 20, "nothing is told")
    dead.black_hole = dead.half_open = True
    await asyncio.gather(*(reader.read(60) for reader in reading))
    vanishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await vanishing
    run.runs += len(reading)
