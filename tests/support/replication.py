"""Replication between real servers."""

from redis.asyncio import Redis

TIMEOUT_MS = 10_000


async def replicate(primary: Redis) -> None:
    """Wait until a replica has all that any connection has written. `primary`: a client that uses one connection, as
    `WAIT` waits for what its own connection has written, and for nothing where that has written nothing."""
    await primary.set("replicated", "")
    replicas = await primary.execute_command("WAIT", 1, TIMEOUT_MS)
    assert replicas >= 1
