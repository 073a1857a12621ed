"""Workers that are killed, stopped, asked to exit, or crash by what they are asked."""

import asyncio
import signal
import time
from functools import partial

from support.queues import queue_on
from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import Case, recoveries
from system.injectors import Link, link
from system.load import Load, Run
from system.readers import Reader
from tailrace import keys
from tailrace.lifecycle.limits import QUARANTINE_AFTER
from tailrace.queue import JOB

WORKER_LOST = frozenset({"worker_lost"})
SPENT = frozenset({"attempts_exhausted"})


async def worker_kills(run: Run) -> None:
    """Workers are killed at random times; three of four generations restart, the fourth has `on_interrupt: fail`."""
    async with run.stack(workers=run.size["workers"], frontends=2) as stack:
        load = run.load(stack)

        async def kill() -> None:
            starts = [1] * len(stack.workers)
            for done in range(run.size["kills"]):
                await asyncio.sleep(LEASE_S + run.rng.uniform(1, 2))  # so that each kill has a recovery of its own
                victim = run.rng.randrange(len(stack.workers))
                await stack.wait_until_working(stack.workers[victim], starts[victim])
                await stack.kill(stack.workers[victim])
                starts[victim] += 1
                run.report(f"{done + 1} kills, {len(load.cases)} generations")

        killing = asyncio.create_task(kill())
        plans = (
            run.plan(60, 30.0, on_interrupt="fail", failures=WORKER_LOST) if i % 4 == 3
            else run.plan(60, 30.0)
            for i in range(10**9)
        )  # fmt: skip
        await load.play_until(plans, run.size["generations"], lambda: not killing.done(), run.size["at once"])
        await killing
        await load.reread()
        run.runs = len(stack.faults)
        run.samples = recoveries(load.readers, stack.faults)
        run.notes.append(_ends(load))


def _ends(load: Load) -> str:
    """How many generations have which status; those that `on_interrupt: fail` asked to fail apart from the others."""
    asked = [case for case in load.cases if case.plan.on_interrupt == "fail" and case.status == "failed"]
    others = [case.status for case in load.cases if case not in asked]
    counts = [f"{others.count(status)} {status}" for status in sorted(set(others))]
    counts += [f"{len(asked)} failed as `on_interrupt: fail` asks"] if asked else []
    return f"{len(load.cases)} generations: {', '.join(counts)}; {sum(r.restarts for r in load.readers)} restarts read"


async def kill_storm(run: Run) -> None:
    """The only worker is killed again and again: generations that ran beside others complete all the same."""
    async with run.stack(workers=1, frontends=1, max_attempts="3", lease_s="1") as stack:
        for turn in range(run.size["rounds"]):
            load, worker = run.load(stack), stack.workers[0]
            playing = [
                asyncio.create_task(load.play(run.plan(30, 20.0), hop=0, timeout_s=120))
                for _ in range(run.size["generations"])
            ]
            for attempt in range(1, run.size["kills"] + 1):
                await stack.until(partial(_one_runs, load, len(playing), attempt), 20, "none runs again")
                await asyncio.sleep(0.5)  # beyond a renewal of the leases, which reports how many the worker runs
                await stack.kill(worker)
                run.report(f"round {turn + 1}, {attempt} kills")
            await asyncio.gather(*playing)
            await load.reread()
            run.runs += len(playing)
            run.samples += recoveries(load.readers, stack.faults)
            run.notes = [_ends(load)]


def _one_runs(load: Load, count: int, attempt: int) -> bool:
    return len(load.cases) == count and any(_runs(case, attempt) for case in load.cases)


async def zombies(run: Run) -> None:
    """A worker is stopped for longer than its lease, another takes over, and the first wakes up: it is fenced."""
    async with run.stack(workers=1, frontends=1) as stack:
        load = run.load(stack)
        for turn in range(run.size["rounds"]):
            await _zombie_round(run, stack, load)
            run.report(f"{turn + 1} rounds, {run.runs} zombies")
        await load.reread()
        run.samples = recoveries(load.readers, stack.faults)


