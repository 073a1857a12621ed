"""Keys of run time, blocked callers and revocations, as an operator changes them.

A key is 256 random bits, so its SHA-256 cannot be inverted by guessing, and is stored alone. The key itself is shown
once. It is rotated by another key with the same caller, scopes and lifetime; the old one stays valid for a while.
"""

import secrets
import time
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import msgspec

from tailrace.access import (
    MAX_KEYS,
    AccessState,
    Block,
    Change,
    KeyRecord,
    blocked,
    key_added,
    key_removed,
    revoked,
)
from tailrace.errors import InvalidRequest, NotFound, Unauthenticated
from tailrace.ids import new_id
from tailrace.scopes import Scopes, names_of
from tailrace_frontend.api_keys import ApiKey, digest_of
from tailrace_frontend.callers import Callers, grant_of
from tailrace_frontend.run_time_access import RunTimeAccess
from tailrace_frontend.tickets import expiry_of

SECRET_PREFIX = "tr_"  # noqa: S105 - what secrets begin with
HINT_BEGIN, HINT_END = 7, 4
KEY_PREFIX = "key_"
CONFIGURED_PREFIX = "cfg_"


class NewKey(NamedTuple):
    """A key that was just created, with what is shown this once."""

    record: KeyRecord
    secret: str


class ListedKey(NamedTuple):
    """A key in a list. `used`: epoch seconds; None: never, or it is a key of the settings."""

    record: KeyRecord
    is_configured: bool = False
    is_revoked: bool = False
    used: int | None = None


