"""Slots of a cluster move from node to node: one key after another, as before Valkey 9, or a slot at once."""

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, Literal

from support.cluster import Cluster
from support.cluster_node import Node, until

Way = Literal["legacy", "atomic"]
WAYS: tuple[Way, ...] = ("legacy", "atomic")
KEYS_AT_ONCE = 100
MOVE_TIMEOUT_MS = 5000
ENDED = frozenset({"success", "failed", "canceled"})


async def move(cluster: Cluster, slots: Collection[int], target: Node, way: Way = "atomic") -> None:
    """Move slots to a primary, whichever nodes have them, and wait until all nodes agree."""
    for source in await cluster.primaries():
        theirs = sorted((await source.peers())[source.id].slots & set(slots))
        if source is not target and theirs:
            if way == "atomic":
                await move_at_once(source, theirs, target)
            else:
                for slot in theirs:
                    await move_by_keys(cluster, slot, source, target)
    await cluster.wait_until_agreed()


async def move_by_keys(cluster: Cluster, slot: int, source: Node, target: Node) -> None:
    """Move one slot in the legacy way."""
    await begin(slot, source, target)
    while await move_some_keys(slot, source, target):
        pass
    await end(cluster, slot, target)


async def begin(slot: int, source: Node, target: Node) -> None:
    """Open the slot on both sides: the source answers ASK for a key that it has no more."""
    await target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    await source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)


async def move_some_keys(slot: int, source: Node, target: Node, limit: int = KEYS_AT_ONCE) -> int:
    """Move up to so many keys of an open slot. Returns how many there were."""
    found = await source.execute("CLUSTER", "GETKEYSINSLOT", slot, limit)
    if found:
        await move_keys(source, target, *found)
    return len(found)


async def move_keys(source: Node, target: Node, *names: str) -> None:
    """Move these keys of an open slot."""
    place = "127.0.0.1", target.port
    await source.execute("MIGRATE", *place, "", 0, MOVE_TIMEOUT_MS, "KEYS", *names)


async def end(cluster: Cluster, slot: int, target: Node) -> None:
    """Give the slot to the target: there first, then on the source and all other primaries."""
    await target.execute("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    for node in await cluster.primaries():
        if node is not target:
            await node.execute("CLUSTER", "SETSLOT", slot, "NODE", target.id)


async def abandon(slot: int, source: Node, target: Node) -> None:
    """Leave an open slot where it was."""
    for node in (source, target):
        await node.execute("CLUSTER", "SETSLOT", slot, "STABLE")


async def move_at_once(source: Node, slots: Collection[int], target: Node) -> None:
    """Move slots of one node in the atomic way, and wait for the end.

    Raises:
        AssertionError: the server did not move them.
    """
    await begin_at_once(source, slots, target)
    await until(partial(_has_ended, source), "the migration does not end")
    for newest in (await migrations(source))[:1]:  # none where it has given its last slot, and become a replica
        assert newest["state"] == "success", newest
    await until(partial(_has, target, frozenset(slots)), f"{target} has not got the slots")


async def begin_at_once(source: Node, slots: Collection[int], target: Node) -> None:
    """Begin to move slots of one node in the atomic way; the reply comes before the end."""
    pairs = [each for first_and_last in ranges(slots) for each in first_and_last]
    await source.execute("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *pairs, "NODE", target.id)


async def migrations(node: Node) -> list[dict[str, Any]]:
    """The atomic migrations of a node that run or have ended lately, the newest first."""
    return [
        dict(zip(each[::2], each[1::2], strict=True)) for each in await node.execute("CLUSTER", "GETSLOTMIGRATIONS")
    ]


async def _has(node: Node, slots: frozenset[int]) -> bool:
    return slots <= (await node.peers())[node.id].slots


async def _has_ended(source: Node) -> bool:
    return all(each["state"] in ENDED for each in await migrations(source))


async def add_node(cluster: Cluster, way: Way = "atomic") -> Node:
    """Let a node join that takes an equal share of the slots from every primary."""
    primaries = await cluster.primaries()
    node = await cluster.join()
    for primary in primaries:
        theirs = sorted((await primary.peers())[primary.id].slots)
        await move(cluster, theirs[: len(theirs) // (len(primaries) + 1)], node, way)
    return node


async def remove_node(cluster: Cluster, node: Node, way: Way = "atomic") -> None:
    """Share a primary's slots among the others, give its replicas to one of these, and stop it."""
    others = [each for each in await cluster.primaries() if each is not node]
    slots = sorted((await node.peers())[node.id].slots)
    for i, other in enumerate(others):
        await move(cluster, slots[len(slots) * i // len(others) : len(slots) * (i + 1) // len(others)], other, way)
    for peer in (await cluster.peers()).values():
        if peer.primary == node.id:
            await cluster.replicate(cluster.node(peer.id), others[0])
    await cluster.forget(node)


def ranges(slots: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last slot of each unbroken range."""
    for _, run in groupby(enumerate(sorted(slots)), lambda pair: pair[1] - pair[0]):
        found = [slot for _, slot in run]
        yield found[0], found[-1]
