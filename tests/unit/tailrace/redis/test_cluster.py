"""The router of a cluster: which primary a command goes to, and when it goes to another one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.scripted_cluster import ScriptedCluster
from tailrace import keys, scripts
from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.redis import cluster as cluster_module
from tailrace.redis import cluster_repetition as repetition
from tailrace.redis import primaries as module
from tailrace.redis.cluster import RedisCluster, connect_log_server
from tailrace.redis.hash_slots import slot_of, tags
from tailrace.redis.pipeline import ConnectionInterrupted
from tailrace.redis.primary import Primary
from tailrace.redis.redirects import Redirected, SlotUnavailable
from tailrace.redis.server import RedisServer
from tailrace.scripts import Command

THIRDS = {1: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}
LOW, MIDDLE, HIGH = (f"{{{tags()[slot]}}}" for slot in (0, 8000, 16000))


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedCluster]:
    monkeypatch.setattr(module, "READ_PAUSE_S", 0.001)
    monkeypatch.setattr(repetition, "BACKOFF_S", 0.0001)
    scripted = ScriptedCluster(dict(THIRDS))
    await scripted.primaries.known()
    yield scripted
    await scripted.primaries.close()


@pytest.fixture
def cluster(scripted: ScriptedCluster) -> RedisCluster:
    return RedisCluster(scripted.primaries)


def moved(key: str, port: int, *, asking: bool = False) -> Redirected:
    return Redirected(f"{slot_of(key)} h:{port}", asking=asking)


async def test_commands_go_to_the_primaries_of_their_slots(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    for port in THIRDS:
        scripted.at(port).reply = lambda command: command[1]
    commands = [("GET", key) for key in (HIGH, LOW, MIDDLE, LOW + "b")]
    assert await cluster.execute_many(commands) == [HIGH, LOW, MIDDLE, LOW + "b"]
    assert [scripted.at(port).sent for port in THIRDS] == [
        [("GET", LOW), ("GET", LOW + "b")], [("GET", MIDDLE)], [("GET", HIGH)],
    ]  # fmt: skip


async def test_no_command_is_no_call(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    assert await cluster.execute_many([]) == []


async def test_command_follows_a_move_of_its_slot(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    scripted.at(1).reply = lambda command: moved(LOW, 2) if command[1] == LOW else b"here"
    assert await cluster.execute_many([("GET", LOW), ("GET", f"{{{tags()[1]}}}")]) == [b"OK", b"here"]
    assert scripted.at(2).sent == [("GET", LOW)]
    await cluster.execute("GET", LOW)
    assert scripted.at(1).sent.count(("GET", LOW)) == 1, "the slot is known to be elsewhere"


async def test_command_asks_where_its_key_has_moved(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    scripted.at(1).reply = lambda _: moved(LOW, 2, asking=True)
    assert await cluster.execute("GET", LOW) == b"OK"
    assert scripted.at(2).sent == [("ASKING",), ("GET", LOW)]
    assert cluster.primary_of(LOW) is scripted.at(1)


async def test_script_that_asks_goes_with_its_text(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    """Where its digest is unknown, it would be repeated without ASKING."""
    names = keys.of_generation("gen")
    owner = {5460: 1, 10922: 2, 16383: 3}[next(last for last in (5460, 10922, 16383) if slot_of(names[0]) <= last)]
    other = owner % 3 + 1
    scripted.at(owner).reply = lambda _: moved(names[0], other, asking=True)
    await cluster.execute(*scripts.SHARE.on(names))
    assert scripted.at(other).sent == [("ASKING",), scripts.with_text(scripts.SHARE.on(names))]


@pytest.mark.parametrize("method", ["execute", "execute_alone", "read_page"])
async def test_command_is_repeated_while_its_slot_is_between_two_servers(
    scripted: ScriptedCluster, cluster: RedisCluster, method: str
) -> None:
    refusals = [SlotUnavailable(), SlotUnavailable(), moved(LOW, 3)]
    scripted.at(1).reply = lambda _: refusals.pop(0)
    scripted.views[3] = {2: (5461, 10922), 3: (0, 0), 1: (1, 5460)}
    assert await getattr(cluster, method)("GET", LOW) == b"OK"
    assert scripted.at(3).sent == [("GET", LOW)]


async def test_call_without_retries_waits_for_no_slot(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    """Commands of other slots would wait with it. A slot that has moved is followed all the same."""
    scripted.at(1).reply = lambda _: SlotUnavailable(detail="TRYAGAIN")
    scripted.at(2).reply = lambda _: moved(MIDDLE, 3)
    low, middle, high = await cluster.execute_many([("GET", LOW), ("GET", MIDDLE), ("GET", HIGH)], retries=0)
    assert isinstance(low, SlotUnavailable)
    assert (middle, high) == (b"OK", b"OK")
    assert len(scripted.at(1).sent) == 1


async def test_slot_that_stays_unavailable_is_given_up(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition, "REDIRECT_S", 0.01)
    scripted.at(1).reply = lambda _: SlotUnavailable(detail="TRYAGAIN")
    with pytest.raises(RedisUnavailable):
        await cluster.execute("GET", LOW)
    low, high = await cluster.execute_many([("GET", LOW), ("GET", HIGH)])
    assert isinstance(low, SlotUnavailable)
    assert high == b"OK"


async def test_servers_that_name_each_other_are_given_up(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition, "REDIRECT_S", 0.02)
    scripted.at(1).reply = lambda _: moved(LOW, 2)
    scripted.at(2).reply = lambda _: moved(LOW, 1)
    with pytest.raises(Redirected):
        await cluster.execute("GET", LOW)
    assert len(scripted.at(1).sent) < 100, "with a backoff"


async def test_primary_that_is_away_fails_its_own_commands(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    scripted.cut = {("h", 1)}
    low, high = await cluster.execute_many([("GET", LOW), ("GET", HIGH)])
    assert isinstance(low, RedisUnavailable)
    assert high == b"OK"
    assert cluster.is_away


@pytest.mark.parametrize("method", ["execute", "execute_alone"])
async def test_command_goes_to_the_replica_that_took_over(
    scripted: ScriptedCluster, cluster: RedisCluster, method: str
) -> None:
    scripted.cut = {("h", 1)}
    scripted.owners = {4: (0, 5460), 2: (5461, 10922), 3: (10923, 16383)}
    assert await getattr(cluster, method)("GET", LOW) == b"OK"
    assert scripted.at(4).sent == [("GET", LOW)]


async def test_primary_that_is_away_makes_no_process_unfit(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs of all others go on."""

    async def found(primary: Primary, *_: Any) -> tuple[list[str], list[str]]:
        await primary.execute_many([("PING",)])
        return ([], ["slow disk"]) if primary is scripted.at(3) else ([], [])

    monkeypatch.setattr(Primary, "problems", found)
    scripted.cut = {("h", 2)}
    assert await cluster.problems() == ([], ["h:2 does not respond, and its logs wait for it", "h:3: slow disk"])
    scripted.cut = {("h", port) for port in (1, 2, 3)}
    with pytest.raises(RedisUnavailable):
        await cluster.problems()


