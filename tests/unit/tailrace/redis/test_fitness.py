"""What a server lacks is found by doing, whatever it reports as its version, and nothing of the check stays."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from support.refusing_server import (
    Refusal,
    RefusingServer,
    failing_in,
    refusing_server,
    without_commands,
    without_flag,
    without_flags,
)
from tailrace import scripts
from tailrace.errors import RedisUnavailable
from tailrace.redis import fitness
from tailrace.redis.check_steps import Names, Uses, steps_of
from tailrace.redis.fitness import name_of
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

SOURCES = Path(__file__).parents[4] / "shared" / "tailrace"
Limited = Callable[[str], Awaitable[RedisServer]]
Lacking = Callable[[Refusal], Awaitable[tuple[RedisServer, RefusingServer]]]


@pytest.fixture
async def lacking(valkey: EmbeddedServer, fit: RedisServer) -> AsyncIterator[Lacking]:
    """Of what a server refuses: that server, as this process and as the test see it."""
    async with AsyncExitStack() as stack:

        async def start(refusal: Refusal) -> tuple[RedisServer, RefusingServer]:
            proxy = await stack.enter_async_context(refusing_server(valkey.port, refusal))
            server = RedisServer.connect(proxy.url)
            stack.push_async_callback(server.close)
            return server, proxy

        yield start


def commands_of(uses: Uses) -> set[str]:
    return {step.name for step in steps_of(uses, Names("check", "x"), "")}


BESIDE_STEPS = {"INFO", "SSUBSCRIBE", "SUNSUBSCRIBE", "PING"}

# The steps


def test_steps_run_every_script_once() -> None:
    tried = [step.script.name for step in steps_of(Uses.BOTH, Names("check", "x"), "") if step.script]
    assert set(tried) == {path.stem for path in (SOURCES / "lua").glob("*.lua")}
    assert {name for name in tried if tried.count(name) > 1} == {"create", "take"}  # both of their ways


def test_steps_send_every_command_of_scripts_and_modules() -> None:
    in_scripts = {
        name
        for path in (SOURCES / "lua").rglob("*.lua")
        for name in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", path.read_text())
    }
    sent = re.compile(
        r'(?:execute\w*|read_page|read_bulk)\(\s*\(?\s*"([A-Z]+)"|^\s*(?:return |yield )?\(?\("([A-Z]+)",', re.MULTILINE
    )
    packages = (
        SOURCES,
        SOURCES.parents[1] / "services" / "tailrace_frontend",
        SOURCES.parents[1] / "services" / "tailrace_worker",
    )
    in_modules = {
        name
        for package in packages
        for path in package.rglob("*.py")
        if path.name != "check_steps.py"
        for names in sent.findall(path.read_text())
        for name in names
        if name
    } - {"BUSY", "POST", "DELETE"}
    assert len(in_scripts) > 30
    assert len(in_modules) > 20
    assert in_scripts | in_modules <= commands_of(Uses.BOTH) | {"INFO", "PING"}


def test_steps_of_a_queue_need_no_streams_and_those_of_a_log_no_queue() -> None:
    assert not {"XADD", "XREAD"} & commands_of(Uses.QUEUE)
    scripts_of = {uses: {step.script for step in steps_of(uses, Names("a", "b"), "") if step.script} for uses in Uses}
    assert not scripts_of[Uses.LOG] & scripts_of[Uses.QUEUE]


def test_keys_of_steps_share_a_tag_and_are_all_deleted() -> None:
    steps = steps_of(Uses.BOTH, Names("some tag", "token"), "")
    first, last = steps[0].command, steps[-1].command
    assert first == last
    used = {part for step in steps[1:-1] for part in step.command if isinstance(part, str) and "{some tag}" in part}
    assert all("{some tag}:token:" in key for key in used)
    assert used - set(first) == {"tailrace:{some tag}:token:channel"}


# A server that has everything


async def test_check_of_a_fit_server_finds_nothing_and_leaves_nothing(redis: Redis, fit: RedisServer) -> None:
    for uses in (Uses.LOG, Uses.QUEUE, Uses.BOTH):
        assert await fit.problems(uses) == ([], [])
    assert await redis.dbsize() == 0
    assert await redis.execute_command("PUBSUB", "SHARDCHANNELS") == []


async def test_checks_of_many_processes_do_not_disturb_each_other(
    redis: Redis, valkey: EmbeddedServer, fit: RedisServer
) -> None:
    servers = [RedisServer.connect(valkey.url) for _ in range(20)]
    assert await asyncio.gather(*(server.problems() for server in servers)) == [([], [])] * 20
    assert await redis.dbsize() == 0
    for server in servers:
        await server.close()


async def test_check_knows_scripts_that_the_server_has_forgotten(redis: Redis, fit: RedisServer) -> None:
    await redis.script_flush()
    assert await fit.problems() == ([], [])


async def test_check_deletes_what_one_that_was_cut_has_left(redis: Redis, fit: RedisServer) -> None:
    names = Names("check", fit._fitness._token)
    for step in steps_of(Uses.BOTH, names, "")[:-1]:
        if step.script is None and step.name not in ("MULTI", "EXEC"):
            await redis.execute_command(*step.command)
    assert await redis.dbsize() > 5
    assert await fit.problems() == ([], [])
    assert await redis.dbsize() == 0


async def test_check_of_a_full_server_finds_nothing(fit: RedisServer, redis: Redis) -> None:
    await redis.config_set("maxmemory", 1)
    assert await fit.problems() == ([], [])


async def test_check_uses_the_tag_of_a_slot(lacking: Lacking) -> None:
    seen: list[bytes] = []

    def watch(command: list[bytes]) -> str:
        seen.extend(part for part in command if part.startswith((b"tailrace:", b"arq:")))
        return ""

    server, _ = await lacking(watch)
    assert await server.problems(Uses.LOG, "slot 7") == ([], [])
    assert len(seen) > 100
    assert all(b"{slot 7}" in key for key in seen)


# A server that lacks something

FLAGS = "takes no flags of scripts"


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (without_commands("SPUBLISH", "SSUBSCRIBE"), ["has no sharded pub/sub (SPUBLISH): by it readers receive"]),
        (without_commands("SSUBSCRIBE"), ["has no sharded pub/sub (SSUBSCRIBE, SUNSUBSCRIBE): by it readers receive"]),
        (without_commands("XADD", "XRANGE"), ["has no streams (XADD, XRANGE): every log is one"]),
        (without_commands("EVALSHA"), ["has no scripts (EVALSHA): by them every step is one change"]),
        (without_commands("ZMSCORE", "HSTRLEN"), ["has no HSTRLEN, ZMSCORE"]),
        (without_commands("XADD", "SPUBLISH"), ["has no streams (XADD)", "has no sharded pub/sub (SPUBLISH)"]),
        (without_flags, [f"{FLAGS} (#!lua): by them a server without room still ends what runs"]),
        (without_flag, [f"{FLAGS} (#!lua flags=allow-oom): by them a server without room still ends what runs"]),
        (failing_in(scripts.FINISH, "ERR no cjson"), ["fails in the script finish: no cjson"]),
        (failing_in(scripts.TAKE, "ERR 1 script: 0123, on @user_script:7."), ["fails in the script take: 1"]),
    ],
)  # fmt: skip
async def test_problems_name_what_a_server_lacks(lacking: Lacking, refusal: Refusal, expected: list[str]) -> None:
    server, _ = await lacking(refusal)
    wrong, warnings = await server.problems()
    assert [each.startswith("Valkey 9.") for each in wrong] == [True] * len(expected), wrong
    assert all(part in each for part, each in zip(expected, wrong, strict=True)), wrong
    assert warnings == []


async def test_problems_name_a_script_whose_answer_is_wrong(lacking: Lacking, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(script: scripts.Script, answer: str) -> Refusal:
        def refusal(command: list[bytes]) -> str:
            if command[0] == b"EVALSHA" and command[1].decode() == script.sha:
                command[:] = [b"EVAL", f"return {{'{answer}'}}".encode(), *command[2:]]
            return ""

        return refusal

    server, _ = await lacking(other(scripts.RENEW, "FENCED"))
    ((wrong,), _) = await server.problems()
    assert wrong.endswith("fails in the script renew: it answers FENCED where OK is right")


async def test_problems_name_pubsub_that_is_not_delivered(lacking: Lacking, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy that passes commands, and no messages."""
    monkeypatch.setattr(fitness, "RECEIVED_S", 0.2)
    server, proxy = await lacking(lambda _: "")
    proxy.deaf = True
    ((wrong,), _) = await server.problems()
    assert "does not deliver sharded pub/sub" in wrong