async def _zombie_round(run: Run, stack: ChaosStack, load: Load) -> None:
    sleeper, other = stack.workers[-1], await stack.add_worker()
    await stack.wait_until_working(other)
    other.send(signal.SIGSTOP)  # so that the sleeper takes all of them
    silent = {"before": ({"sleep": 2.5},)}  # these have no text yet when their worker is stopped
    plans = [run.plan(80, 20.0, **silent) if i % 2 else run.plan(130, 20.0) for i in range(run.size["zombies"])]
    playing = [asyncio.create_task(load.play(plan, hop=0)) for plan in plans]
    before = len(load.cases)
    await stack.until(lambda: len(load.cases) >= before + len(playing), 20, "not all were accepted")
    cases = load.cases[-len(playing) :]
    await stack.until(lambda: all(_runs(case) for case in cases), 20, "not all run")
    stack.fault()
    sleeper.send(signal.SIGSTOP)
    other.send(signal.SIGCONT)
    await stack.until(lambda: all(_runs(case, 2) for case in cases), 20, "not all were taken over")
    sleeper.send(signal.SIGCONT)
    woke = time.monotonic()
    await asyncio.gather(*playing)
    for case in cases:
        calls = await stack.calls(case.plan.tag)
        run.check(calls["started"] == 2 and calls["open"] == 0, "upstream", f"{case.plan.tag}: {calls}")
        run.check(calls["closed_by_client"] == 1, "not fenced", f"{case.plan.tag}: {calls}")
    run.runs += len(cases)
    run.check(time.monotonic() - woke < 30, "late", "the round took too long")
    await sleeper.stop()
    stack.workers.remove(sleeper)


def _runs(case: Case, attempt: int = 1) -> bool:
    """Whether its readers have received that attempt, and a first text where its script begins with one."""
    events = [each.event for reader in case.readers for each in reader.received]
    has_begun = any(event.kind in ("started", "restarted") and event.value["attempt"] == attempt for event in events)
    return has_begun and (bool(case.plan.before) or any(event.kind == "text" for event in events))


async def rolling(run: Run) -> None:
    """Every worker and every frontend is stopped by SIGTERM in turn and started again, under load."""
    drain_s = 1.0
    async with run.stack(
        workers=run.size["workers"], frontends=run.size["frontends"],
        drain_s=str(drain_s), max_attempts="1",  # a handover is not charged
    ) as stack:  # fmt: skip
        load = run.load(stack)

        async def roll() -> None:
            for turn in range(run.size["rounds"]):
                for process in stack.processes:
                    starts = process.output.count("runs up to")
                    stack.fault()
                    took, status = await stack.restart(process)
                    run.samples.append(took)
                    run.check(took < drain_s + 5.5, "grace", f"the process took {took:.1f} s to exit")
                    run.check(status == 0, "exit", f"status {status}")
                    if process in stack.workers:
                        await stack.wait_until_working(process, starts + 1)
                    run.report(f"round {turn + 1}: {len(run.samples)} restarts, {len(load.cases)} generations")

        rolling = asyncio.create_task(roll())
        plans = run.plans(80, 20.0)
        await load.play_until(plans, run.size["generations"], lambda: not rolling.done(), run.size["at once"])
        await rolling
        await load.reread()
        run.runs = len(run.samples)
        run.notes.append(_ends(load))


async def poison(run: Run) -> None:
    """The only worker dies each time it sends a poisonous prompt: that one ends as failed, its neighbours complete."""
    async with (
        run.stack(workers=0, lease_s="1") as stack,
        link(stack.upstream_port, run.rng) as to_upstream,
    ):
        restarts: list[asyncio.Task[None]] = []
        stack.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{to_upstream.port}/v1"
        _kill_at_poison(stack, to_upstream, restarts)
        await stack.wait_until_working(await stack.add_worker())
        await run.take_baseline(stack)
        load = run.load(stack)
        for _ in range(run.size["poisons"]):
            bad = run.plan(20, 20.0, marker="POISON", failures=SPENT)
            good = [run.plan(90, 30.0) for _ in range(run.size["neighbours"])]
            await asyncio.gather(*(load.play(plan, hop=0, timeout_s=120) for plan in [*good, bad]))
            await asyncio.gather(*restarts)
            run.runs += 1
        for case in load.cases:
            expected = "failed" if case.plan.marker else "completed"
            run.check(case.status == expected, expected, f"{case.plan.tag} ended as {case.status}")
        deaths, bound = len(restarts), MOST_RUNS * run.size["poisons"]
        run.check(deaths <= bound, "attempts", f"{deaths} workers died of {run.size['poisons']} prompts: not {bound}")
        await load.reread()
        run.samples = recoveries(load.readers, stack.faults)
        run.notes.append(f"the worker died {deaths} times; {_ends(load)}")
        await asyncio.sleep(1.5)  # until the last worker has started


