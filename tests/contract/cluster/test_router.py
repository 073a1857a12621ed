"""Our connections to a cluster, while its slots move and its primaries change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from support.api import eventually
from support.cluster import Cluster, slot_of
from support.cluster_node import Node, until
from support.log_places import server_of
from support.log_writer import LogWriter
from support.slot_moves import WAYS, Way, begin, end, move, move_some_keys
from support.sse import Stream
from support.stack import stack
from support.stored_log import create_generation, read_all
from support.subscriptions import Messages, rows_of, subscribed
from tailrace import keys
from tailrace.events import Text
from tailrace.log import Log
from tailrace.redis.idle_connections import IDLE_S
from tailrace_cli.embedded import EmbeddedServer

LEASE_MS = 60_000
TIMEOUT_S = 20.0


@pytest.fixture
async def log(cluster: Cluster) -> AsyncIterator[Log]:
    server = await server_of(cluster)
    yield Log(server, LEASE_MS)
    await server.close()


@pytest.fixture
async def writer(log: Log) -> LogWriter:
    return await LogWriter.start(log, await create_generation(log, owner="open"))


@pytest.fixture
async def home(cluster: Cluster, writer: LogWriter) -> AsyncIterator[Node]:
    """The primary of the log, to which its slot returns."""
    source = await cluster.primary_of(slot(writer))
    yield source
    await move(cluster, [slot(writer)], source)


@pytest.fixture
async def target(cluster: Cluster, home: Node) -> Node:
    """Another primary."""
    return next(node for node in await cluster.primaries() if node is not home)


def slot(writer: LogWriter) -> int:
    return slot_of(keys.log(writer.generation_id))


async def message_after_moves(messages: Messages) -> bytes:
    """The next message, before which the listener must have been called with None."""
    async with asyncio.timeout(TIMEOUT_S):
        assert await messages.get() is None
        while not (message := await messages.get()):
            pass
    return message


async def _is_subscribed(node: Node, writer: LogWriter) -> bool:
    _, count = await node.execute("PUBSUB", "SHARDNUMSUB", keys.events(writer.generation_id))
    return bool(count)


@pytest.mark.parametrize("way", WAYS)
async def test_rows_are_appended_once_while_their_slot_moves(
    cluster: Cluster, log: Log, writer: LogWriter, home: Node, target: Node, way: Way
) -> None:
    for node in (target, home, target):
        moving = asyncio.create_task(move(cluster, [slot(writer)], node, way))
        while not moving.done():
            await writer.write_text("a token")
        await moving
    await writer.write_text("the last")
    assert await read_all(log, writer.generation_id) == writer.entries


async def test_append_waits_for_an_open_slot_and_reads_follow_the_keys(
    cluster: Cluster, log: Log, writer: LogWriter, home: Node, target: Node
) -> None:
    await begin(slot(writer), home, target)
    before = list(writer.entries)
    append = asyncio.create_task(writer.write_text("waits"))
    assert await read_all(log, writer.generation_id) == before
    assert await move_some_keys(slot(writer), home, target)
    assert await read_all(log, writer.generation_id) == before
    assert (await log.state(writer.generation_id)).epoch == writer.epoch
    assert not append.done()
    while await move_some_keys(slot(writer), home, target):
        pass
    await end(cluster, slot(writer), target)
    await append
    assert await read_all(log, writer.generation_id) == writer.entries


@pytest.mark.parametrize("way", WAYS)
async def test_subscriber_receives_what_is_published_after_its_slot_has_moved(
    cluster: Cluster, log: Log, writer: LogWriter, home: Node, target: Node, way: Way
) -> None:
    """Only the server's `sunsubscribe` shows it: the channel is silent, and no command is sent."""
    async with subscribed(log.server, keys.events(writer.generation_id)) as messages:
        for node in (target, home):
            await move(cluster, [slot(writer)], node, way)
            await until(partial(_is_subscribed, node, writer), "it is not subscribed where the slot is")
            batch = await writer.write(Text(0, "after"))
            assert rows_of(await message_after_moves(messages)) == batch.rows


