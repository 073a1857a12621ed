"""Who may use the installation, as it is changed at run time: keys, blocked callers, revoked tickets and tokens.

One hash on the log's server has all of it, one field each, with a version. A change is
published, and every frontend reads the hash again. The keys of the settings are not in it; one of them that is revoked
is, as a revocation.

    key:<id>          a key (`KeyRecord`, JSON): its digest, never itself
    block:<caller>    a blocked caller (`Block`, JSON)
    revoked:<grant>   the time (epoch seconds) until which the revocation matters
    version           the time of the last change: another one after each

A *grant* is what a request shows: the SHA-256 of a key, token or ticket in hexadecimal digits, or the id of a share.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.redis.server import RedisServer

MAX_KEYS = 5000
"""Run-time keys. Each change makes every frontend read all of them: 10,000 took 100 ms, beside other work."""

EXPIRED_KEYS_S = 30 * 24 * 3600
"""A key stays for so long after its expiry: a share that it has made may last as long, and ends with its revocation."""

VERSION = "version"
KEY = "key:"
BLOCK = "block:"
REVOKED = "revoked:"


class KeyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key that was created at run time. Times in epoch seconds. `hint`: its first and last characters. `lifetime`:
    the seconds for which it was created (0: for ever), also if a rotation ends it earlier; None in old records."""

    id: str
    owner: str
    digest: str
    hint: str
    scopes: list[str]
    created: int
    created_by: str
    expires: int | None = None
    name: str = ""
    lifetime: int | None = None

    @property
    def lifetime_s(self) -> int:
        """For how long another key in its place is valid; 0: for ever."""
        if self.lifetime is not None:
            return self.lifetime
        return 0 if self.expires is None else self.expires - self.created


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """A caller that is refused. `at` in epoch seconds."""

    at: int
    by: str
    reason: str = ""


class AccessState(NamedTuple):
    """Everything at one version. `revoked`: grants, and until when the revocation matters."""

    version: int
    keys: dict[str, KeyRecord]
    blocked: dict[str, Block]
    revoked: dict[str, float]


decode_key = msgspec.json.Decoder(KeyRecord).decode

NOTHING = AccessState(0, {}, {}, {})


class Change(NamedTuple):
    """A field and its value; an empty value removes it. `expected`: what it has now; empty: whatever it has."""

    field: str
    value: bytes
    expected: bytes = b""


class AccessStore:
    """The hash on the log's server.

    Raises, in every method:
        RedisUnavailable, RedisRefused.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def version(self) -> int:
        """The version now; 0: nothing was ever changed. It is asked once: the next check asks again."""
        (reply,) = await self._server.execute_many([("HGET", keys.ACCESS, VERSION)], retries=0)
        if isinstance(reply, Exception):
            raise reply
        return int(reply or 0)

    async def stored_key(self, key_id: str) -> bytes:
        """A key as it is stored; empty where there is none of this id."""
        return bytes(await self._server.execute("HGET", keys.ACCESS, KEY + key_id) or b"")

    async def load(self) -> AccessState:
        """All of it."""
        reply = await self._server.execute_alone("HGETALL", keys.ACCESS)
        return _state_of(dict(zip(map(bytes.decode, reply[::2]), reply[1::2], strict=True)))

    async def change(self, *changes: Change) -> int:
        """Make the changes at once, and publish that there are some: the new version. 0: a field has not the value that
        a change expects, and nothing was changed.

        Raises:
            RedisFull: the server has no room.
        """
        flat = [part for change in changes for part in (change.field, change.value, change.expected)]
        return int(await self._server.execute(*scripts.CHANGE_ACCESS.on([keys.ACCESS, keys.ACCESS_CHANGED], *flat)))

    async def note_used(self, times: Mapping[str, int]) -> None:
        """Store when keys were used last: epoch seconds by the key's id."""
        if times:
            await self._server.execute("HSET", keys.ACCESS_USED, *(part for each in times.items() for part in each))

    async def used(self) -> dict[str, int]:
        """When the keys were used last."""
        reply = await self._server.execute_alone("HGETALL", keys.ACCESS_USED)
        return {reply[i].decode(): int(reply[i + 1]) for i in range(0, len(reply), 2)}

    async def forget_used(self, *key_ids: str) -> None:
        """Remove what is known of the use of keys."""
        if key_ids:
            await self._server.execute("HDEL", keys.ACCESS_USED, *key_ids)

    async def remove_expired(self, state: AccessState) -> None:
        """Remove what matters no longer: old revocations, and keys that have expired `EXPIRED_KEYS_S` ago."""
        now = time.time()
        old = [
            each.id for each in state.keys.values() if each.expires is not None and each.expires + EXPIRED_KEYS_S < now
        ]
        over = [grant for grant, until in state.revoked.items() if until < now]
        if old or over:
            await self.change(*map(key_removed, old), *(Change(REVOKED + grant, b"") for grant in over))
            await self.forget_used(*old)


def key_added(record: KeyRecord, before: bytes = b"") -> Change:
    """The change that adds a key, or replaces the one with its id. `before`: as that one must be stored now."""
    return Change(KEY + record.id, msgspec.json.encode(record), before)


def key_removed(key_id: str) -> Change:
    """The change that removes a key."""
    return Change(KEY + key_id, b"")


def blocked(caller: str, block: Block | None) -> Change:
    """The change that blocks a caller; None: that ends its block."""
    return Change(BLOCK + caller, b"" if block is None else msgspec.json.encode(block))


def revoked(grant: str, until: float = inf) -> Change:
    """The change that revokes a grant. `until` (epoch seconds): it would be refused from then on anyway."""
    return Change(REVOKED + grant, b"%d" % until if until < inf else b"inf")


def _state_of(fields: Mapping[str, bytes]) -> AccessState:
    """The state in these fields. What another release wrote and this one cannot decode allows nothing: a key is left
    out, a block and a revocation hold."""
    state = AccessState(int(fields.get(VERSION, 0)), {}, {}, {})
    for field, value in fields.items():
        kind, _, name = field.partition(":")
        if kind == "key":
            with suppress(msgspec.DecodeError):
                state.keys[name] = decode_key(value)
        elif kind == "block":
            state.blocked[name] = _block_of(value)
        elif kind == "revoked":
            state.revoked[name] = float(value)
    return state


def _block_of(value: bytes) -> Block:
    try:
        return msgspec.json.decode(value, type=Block)
    except msgspec.DecodeError:
        return Block(0, "")
