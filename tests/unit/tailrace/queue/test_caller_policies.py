"""Limits of callers that change at run time, on the embedded server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.api import eventually
from tailrace import keys
from tailrace.errors import InvalidBody, InvalidValue, RedisUnavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Budgets, CallerLimits, CallerPolicies, CallerPolicy
from tailrace.queue import caller_policies as module
from tailrace.queue.caller_policies import NO_POLICY, SETTINGS, check_caller, parse_policy
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace_cli.embedded import EmbeddedServer

SET = Settings(max_readers_per_caller=7, max_tokens_per_minute_per_caller=50, budget_day_usd_per_caller=0.25)


@pytest.fixture
def policies(redis: Redis) -> CallerPolicies:
    return CallerPolicies(RedisServer(redis), SET)


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[CallerPolicies]:
    """The policies of another process."""
    server = RedisServer.connect(url)
    subscriber = server.subscriber()
    policies = CallerPolicies(server, SET)
    subscriber.start()
    policies.listen(subscriber)
    task = asyncio.create_task(policies.run())
    try:
        await eventually(lambda: _is(subscriber.connected))
        yield policies
    finally:
        await cancel_and_wait(task)
        await subscriber.close()
        await server.close()


async def _is(value: bool) -> bool:
    return value


async def test_settings_hold_for_a_caller_without_a_policy(policies: CallerPolicies) -> None:
    limits = policies.of("anna")
    assert limits == CallerLimits.of(SET)
    assert (limits.max_readers, limits.tokens_per_minute, limits.models) == (7, 50, None)
    assert limits.budgets == Budgets(0, 250_000_000)


async def test_policy_changes_what_it_names_and_no_more(policies: CallerPolicies) -> None:
    await policies.put("anna", CallerPolicy(max_readers=9, tokens_per_minute=0, models=["demo"]))
    limits = policies.of("anna")
    assert (limits.max_readers, limits.tokens_per_minute, limits.models) == (9, 0, ["demo"])
    assert limits.requests_per_minute == SET.max_requests_per_minute_per_caller
    assert policies.of("berta") == CallerLimits.of(SET)
    await policies.patch("anna", {"tokens_per_minute": 10, "max_readers": None})
    assert policies.policy("anna") == CallerPolicy(tokens_per_minute=10, models=["demo"])
    await policies.remove("anna")
    assert (policies.of("anna"), policies.all) == (CallerLimits.of(SET), {})


async def test_changes_at_the_same_time_are_all_kept(redis: Redis) -> None:
    several = [CallerPolicies(RedisServer(redis), SET) for _ in range(5)]
    fields: Any = ("max_readers", "max_running", "tokens_per_minute", "max_unfinished", "requests_per_minute")
    await asyncio.gather(*(each.patch("anna", {name: 3}) for each, name in zip(several, fields, strict=True)))
    await policies_read(several[0])
    assert several[0].policy("anna") == parse_policy(dict.fromkeys(fields, 3))


async def policies_read(policies: CallerPolicies) -> None:
    await policies.refresh()


async def test_change_holds_in_other_processes_without_waiting_for_the_next_reading(
    valkey: EmbeddedServer, policies: CallerPolicies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD_S", 600)
    changes: list[frozenset[str]] = []
    async with listening(valkey.url) as other:
        other.on_change.append(changes.append)
        await policies.put("anna", CallerPolicy(max_readers=3))
        await eventually(lambda: _is(other.of("anna").max_readers == 3))
        await policies.remove("anna")
        await eventually(lambda: _is(other.of("anna").max_readers == 7))
    assert changes == [{"anna"}, {"anna"}]


async def test_change_whose_message_is_lost_holds_after_the_next_reading(
    valkey: EmbeddedServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD_S", 0.05)
    async with listening(valkey.url) as other:
        await redis.hset(keys.CALLERS, mapping={"anna": '{"max_readers":3}', "": "1"})  # type: ignore[misc]
        await eventually(lambda: _is(other.of("anna").max_readers == 3))


async def test_what_was_read_last_stays_while_the_server_is_away_and_what_it_keeps_holds_after_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD_S", 0.05)
    server = EmbeddedServer(tmp_path)
    server.start()
    async with listening(server.url) as other:
        writer = RedisServer.connect(server.url)
        await CallerPolicies(writer, SET).put("anna", CallerPolicy(max_readers=3))
        await eventually(lambda: _is(other.of("anna").max_readers == 3))
        server.stop()
        with pytest.raises(RedisUnavailable):
            await other.refresh()
        assert other.of("anna").max_readers == 3
        server.start()
        fresh = CallerPolicies(writer, SET)
        await fresh.refresh()
        assert fresh.of("anna").max_readers == other.of("anna").max_readers == 3
        await fresh.put("anna", CallerPolicy(max_readers=4))
        await eventually(lambda: _is(other.of("anna").max_readers == 4))
        await writer.close()
        server.stop()


async def test_unchanged_policies_are_not_read_again(policies: CallerPolicies, monkeypatch: pytest.MonkeyPatch) -> None:
    await policies.put("anna", CallerPolicy(max_readers=3))
    commands: list[Any] = []
    execute = policies._server.execute

    async def noted(*command: Any) -> Any:
        commands.append(command)
        return await execute(*command)

    monkeypatch.setattr(policies._server, "execute", noted)
    for _ in range(3):
        await policies.refresh()
    assert [command[0] for command in commands] == ["HGET"] * 3


async def test_policy_of_a_later_version_leaves_the_one_before(
    policies: CallerPolicies, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await policies.put("anna", CallerPolicy(max_readers=3))
    await redis.hset(keys.CALLERS, mapping={"anna": '{"max_dreams":3}', "": "x"})  # type: ignore[misc]
    await policies.refresh()
    assert policies.of("anna").max_readers == 3
    assert "the policy of anna cannot be read" in caplog.text


async def test_policy_that_changes_nothing_is_none(policies: CallerPolicies, redis: Redis) -> None:
    await policies.put("anna", NO_POLICY)
    assert await redis.hkeys(keys.CALLERS) == [b""]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"max_dreams": 1}, "max_dreams"),
        ({"max_readers": 0}, "max_readers"),
        ({"max_readers": "9"}, "max_readers"),
        ({"max_readers": 10**400}, "max_readers"),
        ({"max_unfinished": 10**400}, "max_unfinished"),
        ({"max_stored_bytes": 2**53 + 1}, "max_stored_bytes"),
        ({"weight": 0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"budget_day_usd": 1e9}, "budget_day_usd"),
        ({"models": "demo"}, "models"),
        ({"requests_per_minute": 1.5}, "requests_per_minute"),
    ],
)
def test_policy_that_is_none_is_refused_and_the_field_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse_policy(given)
    assert raised.value.param == param


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "a" * 65, "a\n"])
def test_name_that_no_caller_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidBody):
        check_caller(name)


def test_every_limit_has_a_setting_as_its_default() -> None:
    others = {"weight", "max_running", "models"}
    assert set(SETTINGS) | others == set(CallerPolicy.__struct_fields__)
    assert set(SETTINGS.values()) <= set(Settings.model_fields)
