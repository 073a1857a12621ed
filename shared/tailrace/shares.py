"""The shares of a generation: links by which others read it, each with an expiry of its own.

A share's ticket proves itself by its signature. What is stored here is for its owner, who lists and revokes shares. A
revocation is among those of `access`, so that every frontend knows it without another read.
"""

import msgspec

from tailrace import keys
from tailrace.redis.server import RedisServer

MAX_SHARES = 100


class Share(msgspec.Struct, frozen=True):
    """A share. Times in epoch seconds."""

    id: str
    created: int
    expires: int


class ShareStore:
    """The shares on the log's server.

    Raises, in every method:
        RedisUnavailable, RedisRefused.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def add(self, generation_id: str, share: Share, until: int) -> None:
        """Store a share. `until` (epoch seconds): none of the generation's matters any more.

        Raises:
            RedisFull: the server has no room.
        """
        key = keys.shares(generation_id)
        stored = ("HSET", key, share.id, msgspec.json.encode(share))
        for reply in await self._server.execute_many([stored, ("EXPIREAT", key, until)]):
            if isinstance(reply, Exception):
                raise reply

    async def list(self, generation_id: str) -> list[Share]:
        """The generation's shares, newest first; those that have expired are among them."""
        found = await self._server.execute("HVALS", keys.shares(generation_id))
        shares = [msgspec.json.decode(each, type=Share) for each in found]
        return sorted(shares, key=lambda share: (-share.created, share.id))

    async def remove(self, generation_id: str, share_id: str) -> None:
        """Remove a share from the list."""
        await self._server.execute("HDEL", keys.shares(generation_id), share_id)