class AccessControl:
    """The operations. Each has its effect in this process when it returns, and in all others within a second."""

    def __init__(self, callers: Callers, access: RunTimeAccess) -> None:
        self._callers = callers
        self._access = access
        self._store = access.store

    async def create_key(
        self, owner: str, scopes: Scopes, by: str, expires: int | None = None, name: str = ""
    ) -> NewKey:
        """A new key of a caller.

        Raises:
            InvalidRequest: the server is in open mode, or has too many keys, or the key would have expired already.
            RedisUnavailable, RedisFull.
        """
        self._check_closed()
        if expires is not None and expires <= time.time():
            raise InvalidRequest("expires_at is not in the future.", param="expires_at")
        _check_room(await self._store.load())
        new = _new_key(owner, names_of(scopes), by, expires, name)
        await self._change(key_added(new.record))
        return new

    async def list_keys(self, owner: str = "") -> list[ListedKey]:
        """All keys, those of the settings too; the newest first. `owner`: of this caller only.

        Raises:
            RedisUnavailable.
        """
        state, used = await self._store.load(), await self._store.used()
        listed = [ListedKey(each, used=used.get(each.id)) for each in state.keys.values()]
        listed += [_listed(key, state) for key in self._callers.configured]
        own = [each for each in listed if owner in ("", each.record.owner)]
        return sorted(own, key=lambda each: (-each.record.created, each.record.owner, each.record.id))

    async def rotate_key(self, key_id: str, by: str, overlap_s: int) -> NewKey:
        """Another key in the place of this one, which stays valid for `overlap_s` seconds. One that is revoked
        meanwhile stays revoked.

        Raises:
            NotFound: there is no such key of run time, or it has expired.
            InvalidRequest: there are too many keys.
            RedisUnavailable, RedisFull.
        """
        while True:
            stored, state, now = await self._store.stored_key(key_id), await self._store.load(), int(time.time())
            old = state.keys.get(key_id)
            if not stored or old is None or (old.expires is not None and old.expires <= now):
                raise NotFound
            _check_room(state)
            lifetime = old.lifetime_s
            new = _new_key(old.owner, old.scopes, by, now + lifetime if lifetime else None, old.name)
            ends = now + overlap_s if old.expires is None else min(now + overlap_s, old.expires)
            ended = msgspec.structs.replace(old, expires=ends, lifetime=lifetime)
            if await self._change(key_added(new.record), key_added(ended, before=stored)):
                return new

    async def revoke_key(self, key_id: str) -> None:
        """End a key and the streams that were opened with it or with its tickets; also one of the settings, for good.

        Raises:
            NotFound: there is no such key.
            RedisUnavailable, RedisFull.
        """
        for key in self._callers.configured:
            if id_of(key) == key_id:
                await self._change(revoked(key.digest.hex(), key.expires))
                return None
        if key_id not in (await self._store.load()).keys:
            raise NotFound
        await self._change(key_removed(key_id))
        return await self._store.forget_used(key_id)

    async def revoke_ticket(self, ticket: str, generation_id: str) -> None:
        """Refuse a ticket from now on, and end the streams that it opened. Idempotent.

        Raises:
            InvalidRequest: it is no valid ticket for this generation.
            RedisUnavailable, RedisFull.
        """
        if self._callers.run_time.is_revoked(grant_of(ticket)):
            return
        try:
            self._callers.redeem(ticket, generation_id)
        except Unauthenticated as error:
            raise InvalidRequest(error.message, param="ticket") from None
        await self._change(revoked(grant_of(ticket), expiry_of(ticket)))

    async def block(self, caller: str, by: str, reason: str = "") -> Block:
        """Refuse a caller, and end its streams.

        Raises:
            InvalidRequest: the server is in open mode, or the caller would block itself, which it could not undo.
            RedisUnavailable, RedisFull.
        """
        self._check_closed()
        if caller == by:
            raise InvalidRequest("A caller cannot block itself.")
        block = Block(int(time.time()), by, reason)
        await self._change(blocked(caller, block))
        return block

    async def unblock(self, caller: str) -> None:
        """
        Raises:
            NotFound: the caller is not blocked.
            RedisUnavailable.
        """
        if caller not in (await self._store.load()).blocked:
            raise NotFound("The caller is not blocked.")
        await self._change(blocked(caller, None))

    async def blocked(self) -> dict[str, Block]:
        """The blocked callers.

        Raises:
            RedisUnavailable.
        """
        return (await self._store.load()).blocked

    async def _change(self, *changes: Change) -> bool:
        """Whether it was made: no field has another value than a change expects."""
        version = await self._store.change(*changes)
        await self._access.refresh()
        return version > 0

    def _check_closed(self) -> None:
        if self._callers.are_open:
            raise InvalidRequest(
                "The server is in open mode: every request is the same caller's. Set TAILRACE_API_KEYS first, with a "
                "key that has the scope admin."
            )


def id_of(key: ApiKey) -> str:
    """The id of a key: its own, or one made of its digest where it is in the settings."""
    return key.id or CONFIGURED_PREFIX + key.digest.hex()[:16]


def _check_room(state: AccessState) -> None:
    if len(state.keys) >= MAX_KEYS:
        raise InvalidRequest(f"There can be {MAX_KEYS} keys, those that have expired included. Revoke one first.")


def _new_key(owner: str, scopes: Iterable[str], by: str, expires: int | None, name: str) -> NewKey:
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    hint = f"{secret[:HINT_BEGIN]}…{secret[-HINT_END:]}"
    digest, created = digest_of(secret).hex(), int(time.time())
    lifetime = 0 if expires is None else max(expires - created, 1)
    record = KeyRecord(new_id(KEY_PREFIX), owner, digest, hint, list(scopes), created, by, expires, name, lifetime)
    return NewKey(record, secret)


def _listed(key: ApiKey, state: AccessState) -> ListedKey:
    """A key of the settings. Nothing of it is shown: it may be short."""
    expires = None if key.expires == inf else int(key.expires)
    record = KeyRecord(id_of(key), key.owner, key.digest.hex(), "", names_of(key.scopes), 0, "", expires)
    return ListedKey(record, is_configured=True, is_revoked=record.digest in state.revoked)