async def test_messages_continue_after_a_failover(cluster: Cluster, log: Log, writer: LogWriter, home: Node) -> None:
    replica = await cluster.replica_of(home)
    async with subscribed(log.server, keys.events(writer.generation_id)) as messages:
        await cluster.fail_over(home)
        await until(partial(_is_subscribed, replica, writer), "it is not subscribed where the slot is")
        batch = await writer.write(Text(0, "after"))
        assert rows_of(await message_after_moves(messages)) == batch.rows
    await cluster.wait_until_agreed()
    await cluster.fail_over(replica)
    await cluster.wait_until_agreed()


async def test_shards_of_the_unfinished_follow_the_slots(
    cluster: Cluster, log: Log, writer: LogWriter, home: Node, target: Node
) -> None:
    """They are made once for each state of the topology."""
    before = await log.unfinished.shards()
    assert all(one is other for one, other in zip(before, await log.unfinished.shards(), strict=True))
    await move(cluster, [slot(writer)], target, "atomic")
    await until(partial(_is_swept_at, log, writer, target), "it is not swept where its slot is")


async def _is_swept_at(log: Log, writer: LogWriter, node: Node) -> bool:
    shards = await log.unfinished.shards()
    found = [str(shard.server) for shard in shards if writer.generation_id in await shard.list()]
    return found == [f"127.0.0.1:{node.port}"]


@pytest.mark.parametrize("way", [pytest.param("legacy", marks=pytest.mark.long), "atomic"])
async def test_reader_of_a_silent_log_whose_slot_has_moved_receives_its_next_event(
    cluster: Cluster, valkey: EmbeddedServer, log: Log, home: Node, target: Node, writer: LogWriter, way: Way
) -> None:
    """Without a beat, which would have the frontend read the log: the next one is a minute away."""
    async with (
        stack(workers=0, redis_url=cluster.url, queue_url=valkey.url, keepalive_s="60") as product,
        aiohttp.ClientSession() as http,
    ):
        url = f"{product.url}/v1/generations/{writer.generation_id}/events"
        async with http.get(url, headers={"Accept": "text/event-stream"}) as response:
            reader = Stream(response)
            await writer.write_text("before the move, ")
            await reader.until_text("before the move, ")
            await move(cluster, [slot(writer)], target, way)
            await writer.write_text("after the move")
            await reader.until_text("after the move")
            assert reader.parser.comments == []
            reader.cut()


@pytest.mark.long
async def test_process_has_two_connections_to_each_primary(
    cluster: Cluster, valkey: EmbeddedServer, home: Node, writer: LogWriter
) -> None:
    """One for commands, one for messages; pages share a third, which is closed when no call has used it for a while."""
    async with (
        stack(workers=0, frontends=2, redis_url=cluster.url, queue_url=valkey.url) as product,
        aiohttp.ClientSession() as http,
    ):
        pids = {frontend.pid for frontend in product.frontends}
        for node in await cluster.primaries():
            await eventually(partial(_has_connections, node, pids, 2 * len(pids)))
        await writer.write_text("text")
        for frontend in product.frontends:
            url = f"{frontend.url}/v1/generations/{writer.generation_id}/events"
            async with http.get(url, headers={"Accept": "text/event-stream"}) as response:
                reader = Stream(response)
                await reader.until_text("text")
                reader.cut()
        assert await _has_connections(home, pids, 3 * len(pids))
        await eventually(partial(_has_connections, home, pids, 2 * len(pids)), 2 * IDLE_S)


async def _has_connections(node: Node, pids: set[int], count: int) -> bool:
    return sum(map(partial(connections, port=node.port), pids)) == count


def connections(pid: int, port: int) -> int:
    """Connections of a process to a port."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(each.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[9] in inodes and int(row[2].split(":")[1], 16) == port and row[3] == "01" for row in rows)