async def test_queue_may_be_on_a_server_without_streams(lacking: Lacking) -> None:
    server, _ = await lacking(without_commands("XADD", "XRANGE", "XREVRANGE", "XREAD", "XLEN"))
    assert await server.problems(Uses.QUEUE) == ([], [])
    assert len((await server.problems(Uses.LOG))[0]) == 1


async def test_check_that_loses_its_connection_is_repeated(lacking: Lacking, redis: Redis) -> None:
    lost = 0

    def cut(command: list[bytes]) -> str:
        nonlocal lost
        if command[0] == b"BITFIELD" and not lost:
            lost += 1
            raise ConnectionResetError
        return ""

    server, _ = await lacking(cut)
    assert await server.problems() == ([], [])
    assert lost == 1
    assert await redis.dbsize() == 0


async def test_server_that_is_busy_is_not_unfit(lacking: Lacking) -> None:
    for code in ("BUSY", "LOADING", "MISCONF", "TRYAGAIN"):
        server, _ = await lacking(lambda command, code=code: f"{code} later" if command[0] == b"ZCARD" else "")  # type: ignore[misc]
        with pytest.raises(RedisUnavailable):
            await server.problems()


# A user with fewer permissions


@pytest.mark.parametrize(
    "lacking",
    [
        "-xadd", "-xrange", "-eval", "-evalsha", "-info", "-spublish", "-ssubscribe", "-sunsubscribe",
        "-zmscore", "-bitfield", "-multi", "-dbsize", "resetchannels", "resetkeys",
    ],
)  # fmt: skip
async def test_problems_name_a_missing_permission(limited: Limited, fit: RedisServer, lacking: str) -> None:
    wrong, warnings = await (await limited(lacking)).problems()
    assert wrong
    assert all(each.startswith("this Redis user lacks a permission that Tailrace needs: ") for each in wrong), wrong
    if lacking.startswith("-"):
        assert lacking[1:] in wrong[0]
    assert warnings == []