MOST_RUNS = 8
"""Of one generation by default: MAX_ATTEMPTS + 3 (`lifecycle.sweeper`)."""


def _kill_at_poison(stack: ChaosStack, to_upstream: Link, restarts: list[asyncio.Task[None]]) -> None:
    def watch(data: bytes) -> None:
        if b"POISON" in data:
            restarts.append(asyncio.create_task(stack.kill(stack.workers[0])))
            raise ConnectionAbortedError

    to_upstream.watch = watch


async def quarantine(run: Run) -> None:
    """A full worker is killed three times: what it ran waits in quarantine, and new generations run at once."""
    count = run.size["generations"]
    async with run.stack(workers=1, frontends=1, max_jobs=str(count), lease_s="1") as stack:
        load, worker = run.load(stack), stack.workers[0]
        plans = [run.plan(60, 20.0) for _ in range(count)]
        playing = [asyncio.create_task(load.play(plan, hop=0, timeout_s=30 + 4 * count)) for plan in plans]
        for attempt in range(1, QUARANTINE_AFTER + 1):
            await stack.until(partial(_all_run, load, count, attempt), 30, f"not all run for the {attempt}th time")
            await asyncio.sleep(0.5)  # beyond a renewal of the leases, which reports how many the worker runs
            await stack.kill(worker)
            run.report(f"{attempt} kills")
        await stack.until(partial(_one_runs, load, count, QUARANTINE_AFTER + 1), 20, "none runs again")
        for turn in range(run.size["new"]):
            began = time.monotonic()
            case = await load.play(run.plan(5), hop=0)
            run.samples += [_first_text_at(reader) - began for reader in case.readers]
            run.report(f"{turn + 1} new generations")
        waiting = sum(not task.done() for task in playing)
        run.check(waiting > 0, "no effect", "none was in quarantine any more when the new ones had ended")
        await asyncio.gather(*playing)
        await load.reread()
        run.runs = run.size["new"]
        run.notes.append(f"{waiting} were in quarantine to the last; {_ends(load)}")


def _all_run(load: Load, count: int, attempt: int) -> bool:
    return len(load.cases) == count and all(_runs(case, attempt) for case in load.cases)


def _first_text_at(reader: Reader) -> float:
    return next((each.at for each in reader.received if each.event.kind == "text"), time.monotonic())


async def same_job(run: Run) -> None:
    """One job is delivered many times at once to several workers: one of them calls the upstream."""
    async with (
        run.stack(workers=3, frontends=1) as stack, stack.client(stack.queue) as redis, stack.log_client() as logs,
    ):  # fmt: skip
        load = run.load(stack)
        queue = queue_on(redis, lease_ms=int(LEASE_S * 1000))
        for turn in range(run.size["generations"]):
            for worker in stack.workers:
                worker.send(signal.SIGSTOP)  # so that the first delivery waits for the others
            case = await load.create(run.plan(30, 30.0))
            job_id = (await logs.execute_command("HGET", keys.state(case.generation_id), "job_id")).decode()
            for copy in range(run.size["deliveries"] - 1):
                await queue.jobs.arq.enqueue_job(
                    JOB, case.generation_id, job_id, _job_id=f"{job_id}-{copy}", _defer_by=-3600, _expires=60
                )
            await redis.execute_command("SPUBLISH", keys.WAKE, b"")
            for worker in stack.workers:
                worker.send(signal.SIGCONT)
            await load.reader(case, "stays").read(30)
            calls = await stack.calls(case.plan.tag)
            run.check(calls["started"] == 1, "upstream", f"{case.plan.tag}: {calls}")
            run.runs += 1
            run.report(f"{turn + 1} generations, {run.size['deliveries']} deliveries each")
        await load.reread()
