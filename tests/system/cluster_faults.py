"""The log's cluster changes under load: primaries die and pause, slots move, nodes join and leave, and a frontend is
cut off from one of them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from itertools import pairwise

from support.cluster import Cluster, slot_of
from support.cluster_node import Node
from support.slot_moves import WAYS, add_node, move, remove_node
from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import Case
from system.load import Load, Run
from system.process_links import UNNAMED, process_links
from system.readers import Reader
from system.redis_faults import ACCEPTED_S, Window, have_begun, judge_vanished
from tailrace import keys
from tailrace.process.tasks import cancel_and_wait

BEYOND_FAILOVER_S = 1.0
"""A reader of a log whose primary died waits for as long as the failover takes, and up to this."""

GAP_S = 0.5
"""A move of slots may keep a reader waiting for up to this, at the 99th percentile."""

SETTLED_S = LEASE_S + 3.5
"""From a failover until the promoted primary is no longer young: the next fault is another one, not the same."""


async def primary_kills(run: Run) -> None:
    """A primary dies under load, and returns as the replica of its successor."""
    async with run.stack(workers=2, frontends=2) as stack:
        load, windows = run.load(stack), list[Window]()

        async def kill() -> None:
            for done in range(run.size["kills"]):
                await asyncio.sleep(run.rng.uniform(0.5, 1.5))
                primary = run.rng.choice(await stack.cluster.primaries())
                affected = await _readers_of(load, primary)
                killed, failover_s = await _kill(stack, primary)
                windows.append((killed - 0.5, killed + failover_s + ACCEPTED_S))
                await asyncio.sleep(failover_s + BEYOND_FAILOVER_S)
                primary.start()
                await stack.cluster.wait_until_agreed()
                _judge_failover(run, affected, killed, failover_s)
                await asyncio.sleep(SETTLED_S - BEYOND_FAILOVER_S)
                run.report(f"{done + 1} kills, {len(load.cases)} generations")

        await _play_during(run, load, kill)
        judge_vanished(run, load, windows)
        run.runs = run.size["kills"]


async def _kill(stack: ChaosStack, primary: Node) -> tuple[float, float]:
    """When it died, and the seconds until its replica was the primary."""
    replica = await stack.cluster.replica_of(primary)
    killed = stack.fault()
    primary.kill()
    await stack.cluster.wait_for_promotion(replica)
    return killed, time.monotonic() - killed


async def primary_pauses(run: Run) -> None:
    """A primary is suspended until it has a successor, and resumes as one that does not know of it."""
    async with run.stack(workers=2, frontends=2) as stack:
        load, windows = run.load(stack), list[Window]()

        async def pause() -> None:
            for done in range(run.size["pauses"]):
                await asyncio.sleep(run.rng.uniform(0.5, 1.5))
                primary = run.rng.choice(await stack.cluster.primaries())
                replica, affected = await stack.cluster.replica_of(primary), await _readers_of(load, primary)
                paused = stack.fault()
                primary.pause()
                await stack.cluster.wait_for_promotion(replica)
                failover_s = time.monotonic() - paused
                await asyncio.sleep(run.rng.uniform(0.1, 1.5))
                primary.resume()
                windows.append((paused - 0.5, time.monotonic() + BEYOND_FAILOVER_S))
                await stack.cluster.wait_until_agreed()
                await asyncio.sleep(SETTLED_S)
                _judge_failover(run, affected, paused, failover_s)
                run.report(f"{done + 1} pauses, {len(load.cases)} generations")

        await _play_during(run, load, pause)
        judge_vanished(run, load, windows)
        run.runs = run.size["pauses"]


async def slots_moved(run: Run) -> None:
    """The slots of all live logs move to other primaries: key by key, and at once."""
    async with run.stack(workers=2, frontends=2, max_jobs=str(run.size["logs"])) as stack:
        load = run.load(stack)
        for turn in range(run.size["rounds"]):
            way = WAYS[turn % 2]
            begun = len(load.cases) + run.size["logs"]
            plans = [run.plan(run.size["tokens"], 8.0) for _ in range(run.size["logs"])]
            playing = [asyncio.create_task(load.play(plan, hop=0)) for plan in plans]
            await stack.until(partial(have_begun, load, begun, "text"), 30, "they have no text")
            began, moved = stack.fault(), 0
            cases = load.cases[-run.size["logs"] :]
            for source, slots in (await _slots_of(stack.cluster, cases)).items():
                others = [node for node in await stack.cluster.primaries() if node is not source]
                await move(stack.cluster, slots, run.rng.choice(others), way)
                moved += len(slots)
            ended = time.monotonic()
            await asyncio.gather(*playing)
            run.samples += [_longest_gap(reader, began, ended) for case in cases for reader in case.readers]
            run.runs += moved
            run.notes.append(f"{way}: {moved} slots in {ended - began:.1f} s")
            run.report(f"{turn + 1} rounds")
        await load.reread()


async def _slots_of(cluster: Cluster, cases: Collection[Case]) -> dict[Node, set[int]]:
    """The slots of these generations, by the primary that has them."""
    peers, slots = await cluster.peers(), {_slot(case) for case in cases}
    return {node: set(peers[node.id].slots & slots) for node in await cluster.primaries()}


async def nodes_join(run: Run) -> None:
    """Nodes join the cluster under load, and take a share of the slots of all others. In the end they leave."""
    async with run.stack(workers=2, frontends=2) as stack:
        load, joined = run.load(stack), list[Node]()

        async def join() -> None:
            for turn in range(run.size["nodes"]):
                await asyncio.sleep(0.5)
                began = stack.fault()
                joined.append(await add_node(stack.cluster))
                _judge_move(run, load, began)
                run.report(f"{turn + 1} nodes, {len(load.cases)} generations")

        await _play_during(run, load, join)
        for node in joined:  # so that every process has as many connections as before
            await remove_node(stack.cluster, node)
        run.runs = run.size["nodes"]


async def nodes_leave(run: Run) -> None:
    """Nodes leave the cluster under load; in the end, all by which the processes came are gone."""
    async with run.stack(workers=2, frontends=2) as stack:
        load = run.load(stack)
        seeds = await stack.cluster.primaries()
        for _ in range(run.size["nodes"]):
            await add_node(stack.cluster)

        async def leave() -> None:
            for turn, node in enumerate(seeds[: run.size["nodes"]]):
                await asyncio.sleep(0.5)
                began = stack.fault()
                await remove_node(stack.cluster, node)
                _judge_move(run, load, began)
                run.report(f"{turn + 1} nodes, {len(load.cases)} generations")

        await _play_during(run, load, leave)
        run.runs = run.size["nodes"]


async def frontend_partitioned(run: Run) -> None:
    """A frontend cannot reach one primary, which all others reach: its clients are served, by it or by another one."""
    async with (
        contextlib.AsyncExitStack() as opened,  # first: the links outlive the audit of the stack
        run.stack(workers=2, frontends=1, config=UNNAMED) as stack,
    ):
        links = await opened.enter_async_context(process_links(run, stack, 0))
        await stack.add_frontend(**links.settings)
        await run.take_baseline(stack)
        load = run.load(stack)

        async def cut_off() -> None:
            for done in range(run.size["partitions"]):
                await asyncio.sleep(run.rng.uniform(0.5, 1.5))
                primary = run.rng.choice(await stack.cluster.primaries())
                affected = await _readers_of(load, primary)
                began = stack.fault()
                links.switch(primary.port, black_hole=True)
                await asyncio.sleep(run.rng.uniform(1, 8))
                links.switch(primary.port, black_hole=False)
                await asyncio.sleep(2)
                run.samples += [wait for reader in affected if (wait := _wait(reader, began)) is not None]
                run.report(f"{done + 1} partitions, {len(load.cases)} generations")

        await _play_during(run, load, cut_off)
        run.runs = run.size["partitions"]


# ── what readers see ────────────────────────────────────────────────────────────────────────────────────────────────


async def _play_during(run: Run, load: Load, faults: Callable[[], Awaitable[None]]) -> None:
    injecting = asyncio.ensure_future(faults())
    try:
        plans = run.plans(60, 15.0, may_vanish=True)
        await load.play_until(plans, run.size["generations"], lambda: not injecting.done(), run.size["at once"])
        await injecting
    finally:
        await cancel_and_wait(asyncio.ensure_future(injecting))
    await load.reread()
    run.notes.append(f"{len(load.cases)} generations")


def _slot(case: Case) -> int:
    return slot_of(keys.log(case.generation_id))


async def _readers_of(load: Load, primary: Node) -> list[Reader]:
    """The readers in the middle of an answer whose log is on this node."""
    slots = (await primary.peers())[primary.id].slots
    cases = [case for case in load.cases if _slot(case) in slots]
    return [reader for case in cases for reader in case.readers if reader.received and not reader.over]


def _wait(reader: Reader, since: float) -> float | None:
    """Seconds from that moment to its next event; None if it had none."""
    return next((each.at - since for each in reader.received if each.at > since), None)


def _judge_failover(run: Run, affected: Iterable[Reader], since: float, failover_s: float) -> None:
    waits = [wait for reader in affected if (wait := _wait(reader, since)) is not None]
    run.samples += waits
    bound = failover_s + BEYOND_FAILOVER_S
    longest = max(waits, default=0.0)
    run.check(longest <= bound, "late", f"a reader waited for {longest:.2f} s, the bound is {bound:.2f} s")
    run.notes.append(f"failover {failover_s:.2f} s, {len(waits)} readers waited for up to {longest:.2f} s")


def _judge_move(run: Run, load: Load, began: float) -> None:
    ended = time.monotonic()
    run.notes.append(f"moved in {ended - began:.1f} s")
    run.samples += [
        _longest_gap(reader, began, ended) for reader in load.readers if reader.received and not reader.over
    ]


def _longest_gap(reader: Reader, began: float, ended: float) -> float:
    """The longest time between two events of an answer that overlaps this period."""
    times = [each.at for each in reader.received]
    return max((after - before for before, after in pairwise(times) if before < ended and after > began), default=0.0)