async def test_primary_that_is_back_is_looked_at(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although no other call has shown so yet: a process that starts makes none before."""

    async def found(*_: Any) -> tuple[list[str], list[str]]:
        return ["no room"], []

    monkeypatch.setattr(Primary, "problems", found)
    monkeypatch.setattr(type(scripted.at(1)), "is_away", property(lambda _: True))
    assert await cluster.problems() == ([f"h:{port}: no room" for port in THIRDS], [])


async def test_primary_that_does_not_reply_is_away(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(primary: Primary, *_: Any) -> tuple[list[str], list[str]]:
        if primary is scripted.at(1):
            await asyncio.Event().wait()
        return ["no room"], []

    monkeypatch.setattr(Primary, "problems", found)
    monkeypatch.setattr(cluster_module, "PROBLEMS_S", 0.01)
    assert await cluster.problems() == (
        ["h:2: no room", "h:3: no room"], ["h:1 does not respond, and its logs wait for it"]
    )  # fmt: skip


async def test_command_whose_connection_was_lost_is_repeated(
    scripted: ScriptedCluster, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a single server, and as often: not one whose reply was late."""
    scripted.why = ConnectionInterrupted("connection lost")
    sent = 0

    async def lost(commands: list[Command], **_: Any) -> list[Any]:
        nonlocal sent
        sent += 1
        raise RedisUnavailable from scripted.why

    monkeypatch.setattr(scripted.at(1), "execute_many", lost)
    scripted.minority = {("h", 1)}
    for retries, why in ((2, scripted.why), (0, scripted.why), (2, TimeoutError())):
        sent, scripted.why = 0, why
        (reply,) = await cluster.execute_many([("GET", LOW)], retries=retries)
        assert isinstance(reply, RedisUnavailable)
        repeated = retries if isinstance(why, ConnectionInterrupted) else 0
        asked = sent - 1 - repeated
        assert 0 <= asked <= repeated + 1, "beside the readings of the topology"


@pytest.mark.parametrize("error", [RedisFull(), RedisRefused(detail="WRONGTYPE")])
async def test_other_refusals_are_final(scripted: ScriptedCluster, cluster: RedisCluster, error: Exception) -> None:
    scripted.at(1).reply = lambda _: error
    with pytest.raises(type(error)):
        await cluster.execute("GET", LOW)
    assert len(scripted.at(1).sent) == 1


async def test_clock_is_that_of_a_primary_that_responds(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    scripted.cut = {("h", 1), ("h", 2)}
    scripted.at(3).reply = lambda _: [b"1700000000", b"250000"]
    assert await cluster.now() == 1_700_000_000_250


async def test_memory_is_that_of_the_fullest_primary(scripted: ScriptedCluster, cluster: RedisCluster) -> None:
    for port in THIRDS:
        scripted.at(port).reply = lambda _, port=port: b"used_memory:%d\r\nmaxmemory:10\r\n" % port  # type: ignore[misc]
    assert await cluster.memory_percent() == 30.0


def test_address_decides_between_a_server_and_a_cluster() -> None:
    assert isinstance(connect_log_server("redis+cluster://h:1", "TAILRACE_REDIS_URL"), RedisCluster)
    single = connect_log_server("redis://h:1", "TAILRACE_REDIS_URL")
    assert isinstance(single, RedisServer)
    assert not isinstance(single, RedisCluster)
