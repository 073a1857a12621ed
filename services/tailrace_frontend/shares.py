"""Links by which others read one generation."""

import time

import msgspec

from tailrace.access import AccessStore, revoked
from tailrace.errors import InvalidRequest, NotFound
from tailrace.ids import new_id
from tailrace.log.state import GenerationState
from tailrace.shares import MAX_SHARES, MAX_SHARES_PER_CALLER, Share, ShareStore
from tailrace_frontend.run_time_access import RunTimeAccess
from tailrace_frontend.tickets import SHARE_PREFIX


class Shares:
    """The shares of all generations."""

    def __init__(self, store: ShareStore, access: RunTimeAccess) -> None:
        self._store = store
        self._access = access
        self._revocations: AccessStore = access.store

    async def create(self, state: GenerationState, seconds: int) -> Share:
        """A share that lasts so long, but not longer than the generation may.

        Raises:
            InvalidRequest: the generation or its caller has too many.
            RedisUnavailable, RedisFull.
        """
        record, now, last = state.record, int(time.time()), last_second_of(state)
        stored = await self._store.list(record.id)
        await self._store.remove(record.id, *(each.id for each in stored if each.expires <= now))
        if sum(each.expires > now for each in stored) >= MAX_SHARES:
            raise InvalidRequest(f"A generation can have {MAX_SHARES} shares. One counts until it expires.")
        share = Share(new_id(SHARE_PREFIX), now, min(now + seconds, last))
        if not await self._store.count(record.owner, share):
            raise InvalidRequest(f"A caller can have {MAX_SHARES_PER_CALLER} shares. One counts until it expires.")
        await self._store.put(record.id, share, last)
        return share

    async def list(self, state: GenerationState) -> list[Share]:
        """The shares that are valid, newest first.

        Raises:
            RedisUnavailable.
        """
        now = time.time()
        return [each for each in await self._store.list(state.record.id) if each.expires > now and not each.is_revoked]

    async def revoke(self, state: GenerationState, share_id: str) -> None:
        """Refuse a share from now on, and end the streams that it opened.

        Raises:
            NotFound: the generation has no such share.
            RedisUnavailable, RedisFull.
        """
        for share in await self.list(state):
            if share.id == share_id:
                await self._revocations.change(revoked(share.id, share.expires))
                ended = msgspec.structs.replace(share, is_revoked=True)
                await self._store.put(state.record.id, ended, last_second_of(state))
                return await self._access.refresh()
        raise NotFound


def last_second_of(state: GenerationState) -> int:
    """The time (epoch seconds) after which the log is not kept."""
    options = state.record.options
    return state.record.created // 1000 + options.deadline_s + options.retention_s + 60
