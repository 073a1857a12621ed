"""The log's server is killed, restarts with older data or with none, stays away, or is full."""

import asyncio
import signal
import time
from collections.abc import Sequence
from functools import partial

from support.stack import Process
from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import Case, waits
from system.injectors import Snapshot, delete_data, flush_data, leave_memory
from system.load import Load, Run
from system.readers import Reader
from system.wire_client import ask

KEEPALIVE_S = 3.0
HOLD_OFF_S = 3.0  # of a sweeper after a restart of the server, by `lifecycle.sweeper`, with a lease of LEASE_S
ACCEPTED_S = 0.1  # from the creation until the client has read that it was accepted
FULL = frozenset({"out_of_memory"})
Window = tuple[float, float]


async def redis_kills(run: Run) -> None:
    """The server is killed and started again, sometimes with the data of a moment before."""
    async with run.stack(workers=2, frontends=2) as stack:
        load, windows = run.load(stack), list[Window]()

        async def kill() -> None:
            roll_back = [i < run.size["rollbacks"] for i in range(run.size["kills"])]
            run.rng.shuffle(roll_back)
            for done, rolled in enumerate(roll_back):
                await asyncio.sleep(LEASE_S + run.rng.uniform(0.5, 2))
                windows.append(await _crash(run, stack, run.rng.uniform(0.3, 1.5) if rolled else 0))
                run.report(f"{done + 1} kills, {len(load.cases)} generations")
            await asyncio.sleep(LEASE_S + 1)

        killing = asyncio.create_task(kill())
        plans = run.plans(70, 20.0, may_vanish=True)
        await load.play_until(plans, run.size["generations"], lambda: not killing.done(), run.size["at once"])
        await killing
        await load.reread()
        judge_vanished(run, load, windows)
        run.runs = len(stack.faults)
        run.samples = waits(load.readers, stack.faults)


async def _crash(run: Run, stack: ChaosStack, back_s: float, down_s: float | None = None) -> Window:
    """Kill, and start with the data of so many seconds before. Returns when accepted generations may be lost."""
    snapshot, taken = (Snapshot(stack.log_servers), time.monotonic()) if back_s else (None, 0.0)
    await asyncio.sleep(back_s)
    killed = stack.fault()
    stack.log.kill()
    if snapshot:
        snapshot.roll_back()
    await asyncio.sleep(run.rng.uniform(0.1, 1.0) if down_s is None else down_s)
    stack.log.start()
    return (taken - 0.5, killed + ACCEPTED_S) if snapshot else (0.0, 0.0)


def judge_vanished(run: Run, load: Load, windows: Sequence[Window]) -> None:
    """Only a generation that was accepted in a window that the server lost may vanish, and it must be reported."""
    gone = [case for case in load.cases if any(reader.vanished for reader in case.readers)]
    for case in gone:
        at = load.accepted_at[case.generation_id]
        if not any(begin <= at <= end for begin, end in windows):
            run.wrong("vanished", case.plan.tag, f"accepted at {at:.3f}, in no rolled back window of {windows}")
    run.notes.append(f"{len(load.cases)} generations, {len(gone)} of them lost by the server and reported as gone")


async def rolled_back_end(run: Run) -> None:
    """Clients have read the end, then the server loses it: later readers must read the same end.

    The owner runs every generation, and is the only process that has the ends. In every other round the server restarts
    with running generations whose leases have expired, and the owner is stopped until half of the sweepers' hold-off
    has passed. A sweeper that did not hold off would have given the generations to the rival by then.
    """
    async with run.stack(workers=2, frontends=1) as stack:
        load, (owner, rival) = run.load(stack), stack.workers
        for turn in range(run.size["rounds"]):
            rival.send(signal.SIGSTOP)  # so that the owner takes all of them
            plans = [run.plan(20, 20.0) for _ in range(run.size["generations"])]
            playing = [asyncio.create_task(load.play(plan, hop=0)) for plan in plans]
            expected = len(load.cases) + len(playing)
            await stack.until(partial(_accepted, load, expected), 20, "not accepted")
            owner_is_late = turn % 2 == 0
            if owner_is_late:
                await stack.until(partial(have_begun, load, expected), 20, "not begun")
            await asyncio.sleep(run.rng.uniform(0, 0.3))
            snapshot = Snapshot(stack.log_servers)
            await asyncio.gather(*playing)
            await asyncio.sleep(run.rng.uniform(0, 0.3))
            await _lose_ends(stack, snapshot, owner if owner_is_late else None, rival)
            await asyncio.sleep(LEASE_S + 3.5)
            await load.reread()
            run.runs += len(playing)
            run.report(f"{turn + 1} rounds")
        for case in load.cases:
            calls = await stack.calls(case.plan.tag)
            run.check(calls["started"] == 1, "run again", f"{case.plan.tag}: {calls}")
        restored = owner.output.count("it was written again")
        run.check(restored > 0, "no effect", "no lost end was written again")
        run.notes.append(f"{len(load.cases)} ends, {restored} of them written again after the server had lost them")


