"""Workers that die, sleep, are told to stop, or are killed by what they are asked."""

import asyncio
import signal
import time

from support.queues import queue_on
from system.checker import Case, silences
from system.fleet import LEASE_S, Fleet
from system.injectors import Link, link
from system.load import Load, Run
from tailrace import keys
from tailrace.queue import JOB


async def worker_kills(run: Run) -> None:
    """Workers are killed at random times; three of four generations are to be told anew, the fourth is to fail."""
    async with run.fleet(workers=run.size["workers"], frontends=2, max_attempts="1000") as fleet:
        load = run.load(fleet)

        async def kill() -> None:
            starts = [1] * len(fleet.workers)
            for done in range(run.size["kills"]):
                await asyncio.sleep(LEASE_S + run.rng.uniform(1, 2))  # the next kill does not meet the same recovery
                victim = run.rng.randrange(len(fleet.workers))
                await fleet.works(fleet.workers[victim], starts[victim])
                await fleet.kill(fleet.workers[victim])
                starts[victim] += 1
                run.tell(f"{done + 1} kills, {len(load.cases)} generations")

        killing = asyncio.create_task(kill())
        plans = (
            run.plan(60, 30.0, on_interrupt="fail", failures=frozenset({"worker_lost"})) if i % 4 == 3
            else run.plan(60, 30.0)
            for i in range(10**9)
        )  # fmt: skip
        await load.play_until(plans, run.size["generations"], lambda: not killing.done(), run.size["at once"])
        await killing
        await load.look_again()
        run.runs = len(fleet.faults)
        run.samples = silences(load.readers, fleet.faults)
        run.notes.append(_ends(load))


def _ends(load: Load) -> str:
    statuses = [case.status for case in load.cases]
    told = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
    return f"{len(statuses)} generations: {told}; {sum(reader.restarts for reader in load.readers)} restarts told"


async def zombies(run: Run) -> None:
    """A worker sleeps past its lease, another takes all over, then the first wakes up and finds itself fenced."""
    async with run.fleet(workers=1, frontends=1) as fleet:
        load = run.load(fleet)
        for turn in range(run.size["rounds"]):
            await _zombie_round(run, fleet, load)
            run.tell(f"{turn + 1} rounds, {run.runs} zombies")
        await load.look_again()
        run.samples = silences(load.readers, fleet.faults)


async def _zombie_round(run: Run, fleet: Fleet, load: Load) -> None:
    sleeper, other = fleet.workers[-1], await fleet.add_worker()
    await fleet.works(other)
    other.send(signal.SIGSTOP)  # so that all are the sleeper's
    silent = {"before": ({"sleep": 2.5},)}  # these have said nothing when their worker falls asleep
    plans = [run.plan(80, 20.0, **silent) if i % 2 else run.plan(130, 20.0) for i in range(run.size["zombies"])]
    playing = [asyncio.create_task(load.play(plan, hop=0)) for plan in plans]
    before = len(load.cases)
    await fleet.until(lambda: len(load.cases) >= before + len(playing), 20, "not all were accepted")
    cases = load.cases[-len(playing) :]
    await fleet.until(lambda: all(_runs(case) for case in cases), 20, "not all run")
    fleet.fault()
    sleeper.send(signal.SIGSTOP)
    other.send(signal.SIGCONT)
    await fleet.until(lambda: all(_runs(case, 2) for case in cases), 20, "not all were taken over")
    sleeper.send(signal.SIGCONT)
    woke = time.monotonic()
    await asyncio.gather(*playing)
    for case in cases:
        calls = await fleet.calls(case.plan.tag)
        run.check(calls["started"] == 2 and calls["open"] == 0, "upstream", f"{case.plan.tag}: {calls}")
        run.check(calls["closed_by_client"] == 1, "not fenced", f"{case.plan.tag}: {calls}")
    run.runs += len(cases)
    run.check(time.monotonic() - woke < 30, "late", "the round took too long")
    await sleeper.stop()
    fleet.workers.remove(sleeper)


def _runs(case: Case, attempt: int = 1) -> bool:
    """Whether its readers know of that attempt (and of a first text, where it speaks from the start)."""
    heard = [each.event for reader in case.readers for each in reader.heard]
    begun = any(event.kind in ("started", "restarted") and event.value["attempt"] == attempt for event in heard)
    return begun and (bool(case.plan.before) or any(event.kind == "text" for event in heard))