async def test_problems_name_every_command_that_a_user_may_not_send(limited: Limited, fit: RedisServer) -> None:
    (server, commands) = await limited("-@sortedset"), ("zadd", "zscore", "zpopmin", "zrangebyscore")
    wrong, _ = await server.problems()
    assert all(any(f"'{command}'" in each for each in wrong) for command in commands)


async def test_user_with_the_documented_permissions_lacks_nothing(
    redis: Redis, limited: Limited, fit: RedisServer
) -> None:
    server = await limited("resetchannels")
    await redis.execute_command(
        "ACL", "SETUSER", "limited", "resetkeys", "~tailrace:*", "~arq:*", "&tailrace:*", "-@all",
        *(f"+{command.lower()}" for command in commands_of(Uses.BOTH) | BESIDE_STEPS),
    )  # fmt: skip
    assert await server.problems() == ([], [])


async def test_transaction_that_cannot_end_stays_on_the_connection_of_the_check(
    limited: Limited, fit: RedisServer
) -> None:
    server = await limited("-exec")
    assert "'exec'" in (await server.problems())[0][0]
    for _ in range(3):
        assert await server.execute_alone("GET", "x") is None
        assert await server.execute("GET", "x") is None


async def test_server_that_runs_no_script_lacks_no_flags(lacking: Lacking) -> None:
    server, _ = await lacking(lambda command: "ERR scripting is off" if command[0].startswith(b"EVAL") else "")
    ((wrong,), _) = await server.problems()
    assert wrong.endswith(" refuses EVAL: scripting is off")


# How often


async def test_calls_at_the_same_time_share_a_check(lacking: Lacking, fit: RedisServer) -> None:
    assert await fit.problems() == ([], [])  # the server knows every script now
    server, proxy = await lacking(lambda _: "")
    assert await asyncio.gather(*(server.problems() for _ in range(5))) == [([], [])] * 5
    assert proxy.seen.count("BITFIELD") == 1


async def test_check_is_kept_for_a_while_and_repeated_sooner_where_something_is_missing(
    lacking: Lacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = await lacking(lambda _: "")
    assert await server.problems() == ([], [])
    checks = proxy.seen.count("BITFIELD")
    assert checks > 0
    proxy.refusal = without_commands("XADD")
    for _ in range(3):
        assert await server.problems() == ([], [])
    assert proxy.seen.count("BITFIELD") == checks
    monkeypatch.setattr(server._fitness, "_known", {})
    monkeypatch.setattr(fitness, "UNFIT_S", 0.0)
    assert len((await server.problems())[0]) == 1
    proxy.refusal = lambda _: ""
    assert await server.problems() == ([], [])


async def test_another_server_at_the_address_is_checked_at_once(
    lacking: Lacking, embedded: EmbeddedServer, fit: RedisServer
) -> None:
    server, proxy = await lacking(lambda _: "")
    assert await server.problems() == ([], [])
    proxy.refusal = without_commands("XADD")
    proxy._target = embedded.port
    server._pipeline.reset()
    assert "has no streams" in (await server.problems())[0][0]


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2", "server_name": "valkey"}, "Valkey 9.1.2"),
        ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.28.1"}, "Dragonfly 1.28.1"),
        ({"redis_version": "7.0.15"}, "Redis 7.0.15"),
        ({}, "the server"),
    ],
)
def test_server_is_named_as_it_names_itself(info: dict[str, str], name: str) -> None:
    assert name_of(info) == name
