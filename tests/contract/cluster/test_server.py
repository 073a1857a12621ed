"""What a server of a cluster replies: the rules of docs/reliability.md on which the router is built."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from support.cluster import Cluster, slot_of
from support.cluster_node import Node, until
from support.raw_connection import RawConnection
from support.slot_moves import WAYS, Way, begin, begin_at_once, end, move, move_keys
from tailrace import keys
from tailrace.ids import new_generation_id

SCRIPT = """#!lua
redis.call('HINCRBY', KEYS[1], 'count', 1)
redis.call('SPUBLISH', KEYS[4], redis.call('HGET', KEYS[1], 'count'))
return 'ran'"""
TRYAGAIN = "TRYAGAIN Multiple keys request during rehashing of slot"


class Generation(NamedTuple):
    """The keys of a generation, and the two nodes between which its slot moves, with a connection to each."""

    names: tuple[str, ...]
    source: Node
    target: Node
    at_source: RawConnection
    at_target: RawConnection

    @property
    def slot(self) -> int:
        return slot_of(self.names[0])

    @property
    def script(self) -> tuple[Any, ...]:
        return ("EVAL", SCRIPT, 4, *self.names)

    def redirection(self, kind: str, node: Node) -> str:
        return f"{kind} {self.slot} 127.0.0.1:{node.port}"


@pytest.fixture
async def generation(cluster: Cluster) -> AsyncIterator[Generation]:
    """It has a state, a log and a tombstone. Afterwards its slot is where it was."""
    names = keys.of_generation(new_generation_id())
    source = await cluster.primary_of(names[0])
    target = next(node for node in await cluster.primaries() if node is not source)
    async with connected(source) as one, connected(target) as other:
        for name in (names[0], names[2]):
            await one.execute("HSET", name, "count", 0)
        await one.execute("XADD", names[1], "1-1", "a", "b")
        yield Generation(names, source, target, one, other)
    await move(cluster, [slot_of(names[0])], source)


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[RawConnection]:
    connection = await RawConnection.open(node.port)
    try:
        yield connection
    finally:
        connection.close()


async def test_script_is_refused_on_both_nodes_while_its_slot_is_open(cluster: Cluster, generation: Generation) -> None:
    """The channel among its keys never exists: so for the server a key is missing wherever it looks."""
    state, log, tombstone, _ = generation.names
    at_source, at_target = generation.at_source, generation.at_target
    await begin(generation.slot, generation.source, generation.target)
    assert await at_source.execute(*generation.script) == TRYAGAIN
    await move_keys(generation.source, generation.target, state)
    assert await at_source.execute(*generation.script) == TRYAGAIN
    await move_keys(generation.source, generation.target, log, tombstone)
    assert await at_source.execute(*generation.script) == generation.redirection("ASK", generation.target)
    assert await at_target.ask(*generation.script) == TRYAGAIN
    assert await at_target.execute(*generation.script) == generation.redirection("MOVED", generation.source)
    await end(cluster, generation.slot, generation.target)
    assert await at_target.execute(*generation.script) == "ran"
    assert await at_source.execute(*generation.script) == generation.redirection("MOVED", generation.target)


async def test_refused_script_has_changed_nothing(cluster: Cluster, generation: Generation) -> None:
    await begin(generation.slot, generation.source, generation.target)
    assert await generation.at_source.execute(*generation.script) == TRYAGAIN
    await move_keys(generation.source, generation.target, *generation.names[:3])
    assert await generation.at_target.ask(*generation.script) == TRYAGAIN
    await end(cluster, generation.slot, generation.target)
    assert await generation.at_target.execute("HGET", generation.names[0], "count") == "0"


async def test_read_of_one_key_follows_the_key(cluster: Cluster, generation: Generation) -> None:
    state, log, tombstone, _ = generation.names
    await begin(generation.slot, generation.source, generation.target)
    await move_keys(generation.source, generation.target, state)
    ask = generation.redirection("ASK", generation.target)
    assert await generation.at_source.execute("HMGET", state, "count") == ask
    assert await generation.at_target.ask("HMGET", state, "count") == ["0"]
    assert await generation.at_source.execute("HMGET", tombstone, "count") == ["0"]
    assert len(await generation.at_source.execute("XRANGE", log, "-", "+")) == 1
    assert await generation.at_target.ask("XRANGE", log, "-", "+") == [], "asked too early"
    assert await generation.at_source.execute("GET", f"{state}:missing") == ask
    await move_keys(generation.source, generation.target, log, tombstone)
    await end(cluster, generation.slot, generation.target)


async def test_unknown_script_is_redirected_as_a_known_one(generation: Generation) -> None:
    unknown = ("EVALSHA", "0" * 40, 4, *generation.names)
    assert await generation.at_target.execute(*unknown) == generation.redirection("MOVED", generation.source)
    assert (await generation.at_source.execute(*unknown)).startswith("NOSCRIPT")


@pytest.mark.parametrize("way", WAYS)
async def test_subscriber_receives_sunsubscribe_after_the_last_message_of_a_moved_slot(
    cluster: Cluster, generation: Generation, way: Way
) -> None:
    channel = generation.names[3]
    async with connected(generation.source) as subscriber:
        assert await subscriber.execute("SSUBSCRIBE", channel) == ["ssubscribe", channel, 1]
        acknowledged = 0
        moving = asyncio.create_task(move(cluster, [generation.slot], generation.target, way))
        while (reply := await generation.at_source.execute(*generation.script)) in ("ran", TRYAGAIN):
            acknowledged += reply == "ran"
        assert reply.startswith("MOVED" if way == "atomic" else ("MOVED", "ASK"))
        await moving
        assert [await subscriber.receive() for _ in range(acknowledged)] == [
            ["smessage", channel, str(count + 1)] for count in range(acknowledged)
        ]
        assert await subscriber.receive() == ["sunsubscribe", channel, 0]
        moved = generation.redirection("MOVED", generation.target)
        assert await subscriber.execute("SSUBSCRIBE", channel) == moved
        assert await subscriber.execute("SUNSUBSCRIBE", channel) == moved
        assert await subscriber.execute("PING") == "PONG", "of a connection without subscriptions"


async def test_slot_that_moves_at_once_is_never_asked_for(cluster: Cluster, generation: Generation) -> None:
    await begin_at_once(generation.source, [generation.slot], generation.target)
    replies = set()
    while "ran" in (reply := await generation.at_source.execute(*generation.script)):
        replies.add(reply)
    assert (replies, reply) == ({"ran"}, generation.redirection("MOVED", generation.target))
    await cluster.wait_until_agreed()


async def test_channels_of_two_slots_cannot_be_subscribed_to_together(generation: Generation) -> None:
    other = keys.events(new_generation_id())
    reply = await generation.at_source.execute("SSUBSCRIBE", generation.names[3], other)
    assert reply.startswith("CROSSSLOT")


async def test_replica_redirects_commands_and_accepts_subscriptions(cluster: Cluster, generation: Generation) -> None:
    state, channel = generation.names[0], generation.names[3]
    async with connected(await cluster.replica_of(generation.source)) as replica:
        moved = generation.redirection("MOVED", generation.source)
        assert await replica.execute("HGET", state, "count") == moved
        assert await replica.execute("HSET", state, "count", 1) == moved
        assert await replica.execute(*generation.script) == moved
        assert await replica.execute("READONLY") == "OK"
        assert await replica.execute(*generation.script) == moved
        assert await replica.execute("SSUBSCRIBE", channel) == ["ssubscribe", channel, 1]
        assert await generation.at_source.execute(*generation.script) == "ran"
        assert await replica.receive() == ["smessage", channel, "1"]


async def test_demoted_primary_ends_subscriptions_and_keeps_connections(
    cluster: Cluster, generation: Generation
) -> None:
    channel, primary = generation.names[3], generation.source
    replica = await cluster.replica_of(primary)
    before = await replica.info("server"), await replica.info("replication")
    async with connected(primary) as subscriber:
        assert await subscriber.execute("SSUBSCRIBE", channel) == ["ssubscribe", channel, 1]
        await cluster.fail_over(primary)
        assert await subscriber.receive() == ["sunsubscribe", channel, 0]
        assert await generation.at_source.execute(*generation.script) == generation.redirection("MOVED", replica)
    after = await replica.info("server"), await replica.info("replication")
    assert after[0]["run_id"] == before[0]["run_id"]
    assert after[1]["master_replid2"] == before[1]["master_replid"] != after[1]["master_replid"]
    await cluster.wait_until_agreed()
    await cluster.fail_over(replica)
    await cluster.wait_until_agreed()


@pytest.mark.long
async def test_dead_primary_stays_in_the_shard_of_its_successor(cluster: Cluster, generation: Generation) -> None:
    primary, channel = generation.source, generation.names[3]
    replica = await cluster.replica_of(primary)
    primary.kill()
    async with connected(generation.target) as other:
        await cluster.wait_for_promotion(replica)
        await cluster.wait_until_agreed()
        shards = [dict(zip(each[::2], each[1::2], strict=True)) for each in await other.execute("CLUSTER", "SHARDS")]
        nodes = [dict(zip(each[::2], each[1::2], strict=True)) for shard in shards for each in shard["nodes"]]
        seen = {node["id"]: (node["role"], node["health"]) for node in nodes}
        assert (seen[primary.id], seen[replica.id]) == (("master", "fail"), ("master", "online"))
        moved = generation.redirection("MOVED", replica)
        assert await other.execute(*generation.script) == await other.execute("SSUBSCRIBE", channel) == moved
    primary.start()
    await cluster.wait_until_agreed()
    await cluster.fail_over(replica)
    await cluster.wait_until_agreed()


@pytest.mark.long
async def test_resumed_primary_acknowledges_what_waited_and_loses_it(cluster: Cluster, generation: Generation) -> None:
    primary, connection = generation.source, generation.at_source
    replica = await cluster.replica_of(primary)
    assert await connection.execute(*generation.script) == "ran"
    primary.pause()
    for _ in range(5):
        connection.send(*generation.script)
    await cluster.wait_for_promotion(replica)
    await cluster.wait_until_agreed()
    primary.resume()
    assert [await connection.receive() for _ in range(5)] == 5 * ["ran"]
    moved = generation.redirection("MOVED", replica)

    async def is_demoted() -> bool:
        return bool(await connection.execute(*generation.script) == moved)

    await until(is_demoted, "it has not learnt")
    assert await replica.execute("HGET", generation.names[0], "count") == "1"
    await cluster.wait_until_agreed()
    await cluster.fail_over(replica)
    await cluster.wait_until_agreed()
