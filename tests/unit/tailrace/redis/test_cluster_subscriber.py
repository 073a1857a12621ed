"""The channels of a cluster: each on the primary of its slot, also after that has changed."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from support.scripted_cluster import ScriptedCluster
from tailrace.redis import primaries as module
from tailrace.redis.cluster_subscriber import FAILURE_SEEN_S, ClusterSubscriber
from tailrace.redis.hash_slots import tags

THIRDS = {1: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}
LOW, MIDDLE, HIGH = (f"{{{tags()[slot]}}}" for slot in (0, 8000, 16000))


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedCluster]:
    monkeypatch.setattr(module, "READ_PAUSE_S", 0.001)
    cluster = ScriptedCluster(dict(THIRDS))
    yield cluster
    await cluster.primaries.close()


@pytest.fixture
async def subscriber(cluster: ScriptedCluster) -> AsyncIterator[ClusterSubscriber]:
    subscriber = ClusterSubscriber(cluster.primaries)
    yield subscriber
    await subscriber.close()


def ignore(_: bytes | None) -> None:
    pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.001)


async def test_channels_are_subscribed_at_the_primaries_of_their_slots(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber
) -> None:
    """Also those that were added before the topology was known."""
    subscriber.add(LOW, ignore)
    subscriber.start()
    await until(lambda: len(cluster.subscribers()) == 3)
    subscriber.add(HIGH, ignore)
    assert {port: each.calls for port, each in cluster.subscribers().items()} == {
        1: ["start", LOW], 2: ["start"], 3: ["start", HIGH],
    }  # fmt: skip
    subscriber.remove(HIGH)
    subscriber.remove("unknown")
    assert cluster.subscribers()[3].calls[2:] == [f"-{HIGH}"]


async def test_process_is_cut_off_from_a_server_that_the_others_reach(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber
) -> None:
    assert subscriber.cut_off_since == subscriber.disconnected_since
    await cluster.primaries.known()
    subscriber.start()
    for port, channels in cluster.subscribers().items():
        channels.since = 5.0 if port == 2 else None
    assert subscriber.disconnected_since == 5.0
    assert subscriber.cut_off_since == 5.0 + FAILURE_SEEN_S
    cluster.failed = {2}
    await cluster.primaries.read()
    assert subscriber.disconnected_since == 5.0
    assert subscriber.cut_off_since is None


async def test_channel_that_was_removed_is_not_subscribed_after_a_redirection(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber
) -> None:
    await cluster.primaries.known()
    subscriber.start()
    subscriber.add(LOW, ignore)
    subscriber.remove(LOW)
    cluster.subscribers()[1].redirect(LOW.encode())
    await cluster.primaries.read()
    assert cluster.subscribers()[1].calls == ["start", LOW, f"-{LOW}"]


async def test_channel_moves_with_its_slot(cluster: ScriptedCluster, subscriber: ClusterSubscriber) -> None:
    await cluster.primaries.known()
    subscriber.start()
    subscriber.add(LOW, ignore)
    subscriber.add(MIDDLE, ignore)
    cluster.owners = {1: (1, 5460), 2: (5461, 10922), 3: (10923, 16383), 4: (0, 0)}
    await cluster.primaries.read()
    assert cluster.subscribers()[4].calls == ["start", LOW]
    assert cluster.subscribers()[1].calls == ["start", LOW, f"-{LOW}"]
    assert cluster.subscribers()[2].calls == ["start", MIDDLE]


async def test_connection_to_a_primary_that_was_replaced_is_closed(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber
) -> None:
    await cluster.primaries.known()
    subscriber.start()
    subscriber.add(LOW, ignore)
    cluster.owners = {4: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}
    await cluster.primaries.read()
    await until(lambda: set(cluster.subscribers()) == {2, 3, 4})
    assert cluster.subscribers()[4].calls == ["start", LOW]


@pytest.mark.parametrize("what", [LOW.encode(), 0])
async def test_subscription_that_the_server_ended_is_renewed_where_the_slot_is(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber, what: bytes | int
) -> None:
    """At once, without waiting for a message, and also where the topology shows no change yet."""
    await cluster.primaries.known()
    subscriber.start()
    subscriber.add(LOW, ignore)
    subscriber.add(MIDDLE, ignore)
    cluster.subscribers()[1].redirect(what)
    await until(lambda: cluster.subscribers()[1].calls == ["start", LOW, LOW])
    cluster.owners = {1: (1, 5460), 2: (5461, 10922), 3: (10923, 16383), 4: (0, 0)}
    cluster.subscribers()[1].redirect(what)
    await until(lambda: 4 in cluster.subscribers() and cluster.subscribers()[4].calls == ["start", LOW])
    assert cluster.subscribers()[2].calls == ["start", MIDDLE]


async def test_state_is_that_of_all_connections_or_of_one_channel(
    cluster: ScriptedCluster, subscriber: ClusterSubscriber
) -> None:
    assert not subscriber.connected
    await cluster.primaries.known()
    subscriber.start()
    subscriber.add(LOW, ignore)
    subscriber.add(HIGH, ignore)
    for port, moment in ((1, 7.0), (2, 9.0)):
        cluster.subscribers()[port].connect(moment)
    assert subscriber.of(LOW).connected
    assert not subscriber.of(HIGH).connected
    assert (subscriber.connected, subscriber.disconnected_since, subscriber.connected_at) == (False, 5.0, 9.0)
    cluster.subscribers()[3].connect(8.0)
    assert (subscriber.connected, subscriber.connected_at) == (True, 9.0)
    assert subscriber.of(HIGH).connected_at == 8.0


async def test_every_connection_is_reported(cluster: ScriptedCluster) -> None:
    connected: list[int] = []
    subscriber = ClusterSubscriber(cluster.primaries, on_connected=lambda: connected.append(1))
    await cluster.primaries.known()
    subscriber.start()
    for each in cluster.subscribers().values():
        each.connect(1.0)
    assert len(connected) == 3
    await subscriber.close()
    assert cluster.subscribers() == {}


async def test_connections_share_the_interval_of_reads(cluster: ScriptedCluster) -> None:
    """A process so wakes as often as with one connection."""
    subscriber = ClusterSubscriber(cluster.primaries, 0.002)
    await cluster.primaries.known()
    subscriber.start()
    assert [each.read_interval_s for each in cluster.subscribers().values()] == [0.006] * 3
    await subscriber.close()
