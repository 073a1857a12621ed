"""What is stored of keys, blocks and revocations, on a real server."""

import time

from msgspec.structs import replace
from redis.asyncio import Redis

from tailrace.access import (
    EXPIRED_KEYS_S,
    VERSION,
    AccessStore,
    Block,
    Change,
    KeyRecord,
    blocked,
    key_added,
    key_removed,
    revoked,
)
from tailrace.redis.server import RedisServer
from tailrace.shares import MAX_SHARE_S

KEY = KeyRecord("key_1", "zoe", "ab" * 32, "tr_abcd…efgh", ["read"], 1, "ops")


async def test_state_is_what_the_changes_made_of_it(redis: Redis) -> None:
    store = AccessStore(RedisServer(redis))
    assert await store.version() == 0
    first = await store.change(key_added(KEY), blocked("eve", Block(2, "ops", "unpaid")), revoked("aa", 3))
    second = await store.change(revoked("bb"), revoked("cc", 2**40))
    state = await store.load()
    assert state.version == await store.version() == second > first > 0
    assert state.keys == {"key_1": KEY}
    assert state.blocked == {"eve": Block(2, "ops", "unpaid")}
    assert state.revoked == {"aa": 3.0, "bb": float("inf"), "cc": float(2**40)}
    await store.change(key_removed("key_1"), blocked("eve", None))
    await store.remove_expired(state)
    state = await store.load()
    assert (state.keys, state.blocked, set(state.revoked)) == ({}, {}, {"bb", "cc"})


async def test_key_leaves_some_time_after_its_expiry(redis: Redis) -> None:
    store, now = AccessStore(RedisServer(redis)), int(time.time())
    ends = {"key_old": now - EXPIRED_KEYS_S - 1, "key_ended": now - EXPIRED_KEYS_S + 60, "key_new": now + 60}
    await store.change(*(key_added(replace(KEY, id=each, expires=at)) for each, at in ends.items()), key_added(KEY))
    await store.note_used(dict.fromkeys(ends, 5))
    await store.remove_expired(await store.load())
    assert EXPIRED_KEYS_S >= MAX_SHARE_S, "its shares can be ended by its revocation"
    assert set((await store.load()).keys) == {"key_ended", "key_new", "key_1"}
    assert set(await store.used()) == {"key_ended", "key_new"}
    version = await store.version()
    await store.remove_expired(await store.load())
    assert await store.version() == version, "nothing to remove is no change"


async def test_version_rises_although_the_clock_of_the_server_went_back(redis: Redis) -> None:
    store = AccessStore(RedisServer(redis))
    await store.change(Change(VERSION, b"%d" % 2**52))
    assert await store.change(revoked("aa")) == 2**52 + 2


async def test_what_cannot_be_decoded_allows_nothing(redis: Redis) -> None:
    store = AccessStore(RedisServer(redis))
    await store.change(Change("key:a", b"{}"), Change("block:eve", b"?"), Change("new:field", b"?"))
    state = await store.load()
    assert state.keys == {}
    assert set(state.blocked) == {"eve"}


async def test_last_use_is_kept_by_key(redis: Redis) -> None:
    store = AccessStore(RedisServer(redis))
    await store.note_used({})
    await store.note_used({"key_1": 5, "key_2": 6})
    await store.forget_used("key_2")
    assert await store.used() == {"key_1": 5}


async def test_change_expects_what_it_has_read(redis: Redis) -> None:
    store = AccessStore(RedisServer(redis))
    await store.change(key_added(KEY))
    stored = await store.stored_key(KEY.id)
    renamed = key_added(replace(KEY, name="later"), before=stored)
    version = await store.change(renamed, blocked("eve", Block(2, "ops")))
    assert version
    assert await store.change(renamed) > version, "a repeated call, after a lost reply"
    other = key_added(replace(KEY, name="other"), before=stored)
    assert await store.change(blocked("eve", None), other) == 0
    state = await store.load()
    assert (state.keys[KEY.id].name, list(state.blocked)) == ("later", ["eve"])
    await store.change(key_removed(KEY.id))
    assert await store.change(renamed) == 0
    assert (await store.stored_key(KEY.id), (await store.load()).keys) == (b"", {})
