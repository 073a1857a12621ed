"""The audit, on a real server."""

import logging

import pytest
from redis.asyncio import Redis

from tailrace import audit, keys
from tailrace.audit import OK, Audit, Line
from tailrace.redis.server import RedisServer

DELETED = Line("ops", "revoke_key", "key_1", OK, "10.0.0.1")
SEEN = Line("ops", "list_keys", "", OK, "10.0.0.1")


async def lines(of: Audit) -> list[tuple[Line, int]]:
    return [(entry.line, entry.repeated) for entry in reversed(await of.newest(100))]


async def test_acts_are_all_recorded_in_order(redis: Redis) -> None:
    of = Audit(RedisServer(redis))
    for _ in range(3):
        await of.record(*DELETED)
    assert await lines(of) == [(DELETED, 0)] * 3


async def test_equal_reads_are_one_entry_and_the_next_one_has_their_number(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Audit(RedisServer(redis))
    for _ in range(5):
        await of.record(*SEEN, is_read=True)
    await of.record(*SEEN._replace(who="eve"), is_read=True)
    monkeypatch.setattr(audit, "REPEATED_S", -1.0)
    await of.record(*SEEN, is_read=True)
    assert await lines(of) == [(SEEN, 0), (SEEN._replace(who="eve"), 0), (SEEN, 4)]


async def test_refusals_of_other_targets_are_one_entry(redis: Redis) -> None:
    of = Audit(RedisServer(redis))
    for number in range(100):
        await of.record("", "revoke_key", f"key_{number}", "invalid_api_key", "10.0.0.9")
    assert await lines(of) == [(Line("", "revoke_key", "key_0", "invalid_api_key", "10.0.0.9"), 0)]


async def test_pages_go_back_and_followers_forward(redis: Redis) -> None:
    of = Audit(RedisServer(redis))
    for number in range(5):
        await of.record(*DELETED._replace(target=str(number)))
    newest = await of.newest(2)
    assert [entry.line.target for entry in newest] == ["4", "3"]
    assert [entry.line.target for entry in await of.newest(9, newest[-1].id)] == ["2", "1", "0"]
    assert [entry.line.target for entry in await of.following(9, newest[-1].id)] == ["4"]
    assert await of.following(9, newest[0].id) == []


async def test_line_is_one_line_of_bounded_length(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    of = Audit(RedisServer(redis))
    await of.record("ops", "revoke_key", "a\nfake line\x1b[31m\ud800" + "x" * 9999, OK, "")
    ((line, _),) = await lines(of)
    assert line.target.startswith("a\N{REPLACEMENT CHARACTER}fake line")
    assert len(line.target) == audit.MAX_CHARACTERS
    assert "\n" not in caplog.messages[0]


async def test_stream_stays_bounded(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 10)
    of = Audit(RedisServer(redis))
    for _ in range(500):
        await of.record(*DELETED)
    assert await redis.xlen(keys.AUDIT) < 500


async def test_reads_and_refusals_remove_no_act(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 10)
    monkeypatch.setattr(audit, "REPEATED_S", -1.0)
    of = Audit(RedisServer(redis))
    acts = [DELETED._replace(target=str(number)) for number in range(3)]
    for number in range(900):
        if number % 300 == 0:
            await of.record(*acts[number // 300])
        await of.record(*SEEN, is_read=True)
        await of.record(*DELETED._replace(outcome="insufficient_scope"))
    everything = await of.following(1000, "0-0")
    assert len(everything) < 1800
    assert [
        entry.line for entry in everything if entry.line.action == "revoke_key" and entry.line.outcome == OK
    ] == acts
    ids = [entry.id for entry in everything]
    assert ids == [entry.id for entry in reversed(await of.newest(1000))]
    assert await paged(of, 7) == ids
    assert (await of.newest(1))[0].id == await of.end() == ids[-1]


async def paged(of: Audit, limit: int) -> list[str]:
    """The ids of all entries, by pages forward."""
    found: list[str] = []
    while page := await of.following(limit, found[-1] if found else "0-0"):
        found += [entry.id for entry in page]
    return found


async def test_act_is_not_refused_while_the_audit_is_away(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.redis.connection.CLIENT_RETRIES", 0)
    caplog.set_level(logging.INFO)
    server = RedisServer.connect("redis://127.0.0.1:1/0")
    await Audit(server).record(*DELETED)
    assert "ops revoke_key key_1: ok from 10.0.0.1" in caplog.text
    assert "is not in Redis" in caplog.text
    await server.close()
