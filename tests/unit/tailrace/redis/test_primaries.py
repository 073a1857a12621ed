"""The primaries of a cluster: whom the topology is asked of, when, and what follows from it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support.scripted_cluster import ScriptedCluster
from tailrace.errors import Misconfigured, RedisUnavailable
from tailrace.redis import primaries as module
from tailrace.redis.hash_slots import slot_of
from tailrace.redis.primaries import Primaries
from tailrace.redis.primary import Primary
from tailrace.redis.redirects import Redirected

THIRDS = {1: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedCluster]:
    monkeypatch.setattr(module, "READ_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "STUCK_S", 0.02)
    cluster = ScriptedCluster(dict(THIRDS))
    yield cluster
    await cluster.primaries.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.001)


async def test_slots_are_unknown_before_a_server_was_asked(cluster: ScriptedCluster) -> None:
    assert not cluster.primaries.all
    with pytest.raises(RedisUnavailable):
        cluster.primaries.of_slot(0)
    await cluster.primaries.known()
    assert [str(each) for each in cluster.primaries.all] == ["h:1", "h:2", "h:3"]
    assert [cluster.primaries.of_slot(slot).address[1] for slot in (0, 5460, 5461, 16383)] == [1, 1, 2, 3]


async def test_tag_of_a_primary_is_in_its_lowest_slot(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    assert [slot_of(f"{{{each.tag}}}") for each in cluster.primaries.all] == [0, 5461, 10923]


async def test_callers_share_one_reading(cluster: ScriptedCluster) -> None:
    await asyncio.gather(*(cluster.primaries.read() for _ in range(10)))
    assert len(cluster.asked) == 1


async def test_server_that_does_not_reply_is_followed_by_the_next(cluster: ScriptedCluster) -> None:
    cluster.cut = {("h", 1), ("h", 2)}
    await cluster.primaries.known()
    assert cluster.asked == [3]
    cluster.cut = {("h", port) for port in THIRDS}
    with pytest.raises(RedisUnavailable):
        await cluster.primaries.read()


async def test_view_of_a_server_that_is_cut_off_is_taken_last(cluster: ScriptedCluster) -> None:
    cluster.minority = {("h", 1), ("h", 2)}
    cluster.views = {1: {1: (0, 16383)}, 2: {2: (0, 16383)}}
    await cluster.primaries.known()
    assert len(cluster.primaries.all) == 3
    cluster.minority.add(("h", 3))
    await cluster.primaries.read()
    assert len(cluster.primaries.all) in (1, 3), "one of the views, where there is no better one"


async def test_server_without_slots_is_left(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    left = cluster.at(3)
    cluster.owners = {1: (0, 5460), 2: (5461, 10922), 4: (10923, 16383)}
    await cluster.primaries.read()
    await until(lambda: left.closed)
    assert cluster.primaries.of_slot(16383) is cluster.at(4)
    assert not cluster.at(1).closed


async def test_slot_that_no_server_has_stays_where_it_was(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    del cluster.owners[3]
    await cluster.primaries.read()
    assert cluster.primaries.of_slot(16383) is cluster.at(3)
    assert not cluster.at(3).closed


async def test_slot_follows_a_redirection_at_once(cluster: ScriptedCluster) -> None:
    """The topology is then read from the server that the redirection names: others may not know of it yet."""
    await cluster.primaries.known()
    cluster.asked.clear()
    cluster.views[3] = {1: (0, 5460), 2: (5461, 10921), 3: (10922, 16383)}
    sender = cluster.at(2)
    assert cluster.primaries.follow(Redirected("10922 h:3", asking=False), sender) is cluster.at(3)
    assert cluster.primaries.of_slot(10922) is cluster.at(3)
    await until(lambda: bool(cluster.asked))
    await asyncio.sleep(0)
    assert cluster.asked == [3]
    assert cluster.primaries.of_slot(10922) is cluster.at(3)


async def test_slot_that_is_asked_for_stays_where_it_is(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    named = cluster.primaries.follow(Redirected("7 h:2", asking=True), cluster.at(1))
    assert named is cluster.at(2)
    assert cluster.primaries.of_slot(7) is cluster.at(1)


async def test_redirection_without_a_host_is_to_the_host_of_its_sender(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    for reply in ("7 :2", "7 ?:2"):
        assert cluster.primaries.follow(Redirected(reply, asking=True), cluster.at(1)) is cluster.at(2)


async def test_call_that_waits_for_long_has_the_topology_read(cluster: ScriptedCluster) -> None:
    """A primary that is paused keeps its connections: nothing else shows that it was failed over."""
    await cluster.primaries.known()
    cluster.asked.clear()
    cluster.at(1).oldest = object()
    await until(lambda: bool(cluster.asked))


@pytest.mark.parametrize("away", [set[int](), {2}, {2, 3}])
async def test_server_at_which_a_call_waits_is_asked_where_no_other_one_replies(
    cluster: ScriptedCluster, away: set[int]
) -> None:
    """While a primary is failed over, all others are `fail`: a read that waited for it would miss its successor."""
    await cluster.primaries.known()
    cluster.minority = {("h", port) for port in THIRDS}
    cluster.cut = {("h", port) for port in away}
    cluster.at(1).oldest = object()
    await until(lambda: cluster.primaries._is_stuck(("h", 1)))
    cluster.asked.clear()
    await until(lambda: len(cluster.asked) > 10)
    assert set(cluster.asked[1:]) == {2, 3} - away or (set(cluster.asked) == {1} and away == {2, 3})


async def test_server_that_a_redirection_named_and_the_cluster_has_not_is_forgotten(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    cluster.cut = {("h", 9)}
    cluster.primaries.follow(Redirected("5 h:9", asking=False), cluster.at(1))
    await cluster.primaries.read()
    made = len(cluster.servers)
    assert cluster.primaries._newest is None
    await cluster.primaries.read()
    assert len(cluster.servers) == made


async def test_view_without_slots_is_no_view(cluster: ScriptedCluster) -> None:
    """Of a server that was reset. A slow primary would not be asked behind it."""
    cluster.minority, cluster.views = {("h", 1)}, {1: {}}
    cluster.primaries._waiting = {("h", 2): (waits := object())}
    cluster.cut = {("h", 3)}
    cluster.primaries.at_address(("h", 2))
    cluster.at(2).oldest = waits
    await cluster.primaries.read()
    assert cluster.asked == [1, 2]
    assert len(cluster.primaries.all) == 3


async def test_topology_that_is_the_same_is_not_applied_again(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.primaries.known()
    given, changes = list[object](), cluster.primaries.changes
    give = cluster.primaries._give

    def counted(slots: Any) -> None:
        given.append(slots)
        give(slots)

    monkeypatch.setattr(cluster.primaries, "_give", counted)
    await cluster.primaries.read()
    assert (given, cluster.primaries.changes) == ([], changes)
    cluster.primaries.follow(Redirected("5 h:2", asking=False), cluster.at(1))
    assert cluster.primaries.of_slot(5) is cluster.at(2)
    await cluster.primaries.read()
    assert len(given) == 1
    assert cluster.primaries.of_slot(5) is cluster.at(1), "the others know better"
    assert cluster.primaries.changes == changes + 2


async def test_topology_is_not_read_while_calls_are_answered(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    cluster.asked.clear()
    for _ in range(20):
        cluster.at(1).oldest = object()
        await asyncio.sleep(0.005)
    assert cluster.asked == []


async def test_topology_is_read_again_while_a_primary_is_away(cluster: ScriptedCluster) -> None:
    await cluster.primaries.known()
    cluster.asked.clear()
    cluster.cut = {("h", 1)}
    await until(lambda: len(cluster.asked) > 1)
    cluster.owners = {4: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}
    await until(lambda: cluster.primaries.of_slot(0).address[1] == 4)


@pytest.mark.parametrize("call", ["read", "watch"])
async def test_every_reading_is_reported(cluster: ScriptedCluster, call: str) -> None:
    reported: list[int] = []
    cluster.primaries.on_read(lambda: reported.append(len(cluster.primaries.all)))
    if call == "read":
        await cluster.primaries.read()
    else:
        cluster.primaries.start()
        await until(lambda: bool(reported))
    assert reported[0] == 3


@pytest.mark.parametrize(
    ("url", "node"),
    [
        ("redis+cluster://a:7000,b:7001", "redis://a:7000/0"),
        ("redis+cluster://a", "redis://a:6379/0"),
        ("redis+cluster://user:p%40ss@[::1]:7000,b/0", "redis://user:p%40ss@[::1]:7000/0"),
        ("rediss+cluster://a:7000?ssl_cert_reqs=none", "rediss://a:7000/0?ssl_cert_reqs=none"),
    ],
)
def test_address_names_servers(url: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []

    def connect(address: str, setting: str, retries: int) -> Primary:
        connected.append(address)
        return Primary.__new__(Primary)

    monkeypatch.setattr(Primary, "connect", connect)
    primaries = Primaries.at(url, "TAILRACE_REDIS_URL")
    primaries.at_address(primaries._seeds[0])
    assert connected == [node]


@pytest.mark.parametrize(
    "url", ["redis+cluster://", "redis+cluster://a:x", "redis+cluster://:secret@a,,b", "redis+cluster://a/3"]
)
def test_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Primaries.at(url, "TAILRACE_REDIS_URL")
    assert "TAILRACE_REDIS_URL" in str(refused.value)
    assert "secret" not in str(refused.value)
