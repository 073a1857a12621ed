"""Links by which others read one generation."""

import time

from tailrace.access import AccessStore, revoked
from tailrace.errors import InvalidRequest, NotFound
from tailrace.ids import new_id
from tailrace.log.state import GenerationState
from tailrace.shares import MAX_SHARES, Share, ShareStore
from tailrace_frontend.run_time_access import RunTimeAccess
from tailrace_frontend.tickets import SHARE_PREFIX

MAX_SHARE_S = 30 * 24 * 3600


class Shares:
    """The shares of all generations."""

    def __init__(self, store: ShareStore, access: RunTimeAccess) -> None:
        self._store = store
        self._access = access
        self._revocations: AccessStore = access.store

    async def create(self, state: GenerationState, seconds: int) -> Share:
        """A share that lasts so long, but not longer than the generation may.

        Raises:
            InvalidRequest: the generation has too many.
            RedisUnavailable, RedisFull.
        """
        now, last = int(time.time()), last_second_of(state)
        current = [each for each in await self._store.list(state.record.id) if each.expires > now]
        if len(current) >= MAX_SHARES:
            raise InvalidRequest(f"A generation can have {MAX_SHARES} shares. Revoke one first.")
        share = Share(new_id(SHARE_PREFIX), now, min(now + seconds, last))
        await self._store.add(state.record.id, share, last)
        return share

    async def list(self, state: GenerationState) -> list[Share]:
        """The shares that are valid, newest first.

        Raises:
            RedisUnavailable.
        """
        now = time.time()
        return [each for each in await self._store.list(state.record.id) if each.expires > now]

    async def revoke(self, state: GenerationState, share_id: str) -> None:
        """Refuse a share from now on, and end the streams that it opened.

        Raises:
            NotFound: the generation has no such share.
            RedisUnavailable, RedisFull.
        """
        for share in await self._store.list(state.record.id):
            if share.id == share_id:
                await self._revocations.change(revoked(share.id, share.expires))
                await self._store.remove(state.record.id, share.id)
                return await self._access.refresh()
        raise NotFound


def last_second_of(state: GenerationState) -> int:
    """The time (epoch seconds) after which the log is not kept."""
    options = state.record.options
    return state.record.created // 1000 + options.deadline_s + options.retention_s + 60
