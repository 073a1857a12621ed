"""RedisServer: replies, errors, repeated commands, scripts, and the facts that a server reports about itself."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.api import eventually
from support.logs import REQUEST
from support.logs import record as record_of
from system.injectors import link
from tailrace import keys, scripts
from tailrace.errors import Misconfigured, RedisFull, RedisRefused, RedisUnavailable
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, Log
from tailrace.redis.exchange import KEPT_BYTES
from tailrace.redis.server import PAGE_READS, RedisServer
from tailrace.redis.server_run import ServerRun
from tailrace_cli.embedded import EmbeddedServer, free_port

WAYS = ["execute", "execute_alone", "read_bulk", "read_page"]
Config = Callable[[str, str], Awaitable[None]]
Limited = Callable[[str], Awaitable[RedisServer]]


@pytest.fixture
def server(redis: Redis) -> RedisServer:
    return RedisServer(redis)


# Commands


async def test_execute_returns_the_raw_reply(server: RedisServer) -> None:
    assert await server.execute("SET", "key", "value") == b"OK"
    assert await server.execute("GET", "key") == b"value"
    assert await server.execute("INCR", "count") == 1
    assert await server.execute("GET", "nothing") is None


@pytest.mark.parametrize("way", WAYS)
async def test_execute_raises_redis_refused_for_a_mistake(server: RedisServer, way: str) -> None:
    with pytest.raises(RedisRefused, match="unknown command"):
        await getattr(server, way)("NOSUCHCOMMAND")
    assert await getattr(server, way)("ECHO", "a") == b"a"


@pytest.mark.parametrize("way", WAYS)
async def test_execute_raises_redis_full_for_a_full_server(server: RedisServer, config: Config, way: str) -> None:
    await config("maxmemory", "1")
    with pytest.raises(RedisFull) as full:
        await getattr(server, way)("SET", "key", "value")
    assert full.value.retry_after > 1


@pytest.mark.parametrize("way", WAYS)
async def test_execute_raises_redis_unavailable_without_a_server(way: str) -> None:
    away = RedisServer.connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisUnavailable) as error:
        await getattr(away, way)("PING")
    assert "127.0.0.1" in str(error.value)
    assert "127.0.0.1" not in error.value.message, "clients do not learn where the server is"
    await away.close()


@pytest.mark.parametrize("word", ["BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN"])
@pytest.mark.parametrize("way", ["execute", "execute_alone"])
async def test_execute_distinguishes_transient_errors(server: RedisServer, way: str, word: str) -> None:
    with pytest.raises(RedisUnavailable):
        await getattr(server, way)("EVAL", f"return redis.error_reply('{word} not now')", 0)
    with pytest.raises(RedisRefused):
        await getattr(server, way)("EVAL", f"return redis.error_reply('{word}X never')", 0)


async def test_execute_many_yields_the_error_of_its_own_command(server: RedisServer) -> None:
    first, error, last = await server.execute_many([("ECHO", "a"), ("XADD", "k"), ("ECHO", "b")])
    assert (first, last) == (b"a", b"b")
    assert isinstance(error, RedisRefused)


async def test_execute_many_of_nothing_sends_nothing() -> None:
    assert await RedisServer.connect("redis://127.0.0.1:1/0").execute_many([]) == []


@pytest.mark.parametrize("way", WAYS)
async def test_execute_survives_a_restart_of_the_server(embedded: EmbeddedServer, way: str) -> None:
    server = RedisServer.connect(embedded.url)
    await server.execute("SET", "key", "value")
    for end in (embedded.stop, embedded.kill):
        assert await getattr(server, way)("GET", "key") == b"value"
        end()
        embedded.start()
        assert await getattr(server, way)("GET", "key") == b"value"
    await server.close()


@pytest.mark.parametrize("way", ["execute", "execute_alone"])
async def test_execute_repeats_a_command_whose_reply_was_lost(redis: Redis, server: RedisServer, way: str) -> None:
    waiting = asyncio.create_task(getattr(server, way)("BLPOP", "list", 60))
    while not (await redis.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.01)
    (blocked,) = re.findall(rb"id=(\d+) .* cmd=blpop", await redis.execute_command("CLIENT", "LIST"))
    await redis.client_kill_filter(_id=blocked.decode())
    await redis.execute_command("RPUSH", "list", "value")
    assert await waiting == [b"list", b"value"]


async def test_execute_many_without_retries_reports_a_lost_reply(redis: Redis, server: RedisServer) -> None:
    waiting = asyncio.create_task(server.execute_many([("BLPOP", "list", 60)], retries=0))
    while not (await redis.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.01)
    (blocked,) = re.findall(rb"id=(\d+) .* cmd=blpop", await redis.execute_command("CLIENT", "LIST"))
    await redis.client_kill_filter(_id=blocked.decode())
    with pytest.raises(RedisUnavailable):
        await waiting


async def test_execute_fails_after_its_retries(redis: Redis, valkey: EmbeddedServer) -> None:
    async with link(valkey.port, random.Random(1)) as line:
        server = RedisServer.connect(f"redis://127.0.0.1:{line.port}/0")
        assert await server.execute("ECHO", "a") == b"a"
        line.cut_replies = 1.0
        with pytest.raises(RedisUnavailable):
            await server.execute("ECHO", "b")
        line.cut_replies = 0.0
        assert await server.execute("ECHO", "c") == b"c"
        await server.close()


async def test_execute_alone_keeps_no_connection_that_carried_a_large_reply(redis: Redis) -> None:
    server = RedisServer(redis)
    await redis.set("small", "x")
    await redis.set("large", "x" * (KEPT_BYTES + 1))
    before = (await redis.info("clients"))["connected_clients"]
    await server.execute_alone("GET", "small")
    kept = (await redis.info("clients"))["connected_clients"]
    assert len(await server.execute_alone("GET", "large")) == KEPT_BYTES + 1
    assert (await redis.info("clients"))["connected_clients"] <= kept
    assert kept - before <= 1


async def test_read_page_runs_a_few_at_a_time(redis: Redis, server: RedisServer) -> None:
    async def are_sent() -> bool:
        return len(server._pages._waiting) >= PAGE_READS

    reads = [asyncio.create_task(server.read_page("BLPOP", "list", 60)) for _ in range(3 * PAGE_READS)]
    await eventually(are_sent)
    await server.execute_many([("ECHO", "a")] * 100)  # time for more of them, if there were more
    assert len(server._pages._waiting) == PAGE_READS
    await server.execute("RPUSH", "list", *range(len(reads)))
    assert sorted(int(element) for _, element in await asyncio.gather(*reads)) == list(range(len(reads)))


async def test_pages_share_a_connection_of_their_own(redis: Redis, server: RedisServer) -> None:
    own = {await server.execute("CLIENT", "ID"), await server.execute_alone("CLIENT", "ID")}
    pages = await asyncio.gather(*(server.read_page("CLIENT", "ID") for _ in range(2 * PAGE_READS)))
    assert len(set(pages)) == 1
    assert own.isdisjoint(pages)


@pytest.mark.parametrize("way", ["execute", "read_page"])
async def test_oldest_call_that_waits_is_known(server: RedisServer, way: str) -> None:
    def oldest() -> object | None:
        return server.is_waiting_since

    async def is_sent() -> bool:
        return oldest() is not None

    other = RedisServer(server.client)
    assert oldest() is None
    calls = [asyncio.create_task(getattr(server, way)("BLPOP", "list", 60)) for _ in range(2)]
    await eventually(is_sent)
    first = oldest()
    await other.execute("RPUSH", "list", 1)
    await asyncio.wait(calls, return_when="FIRST_COMPLETED")
    assert oldest() not in (None, first)
    await other.execute("RPUSH", "list", 2)
    await asyncio.gather(*calls)
    assert oldest() is None


async def test_page_of_a_slot_that_is_being_moved_follows_asking(redis: Redis, server: RedisServer) -> None:
    async def asked() -> int:
        calls: int = (await redis.info("commandstats")).get("cmdstat_asking", {"calls": 0})["calls"]
        return calls

    await redis.set("key", "value")
    before = await asked()
    assert await server.read_page("ASKING", "GET", "key") == b"value"
    assert await asked() == before + 1


async def test_page_that_is_refused_raises_the_error(redis: Redis, server: RedisServer) -> None:
    await redis.set("text", "value")
    with pytest.raises(RedisRefused):
        await server.read_page("XRANGE", "text", "-", "+")
    assert await server.read_page("GET", "text") == b"value"


async def test_read_bulk_returns_a_string_in_one_buffer_and_keeps_the_connection(redis: Redis) -> None:
    server, text = RedisServer(redis), b"0123456789" * 100_000
    await redis.set("large", text)
    connections = set()
    for _ in range(3):
        assert bytes(await server.read_bulk("GET", "large") or b"") == text
        assert await server.read_bulk("GET", "missing") is None
        connections.add(await server.execute_alone("CLIENT", "ID"))
    assert len(connections) == 1


async def test_read_bulk_sends_a_script_to_a_server_that_does_not_know_it(redis: Redis, server: RedisServer) -> None:
    command = scripts.READ_DONE.on(keys.of_generation(new_generation_id()))
    for _ in range(2):
        await redis.script_flush()
        assert await server.read_bulk(*command) is None
        assert await server.read_bulk(*command) is None


async def test_demoted_server_gets_a_new_connection(redis: Redis, server: RedisServer) -> None:
    first = await server.execute("CLIENT", "ID")
    with pytest.raises(RedisUnavailable):
        await server.execute("EVAL", "return redis.error_reply('READONLY demoted')", 0)
    assert await server.execute("CLIENT", "ID") != first


async def test_server_without_its_replicas_is_unavailable(server: RedisServer, config: Config) -> None:
    log = Log(server, 5000)
    record = record_of(id=new_generation_id())
    await log.create(record, REQUEST, "job")
    await log.acquire(record.id, "token", worker="w")
    await config("min-replicas-to-write", "1")
    with pytest.raises(RedisUnavailable, match="replicas"):
        await server.execute("SET", "key", "value")
    (result,) = await log.append([AppendBatch(record.id, 1, 0, [])])
    assert isinstance(result, RedisUnavailable)
    with pytest.raises(RedisUnavailable):
        await log.acquire(record.id, "another token", worker="w")


# Scripts


@pytest.mark.parametrize("way", ["execute", "execute_alone"])
async def test_unknown_script_is_sent_with_its_text(redis: Redis, server: RedisServer, way: str) -> None:
    command = scripts.TOUCH_PRESENCE.on(keys.of_generation(new_generation_id()))
    for _ in range(2):
        await redis.script_flush()
        assert await getattr(server, way)(*command) == [b"UNKNOWN"]
        assert await getattr(server, way)(*command) == [b"UNKNOWN"]


async def test_unknown_scripts_keep_their_places_in_a_batch(redis: Redis, server: RedisServer) -> None:
    await redis.script_flush()
    unknown = scripts.TOUCH_PRESENCE.on(keys.of_generation(new_generation_id()))
    missing = scripts.DELETE.on(keys.of_generation(new_generation_id()), "", 0)
    replies = await server.execute_many([("ECHO", "a"), unknown, ("ECHO", "b"), missing, unknown])
    assert replies == [b"a", [b"UNKNOWN"], b"b", [b"UNKNOWN"], [b"UNKNOWN"]]


# The server itself


def test_address_of_another_form_is_refused() -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_REDIS_URL"):
        RedisServer.connect("http://localhost")


async def test_clock_is_in_milliseconds(redis: Redis, server: RedisServer) -> None:
    seconds, _ = await redis.time()
    assert 1000 * seconds <= await server.now() < 1000 * seconds + 60_000


async def test_run_id_changes_with_every_start(embedded: EmbeddedServer) -> None:
    server = RedisServer.connect(embedded.url)
    runs = []
    for _ in range(2):
        run = await server.run()
        assert (await server.run()).run_id == run.run_id
        assert 0 <= run.age_s < 60
        runs.append(run.run_id)
        embedded.stop()
        embedded.start()
    assert len(set(runs)) == 2
    await server.close()


async def test_run_of_a_server_that_hides_info_is_infinitely_old(redis: Redis, valkey: EmbeddedServer) -> None:
    await redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pass", "~*", "&*", "+@all", "-info")
    server = RedisServer.connect(valkey.url.replace("//", "//limited:pass@"))
    assert await server.run() == ServerRun("", float("inf"))
    await server.close()
    await redis.execute_command("ACL", "DELUSER", "limited")


class Reporting(RedisServer):
    """A server that reports this of itself."""

    def __init__(self, info: dict[str, str], client: Redis) -> None:
        super().__init__(client)
        self.reported = info

    async def _info(self, *_: str) -> dict[str, str]:
        return self.reported


NEVER, ONCE = {"master_replid2": 40 * "0"}, {"master_replid2": 40 * "a"}
OLD = {"run_id": "x", "master_replid": "1", "uptime_in_seconds": "86400"}


async def test_run_is_as_old_as_a_server_that_was_never_promoted(redis: Redis) -> None:
    assert (await Reporting(OLD | NEVER, redis).run()).age_s >= 86400


async def test_run_of_a_promoted_replica_counts_from_when_this_process_saw_it(redis: Redis) -> None:
    """The replica has been up for days; no server reports since when it has been the primary."""
    assert (await Reporting(OLD | ONCE, redis).run()).age_s < 60


@pytest.mark.parametrize("changed", [{"run_id": "y"}, {"master_replid": "2"}])
async def test_run_that_changes_while_the_process_watches_counts_from_then(
    redis: Redis, changed: dict[str, str]
) -> None:
    """Also where a primary was demoted and promoted again: its run id is the old one."""
    server = Reporting(OLD | NEVER, redis)
    before = await server.run()
    server.reported |= changed | ONCE
    after = await server.run()
    assert after.run_id != before.run_id
    assert after.age_s < 60
    assert (await server.run()).run_id == after.run_id


async def test_memory_is_a_share_of_the_limit(server: RedisServer, config: Config) -> None:
    await config("maxmemory", "0")
    assert await server.memory_percent() == 0
    await config("maxmemory", str(1024**4))
    assert 0 < await server.memory_percent() < 1


@pytest.mark.parametrize(
    ("info", "percent"),
    [
        ({"maxmemory": "0", "used_memory": "10"}, 0),
        ({"maxmemory": "200", "used_memory": "50"}, 25),
        ({"maxmemory": "100", "used_memory": "130"}, 130),
        ({"used_memory": "10"}, 0),
    ],
)
async def test_memory_is_computed_from_the_report(redis: Redis, info: dict[str, str], percent: float) -> None:
    assert await Reporting(info, redis).memory_percent() == percent


# Fitness


async def test_problems_of_a_fit_server_are_none(fit: RedisServer) -> None:
    assert await fit.problems() == ([], [])


@pytest.mark.parametrize(
    ("name", "value", "wrong", "warnings"),
    [
        ("maxmemory-policy", "allkeys-lru", ["maxmemory-policy is allkeys-lru"], []),
        ("maxmemory-policy", "volatile-ttl", ["maxmemory-policy is volatile-ttl"], []),
        ("appendonly", "no", [], ["appendonly is off"]),
        ("maxmemory", "0", [], ["maxmemory is 0"]),
    ],
)
async def test_problems_name_a_wrong_option(
    fit: RedisServer, config: Config, name: str, value: str, wrong: list[str], warnings: list[str]
) -> None:
    await config(name, value)
    found = await fit.problems()
    assert [[each.partition(":")[0] for each in part] for part in found] == [wrong, warnings]


async def test_problems_checked_concurrently_leave_nothing_behind(redis: Redis, fit: RedisServer) -> None:
    assert await asyncio.gather(*(fit.problems() for _ in range(20))) == [([], [])] * 20
    assert await redis.dbsize() == 0


async def test_problems_do_not_include_a_full_memory(server: RedisServer, config: Config) -> None:
    await config("maxmemory", "1")
    assert await server.problems() == ([], [])


@pytest.mark.parametrize("way", WAYS)
async def test_script_needs_no_permission_to_load_it(redis: Redis, limited: Limited, way: str) -> None:
    """A server that does not know a script is sent its text with the call, by EVAL."""
    server = await limited("-script")
    await redis.script_flush()
    assert (await server.problems())[0] == []
    missing = scripts.READ_DONE.on(keys.of_generation(new_generation_id()))
    for _ in range(2):
        assert await getattr(server, way)(*missing) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lacking", ["-eval", "-evalsha"])
async def test_script_without_a_permission_is_refused_and_sent_at_most_twice(
    redis: Redis, limited: Limited, way: str, lacking: str
) -> None:
    server = await limited(lacking)
    await redis.script_flush()
    await redis.config_resetstat()
    with pytest.raises(RedisRefused, match="permission"):
        await getattr(server, way)(*scripts.DELETE.on(keys.of_generation(new_generation_id())))
    calls = await redis.info("commandstats")
    assert sum(calls.get(f"cmdstat_{each}", {}).get("rejected_calls", 0) for each in ("eval", "evalsha")) == 1


async def test_errors_have_the_servers_message_in_logs_and_ours_for_clients(server: RedisServer) -> None:
    with pytest.raises(RedisRefused) as refused:
        await server.execute("EVAL", "return redis.error_reply('secret words')", 0)
    assert str(refused.value) == "secret words"
    error: Any = refused.value.as_json()
    assert "secret" not in str(error)