async def _lose_ends(stack: ChaosStack, snapshot: Snapshot, late_owner: Process | None, rival: Process) -> None:
    """Restart the server with the data of the snapshot; a late owner does not run from before that until after it."""
    if late_owner:
        late_owner.send(signal.SIGSTOP)
    stack.log.kill()
    snapshot.roll_back()
    rival.send(signal.SIGCONT)
    if late_owner:
        await asyncio.sleep(LEASE_S)  # no lease in the snapshot outlasts this
    stack.log.start()
    if late_owner:
        await asyncio.sleep(HOLD_OFF_S / 2)
        late_owner.send(signal.SIGCONT)


async def rolled_back_orphans(run: Run) -> None:
    """Server and worker die together, and the server restarts with data from before the first token.

    One reader of each generation disconnects before that, and resumes when the next attempt has written the log again.
    Its cursor is older than every new entry, and the log is longer than its cursor; only the gap before the page that
    follows shows that the log is another one.
    """
    async with run.stack(workers=1, frontends=1) as stack:
        load = run.load(stack)
        for turn in range(run.size["rounds"]):
            pause = ({"sleep": 1.0},)
            plans = [run.plan(40, 20.0, before=pause) for _ in range(run.size["generations"])]
            before = len(load.cases)
            playing = [asyncio.create_task(load.play(plan)) for plan in plans]
            await stack.until(partial(have_begun, load, before + len(plans)), 20, "not begun")
            snapshot, rewritten = Snapshot(stack.log_servers), asyncio.Event()
            absent = [load.reader(case, "returns", hop=lambda: 5, returns=rewritten) for case in load.cases[before:]]
            reading = [asyncio.create_task(reader.read(60)) for reader in absent]
            await asyncio.sleep(2.0)
            stack.fault()
            stack.workers[0].send(signal.SIGKILL)
            stack.log.kill()
            snapshot.roll_back()
            stack.log.start()
            await stack.workers[0].wait()
            await stack.workers[0].start()
            await asyncio.gather(*playing)
            rewritten.set()
            await asyncio.gather(*reading)
            run.runs += len(plans)
            run.report(f"{turn + 1} rounds")
        await load.reread()
        run.samples = waits((reader for reader in load.readers if not reader.returns), stack.faults)


def _accepted(load: Load, count: int) -> bool:
    return len(load.cases) == count


def have_begun(load: Load, count: int, kind: str = "started") -> bool:
    return len(load.cases) == count and all(_received(case, kind) for case in load.cases)


def _received(case: Case, kind: str) -> bool:
    return any(each.event.kind == kind for reader in case.readers for each in reader.received)


async def redis_empty(run: Run) -> None:
    """A server without persistence restarts, or is flushed: workers restore what runs, all else is reported as gone."""
    at_once = run.size["generations"] // 2
    async with run.stack(config={"appendonly": "no"}, max_jobs=str(at_once), keepalive_s=str(KEEPALIVE_S)) as stack:
        for turn in range(run.size["rounds"]):
            load = run.load(stack)
            await _empty(run, stack, load, at_once, flush=bool(turn % 2))
            run.report(f"{turn + 1} rounds")


