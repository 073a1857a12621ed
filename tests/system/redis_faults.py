"""The log's server dies, comes back with older data or with none, stays away, or is full."""

import asyncio
import signal
import time
from collections.abc import Sequence
from functools import partial

from system.checker import Case, waits
from system.fleet import LEASE_S, Fleet
from system.injectors import Snapshot, forget_all, leave_memory
from system.load import Load, Run
from system.readers import Reader
from system.wire_client import ask

KEEPALIVE_S = 3.0
ON_ITS_WAY_S = 0.1  # until a client has read that it was accepted
FULL = frozenset({"out_of_memory"})
Window = tuple[float, float]


async def redis_kills(run: Run) -> None:
    """The server is killed and started again; some times with the data of a moment before."""
    async with run.fleet(workers=2, frontends=2) as fleet:
        load, windows = run.load(fleet), list[Window]()

        async def kill() -> None:
            roll_back = [i < run.size["rollbacks"] for i in range(run.size["kills"])]
            run.rng.shuffle(roll_back)
            for done, rolled in enumerate(roll_back):
                await asyncio.sleep(LEASE_S + run.rng.uniform(0.5, 2))
                windows.append(await _crash(run, fleet, run.rng.uniform(0.3, 1.5) if rolled else 0))
                run.tell(f"{done + 1} kills, {len(load.cases)} generations")
            await asyncio.sleep(LEASE_S + 1)

        killing = asyncio.create_task(kill())
        plans = run.plans(70, 20.0, may_vanish=True)
        await load.play_until(plans, run.size["generations"], lambda: not killing.done(), run.size["at once"])
        await killing
        await load.look_again()
        _judge_vanished(run, load, windows)
        run.runs = len(fleet.faults)
        run.samples = waits(load.readers, fleet.faults)


async def _crash(run: Run, fleet: Fleet, back_s: float, down_s: float | None = None) -> Window:
    """Kill, and start with the data of so many seconds before; what was accepted in between may be lost."""
    snapshot, taken = (Snapshot(fleet.redis), time.monotonic()) if back_s else (None, 0.0)
    await asyncio.sleep(back_s)
    killed = fleet.fault()
    fleet.redis.kill()
    if snapshot:
        snapshot.roll_back()
    await asyncio.sleep(run.rng.uniform(0.1, 1.0) if down_s is None else down_s)
    fleet.redis.start()
    return (taken - 0.5, killed + ON_ITS_WAY_S) if snapshot else (0.0, 0.0)


def _judge_vanished(run: Run, load: Load, windows: Sequence[Window]) -> None:
    """Only what was accepted in a window that the server forgot may be gone, and only by being said to be."""
    gone = [case for case in load.cases if any(reader.vanished for reader in case.readers)]
    for case in gone:
        at = load.accepted_at[case.generation]
        if not any(begin <= at <= end for begin, end in windows):
            run.wrong("vanished", case.plan.tag, f"accepted at {at:.3f}, in no rolled back window of {windows}")
    run.notes.append(f"{len(load.cases)} generations, {len(gone)} of them forgotten by the server, and said to be")


async def rolled_back_end(run: Run) -> None:
    """Clients have read the end; then the server forgets it. Whoever reads later must be told the same end."""
    async with run.fleet(workers=1, frontends=1) as fleet:
        load = run.load(fleet)
        for turn in range(run.size["rounds"]):
            playing = [
                asyncio.create_task(load.play(run.plan(20, 20.0), hop=0)) for _ in range(run.size["generations"])
            ]
            expected = len(load.cases) + len(playing)
            await fleet.until(partial(_accepted, load, expected), 20, "not accepted")
            out_of_lease = turn % 2 == 0  # all run, and while the server is away every lease expires
            await asyncio.sleep(run.rng.uniform(0.3, 0.6) if out_of_lease else run.rng.uniform(0, 0.3))
            snapshot = Snapshot(fleet.redis)
            await asyncio.gather(*playing)
            await asyncio.sleep(run.rng.uniform(0, 0.3))
            fleet.redis.kill()
            snapshot.roll_back()
            await asyncio.sleep(LEASE_S if out_of_lease else 0)
            fleet.redis.start()
            await asyncio.sleep(LEASE_S + 3.5)
            await load.look_again()
            run.runs += len(playing)
            run.tell(f"{turn + 1} rounds")
        for case in load.cases:
            calls = await fleet.calls(case.plan.tag)
            run.check(calls["started"] == 1, "run again", f"{case.plan.tag}: {calls}")


async def rolled_back_orphans(run: Run) -> None:
    """Server and worker die together, and the server comes back with data from before the first token."""
    async with run.fleet(workers=1, frontends=1) as fleet:
        load = run.load(fleet)
        for turn in range(run.size["rounds"]):
            pause = ({"sleep": 1.0},)
            plans = [run.plan(40, 20.0, before=pause) for _ in range(run.size["generations"])]
            playing = [asyncio.create_task(load.play(plan)) for plan in plans]
            await fleet.until(partial(_have_begun, load, len(load.cases) + len(plans)), 20, "not begun")
            snapshot = Snapshot(fleet.redis)
            await asyncio.sleep(2.0)
            fleet.fault()
            fleet.workers[0].send(signal.SIGKILL)
            fleet.redis.kill()
            snapshot.roll_back()
            fleet.redis.start()
            await fleet.workers[0].wait()
            await fleet.workers[0].start()
            await asyncio.gather(*playing)
            run.runs += len(plans)
            run.tell(f"{turn + 1} rounds")
        await load.look_again()
        run.samples = waits(load.readers, fleet.faults)