async def rolling(run: Run) -> None:
    """Every worker and every frontend is told to stop in turn and started again, under load."""
    drain_s = 1.0
    async with run.fleet(
        workers=run.size["workers"], frontends=run.size["frontends"],
        drain_s=str(drain_s), max_attempts="1",  # a hand-over is no attempt
    ) as fleet:  # fmt: skip
        load = run.load(fleet)

        async def roll() -> None:
            for turn in range(run.size["rounds"]):
                for process in fleet.processes:
                    starts = process.output.count("runs up to")
                    fleet.fault()
                    took, status = await fleet.restart(process)
                    run.samples.append(took)
                    run.check(took < drain_s + 5.5, "grace", f"it took {took:.1f} s to leave")
                    run.check(status == 0, "exit", f"status {status}")
                    if process in fleet.workers:
                        await fleet.works(process, starts + 1)
                    run.tell(f"round {turn + 1}: {len(run.samples)} restarts, {len(load.cases)} generations")

        tasks = asyncio.create_task(roll())
        plans = run.plans(80, 20.0)
        await load.play_until(plans, run.size["generations"], lambda: not tasks.done(), run.size["at once"])
        await tasks
        await load.look_again()
        run.runs = len(run.samples)
        run.notes.append(_ends(load))


async def poison(run: Run) -> None:
    """The only worker dies each time it asks what a poisonous prompt asks; that ends as failed, and nothing else."""
    attempts = 5
    async with (
        run.fleet(workers=0, max_attempts=str(attempts), lease_s="1") as fleet,
        link(fleet.upstream_port, run.rng) as line,
    ):
        restarts: list[asyncio.Task[None]] = []
        fleet.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{line.port}/v1"
        _poison(fleet, line, restarts)
        await fleet.works(await fleet.add_worker())
        await run.settle_in(fleet)
        load, spent = run.load(fleet), frozenset({"attempts_exhausted"})
        for _ in range(run.size["poisons"]):
            bad = run.plan(20, 20.0, marker="POISON", failures=spent)
            good = [run.plan(30, 30.0, failures=spent) for _ in range(run.size["neighbours"])]
            await asyncio.gather(*(load.play(plan, hop=0, patience_s=120) for plan in [*good, bad]))
            await asyncio.gather(*restarts)
            run.runs += 1
        for case in load.cases:
            is_bad = bool(case.plan.marker)
            calls = await fleet.calls(case.plan.tag) if is_bad else {"started": 0}
            run.check(not is_bad or case.status == "failed", "poison", f"{case.plan.tag} ended {case.status}")
            run.check(is_bad or case.status == "completed", "neighbour", f"{case.plan.tag} ended {case.status}")
            run.check(calls["started"] <= attempts, "attempts", f"{case.plan.tag}: {calls}")
        await load.look_again()
        run.samples = silences(load.readers, fleet.faults)
        run.notes.append(f"the worker died {len(restarts)} times; {_ends(load)}")
        await asyncio.sleep(1.5)  # the last one starts


def _poison(fleet: Fleet, line: Link, restarts: list[asyncio.Task[None]]) -> None:
    def look(data: bytes) -> None:
        if b"POISON" in data:
            restarts.append(asyncio.create_task(fleet.kill(fleet.workers[0])))
            raise ConnectionAbortedError

    line.watch = look


async def same_job(run: Run) -> None:
    """One dispatch is delivered many times at once to several workers: one of them asks the upstream."""
    async with run.fleet(workers=3, frontends=1) as fleet, fleet.client() as redis:
        load = run.load(fleet)
        queue = queue_on(redis, lease_ms=int(LEASE_S * 1000))
        for turn in range(run.size["generations"]):
            for worker in fleet.workers:
                worker.send(signal.SIGSTOP)  # so that the first delivery waits for the others
            case = await load.create(run.plan(30, 30.0))
            job_id = (await redis.execute_command("HGET", keys.state(case.generation), "job_id")).decode()
            for copy in range(run.size["deliveries"] - 1):
                await queue.jobs.arq.enqueue_job(
                    JOB, case.generation, job_id, _job_id=f"{job_id}-{copy}", _defer_by=-3600, _expires=60
                )
            await redis.execute_command("SPUBLISH", keys.WAKE, b"")
            for worker in fleet.workers:
                worker.send(signal.SIGCONT)
            await load.reader(case, "stays").read(30)
            calls = await fleet.calls(case.plan.tag)
            run.check(calls["started"] == 1, "upstream", f"{case.plan.tag}: {calls}")
            run.runs += 1
            run.tell(f"{turn + 1} generations, {run.size['deliveries']} deliveries each")
        await load.look_again()