async def _empty(run: Run, stack: ChaosStack, load: Load, at_once: int, *, flush: bool) -> None:
    count = run.size["generations"]
    playing = [asyncio.create_task(load.play(run.plan(40, 12.0, may_vanish=True), hop=0)) for _ in range(count)]
    await stack.until(lambda: sum(_received(case, "text") for case in load.cases) == at_once, 20, "they have no text")
    await stack.until(lambda: sum(_received(case, "created") for case in load.cases) == count, 20, "not all are read")
    live = [case for case in load.cases if _received(case, "text")]
    if flush:
        stack.fault()
        await stack.on_each_primary(flush_data)
    else:
        stack.fault()
        stack.log.kill()
        delete_data(stack.log_servers)
        stack.log.start()
    emptied = time.monotonic()
    await asyncio.gather(*playing)
    for case in load.cases:
        for reader in case.readers:
            if case in live:
                run.check(bool(reader.done), "not restored", reader.excerpt())
            else:
                run.check(bool(reader.vanished), "not gone", reader.excerpt())
                _judge_gone(run, reader.last_byte_at - emptied, flush)
    await asyncio.sleep(LEASE_S + 1)  # until the server is too old for any restore
    await load.reread()
    run.runs += 1


def _judge_gone(run: Run, took_s: float, flush: bool) -> None:
    """A restart is noticed by its connections; a flush, at the next keep-alive."""
    if flush:
        run.check(
            took_s < KEEPALIVE_S + 2 * LEASE_S + 2, "late", f"gone is sent {took_s:.1f} s after the data was lost"
        )
    else:
        run.samples.append(took_s)


async def redis_away(run: Run) -> None:
    """The server is away for long: streams end with a retry hint, clients retry, and no process exits."""
    async with run.stack(workers=1, frontends=2) as stack:
        load = run.load(stack)
        plans = [run.plan(40, 10.0) for _ in range(run.size["generations"])]
        playing = [asyncio.create_task(load.play(plan, timeout_s=240)) for plan in plans]
        await stack.until(lambda: len(load.cases) == len(playing), 20, "not accepted")
        await asyncio.sleep(1)
        open_readers = [reader for reader in load.readers if not reader.over]
        visits = {id(reader): len(reader.visits) for reader in open_readers}
        killed = stack.fault()
        stack.log.kill()
        await asyncio.sleep(run.size["away_s"])
        for reader in open_readers:
            since = reader.visits[visits[id(reader)] :]
            if since and since[0].end == "whole":
                run.samples.append(since[0].until - killed)
            run.check(bool(since), "hang", f"{reader.name} has no retry hint")
            run.check(all(visit.status == 200 for visit in since), "status", reader.excerpt())
        status, _ = await ask(stack.ports[0], "POST", "/v1/generations", run.plan(1).body())
        run.check(status == 503, "status", f"a new generation is answered {status}")
        stack.log.start()
        await asyncio.gather(*playing)
        await load.reread()
        run.runs = len(open_readers)
        run.notes.append(f"{sum(len(reader.visits) for reader in open_readers)} connections in all")


async def out_of_memory(run: Run) -> None:
    """The server is full in the middle of answers: all end and name the reason; then it has room again."""
    async with run.stack(workers=1, frontends=1) as stack:
        for turn in range(run.size["rounds"]):
            load = run.load(stack)
            plans = [run.plan(200, 40.0, padding=300, failures=FULL) for _ in range(run.size["generations"])]
            playing = [asyncio.create_task(load.play(plan, hop=0, timeout_s=30)) for plan in plans]
            await stack.until(partial(have_begun, load, len(plans), "text"), 20, "they have no text")
            await stack.on_each_primary(partial(leave_memory, spare=20_000))
            full = stack.fault()
            await asyncio.sleep(0.6)
            status, _ = await ask(stack.ports[0], "POST", "/v1/generations", run.plan(1).body())
            run.check(status == 503, "status", f"a full server's answer is {status}")
            await asyncio.gather(*playing)
            run.samples += [_ended_at(reader) - full for reader in load.readers]
            failed = sum(case.status == "failed" for case in load.cases)
            run.check(failed > 0, "no effect", "the server was never full")
            await stack.on_each_primary(partial(leave_memory, spare=None))
            await load.play(run.plan(10))
            await load.reread()
            run.runs += 1
            run.notes = [f"{failed} of {len(plans)} ended as failed in the last round"]
            run.report(f"{turn + 1} rounds")


def _ended_at(reader: Reader) -> float:
    return reader.received[-1].at if reader.received else time.monotonic()