def _accepted(load: Load, count: int) -> bool:
    return len(load.cases) == count


def _have_begun(load: Load, count: int, kind: str = "started") -> bool:
    return len(load.cases) == count and all(_heard(case, kind) for case in load.cases)


def _heard(case: Case, kind: str) -> bool:
    return any(heard.event.kind == kind for reader in case.readers for heard in reader.heard)


async def redis_empty(run: Run) -> None:
    """A server without persistence starts anew, or is emptied: live workers restore, all else is said to be gone."""
    at_once = run.size["generations"] // 2
    async with run.fleet(config={"appendonly": "no"}, max_jobs=str(at_once), keepalive_s=str(KEEPALIVE_S)) as fleet:
        for turn in range(run.size["rounds"]):
            load = run.load(fleet)
            await _empty(run, fleet, load, at_once, flush=bool(turn % 2))
            run.tell(f"{turn + 1} rounds")


async def _empty(run: Run, fleet: Fleet, load: Load, at_once: int, *, flush: bool) -> None:
    count = run.size["generations"]
    playing = [asyncio.create_task(load.play(run.plan(40, 12.0, may_vanish=True), hop=0)) for _ in range(count)]
    await fleet.until(lambda: sum(_heard(case, "text") for case in load.cases) == at_once, 20, "they do not speak")
    await fleet.until(lambda: sum(_heard(case, "created") for case in load.cases) == count, 20, "not all are read")
    live = [case for case in load.cases if _heard(case, "text")]
    if flush:
        async with fleet.client() as redis:
            fleet.fault()
            await redis.flushall()
    else:
        fleet.fault()
        fleet.redis.kill()
        forget_all(fleet.redis)
        fleet.redis.start()
    emptied = time.monotonic()
    await asyncio.gather(*playing)
    for case in load.cases:
        for reader in case.readers:
            if case in live:
                run.check(bool(reader.done), "not restored", reader.excerpt())
            else:
                run.check(bool(reader.vanished), "not gone", reader.excerpt())
                _judge_gone(run, reader.sign_at - emptied, flush)
    await asyncio.sleep(LEASE_S + 1)  # the server is no longer young: what is missing is missing
    await load.look_again()
    run.runs += 1


def _judge_gone(run: Run, took_s: float, flush: bool) -> None:
    """A server that restarts is noticed by its connections; one that is emptied, at the next beat."""
    if flush:
        run.check(took_s < KEEPALIVE_S + 2 * LEASE_S + 2, "late", f"gone is told {took_s:.1f} s after the data went")
    else:
        run.samples.append(took_s)


async def redis_away(run: Run) -> None:
    """The server is away for long: streams end with a hint to come again, clients do, and nobody dies of it."""
    async with run.fleet(workers=1, frontends=2) as fleet:
        load = run.load(fleet)
        plans = [run.plan(40, 10.0) for _ in range(run.size["generations"])]
        playing = [asyncio.create_task(load.play(plan, patience_s=240)) for plan in plans]
        await fleet.until(lambda: len(load.cases) == len(playing), 20, "not accepted")
        await asyncio.sleep(1)
        open_readers = [reader for reader in load.readers if not reader.over]
        visits = {id(reader): len(reader.visits) for reader in open_readers}
        killed = fleet.fault()
        fleet.redis.kill()
        await asyncio.sleep(run.size["away_s"])
        for reader in open_readers:
            since = reader.visits[visits[id(reader)] :]
            if since and since[0].end == "whole":
                run.samples.append(since[0].until - killed)
            run.check(bool(since), "hang", f"{reader.name} was not told to come again")
            run.check(all(visit.status == 200 for visit in since), "status", reader.excerpt())
        status, _ = await ask(fleet.ports[0], "POST", "/v1/generations", run.plan(1).body())
        run.check(status == 503, "status", f"a new generation is answered {status}")
        fleet.redis.start()
        await asyncio.gather(*playing)
        await load.look_again()
        run.runs = len(open_readers)
        run.notes.append(f"{sum(len(reader.visits) for reader in open_readers)} connections in all")


async def out_of_memory(run: Run) -> None:
    """The server is full in the middle of answers: all end, in so many words; then it has room again."""
    async with run.fleet(workers=1, frontends=1) as fleet, fleet.client() as redis:
        for turn in range(run.size["rounds"]):
            load = run.load(fleet)
            plans = [run.plan(200, 40.0, padding=300, failures=FULL) for _ in range(run.size["generations"])]
            playing = [asyncio.create_task(load.play(plan, hop=0, patience_s=30)) for plan in plans]
            await fleet.until(partial(_have_begun, load, len(plans), "text"), 20, "they do not speak")
            await leave_memory(redis, 20_000)
            full = fleet.fault()
            await asyncio.sleep(0.6)
            status, _ = await ask(fleet.ports[0], "POST", "/v1/generations", run.plan(1).body())
            run.check(status == 503, "status", f"a full server's answer is {status}")
            await asyncio.gather(*playing)
            run.samples += [_ended_at(reader) - full for reader in load.readers]
            failed = sum(case.status == "failed" for case in load.cases)
            run.check(failed > 0, "no effect", "the server was never full")
            await leave_memory(redis, None)
            await load.play(run.plan(10))
            await load.look_again()
            run.runs += 1
            run.notes = [f"{failed} of {len(plans)} ended as failed in the last round"]
            run.tell(f"{turn + 1} rounds")


def _ended_at(reader: Reader) -> float:
    return reader.heard[-1].at if reader.heard else time.monotonic()
