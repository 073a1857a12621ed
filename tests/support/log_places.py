"""Where a log may be: on one server, or on a cluster."""

from typing import Any

from redis.asyncio.cluster import RedisCluster as OtherCluster

from support.cluster import Cluster
from tailrace.redis.cluster import RedisCluster
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

Place = EmbeddedServer | Cluster


def client_of(place: Place) -> Any:
    """A client of redis-py, whose own one for clusters knows nothing of ours."""
    if isinstance(place, Cluster):
        return OtherCluster(host="127.0.0.1", port=place.nodes[0].port)
    return connect(place.url)


async def server_of(place: Place) -> RedisServer:
    """Our connections; of a cluster, as after the first command."""
    if not isinstance(place, Cluster):
        return RedisServer.connect(place.url)
    server = RedisCluster.connect(place.url)
    await server.primaries()
    return server
