"""The shares of a generation: links by which others read it, each with an expiry of its own.

A share's ticket proves itself by its signature. What is stored here is for its owner, who lists and revokes shares. A
revocation is among those of `access`, so that every frontend knows it without another read. It stays there until the
share expires, so a share counts until then, revoked or not: otherwise a caller could fill `access` with revocations,
which every frontend reads at each change.
"""

import msgspec

from tailrace import keys
from tailrace.redis.server import RedisServer, checked

MAX_SHARES = 100
"""Of a generation."""

MAX_SHARES_PER_CALLER = 1000
MAX_SHARE_S = 30 * 24 * 3600


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share. Times in epoch seconds."""

    id: str
    created: int
    expires: int
    is_revoked: bool = False


class ShareStore:
    """The shares on the log's server.

    Raises, in every method:
        RedisUnavailable, RedisRefused.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def count(self, owner: str, share: Share) -> bool:
        """Count a share among those of its caller. False: the caller has too many, and it was not counted. Two at a
        time may both be refused in the last place; there are never too many.

        Raises:
            RedisFull: the server has no room.
        """
        counted = keys.shares_of(owner)
        replies = await self._server.execute_many([
            ("ZREMRANGEBYSCORE", counted, "-inf", share.created),
            ("ZADD", counted, share.expires, share.id),
            ("ZCARD", counted),
            ("EXPIREAT", counted, share.created + MAX_SHARE_S),
        ])  # fmt: skip
        if checked(replies)[2] <= MAX_SHARES_PER_CALLER:
            return True
        await self._server.execute("ZREM", counted, share.id)
        return False

    async def put(self, generation_id: str, share: Share, until: int) -> None:
        """Store a share. `until` (epoch seconds): none of the generation's matters any more.

        Raises:
            RedisFull: the server has no room.
        """
        key = keys.shares(generation_id)
        stored = ("HSET", key, share.id, msgspec.json.encode(share))
        checked(await self._server.execute_many([stored, ("EXPIREAT", key, until)]))

    async def list(self, generation_id: str) -> list[Share]:
        """The generation's shares, newest first; those that were revoked or have expired are among them."""
        found = await self._server.execute("HVALS", keys.shares(generation_id))
        shares = [msgspec.json.decode(each, type=Share) for each in found]
        return sorted(shares, key=lambda share: (-share.created, share.id))

    async def remove(self, generation_id: str, *share_ids: str) -> None:
        """Remove shares from the list."""
        if share_ids:
            await self._server.execute("HDEL", keys.shares(generation_id), *share_ids)
