"""Redis connections, told how to behave.

redis-py 5 has no timeouts and no retries unless told, and what it raises while a server restarts is a plain `OSError`
from the connect path: so both are named here, once (measured: without them 10 of 10 workers die with their server).
Commands may be retried because each of ours is idempotent.
"""

from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from redis._parsers import _AsyncHiredisParser
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import EqualJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.errors import Misconfigured

COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
RETRIES = 3
MINIMAL_VERSION = (7, 0)
SENTINEL = "redis+sentinel://"


class _Convertible(AbstractConnection):
    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """uvloop says RuntimeError where it is asked to write to a line that has just been closed."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error


class _Connection(_Convertible, Connection):
    pass


class _TlsConnection(_Convertible, SSLConnection):
    pass


class _PrimaryConnection(_Convertible, SentinelManagedConnection):
    pass


class _PrimaryPool(SentinelConnectionPool):
    async def disconnect(self, inuse_connections: bool = True) -> None:
        """redis-py leaves the lines to the sentinels open."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


CONNECTIONS: dict[Any, Any] = {Connection: _Connection, SSLConnection: _TlsConnection}


class ServerBusy(ResponseError):
    """What a server answers while it fails over, has lost its replicas, cannot write to its disk or is busy."""


class _Parser(_AsyncHiredisParser):
    """redis-py knows no names for these, and raises what it raises for a mistake of ours."""

    EXCEPTION_CLASSES = _AsyncHiredisParser.EXCEPTION_CLASSES | dict.fromkeys(
        ("BUSY", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN"), ServerBusy
    )


TRANSIENT_ERRORS = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, ServerBusy, OSError)
"""What is raised when a server is away, loading or failing over: it passes."""


def options() -> dict[str, Any]:
    """Connection options of every client of ours: timeouts, keepalive, retries with backoff and jitter."""
    return {
        "parser_class": _Parser,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(EqualJitterBackoff(cap=0.5, base=0.02), RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, BusyLoadingError, OSError],
    }


def connect(url: str, *, max_connections: int = 64) -> Redis:
    """A client whose callers wait for a connection instead of failing when all are busy.

    Raises:
        Misconfigured: the address is not a Redis URL.
    """
    try:
        if url.startswith(SENTINEL):
            return Redis.from_pool(_primary_of(url))
        pool = BlockingConnectionPool.from_url(url, max_connections=max_connections, timeout=10, **options())
    except ValueError:  # its text may hold a part of the password
        raise Misconfigured("TAILRACE_REDIS_URL or TAILRACE_QUEUE_URL is not a Redis address.") from None
    pool.connection_class = CONNECTIONS.get(pool.connection_class, pool.connection_class)
    return Redis.from_pool(pool)  # the client's own: closed with it


def _primary_of(url: str) -> _PrimaryPool:
    """`redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]`: connections to whoever is the primary.

    Raises:
        ValueError: it is no such address.
    """
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    found = [place.rpartition(":") for place in places.split(",")]
    if not service or not all(host for host, _, _ in found):
        raise ValueError(SENTINEL)
    timeouts = {"socket_timeout": CONNECT_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    sentinels = Sentinel([(host, int(port)) for host, _, port in found], sentinel_kwargs=timeouts)
    return _PrimaryPool(  # type: ignore[no-untyped-call]
        service, sentinels, connection_class=_PrimaryConnection,
        username=unquote(user) or None, password=unquote(password) or None, db=int(db or 0), **options(),
    )  # fmt: skip


async def problems(redis: Redis) -> tuple[list[str], list[str]]:
    """What is wrong with a server (its log would not be safe there), and what is merely worth a warning.

    Raises:
        RedisError, OSError: it cannot be reached.
    """
    try:
        info = await redis.info()
        version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
        if version < MINIMAL_VERSION:
            return [f"version {info.get('redis_version')}: sharded pub/sub needs Redis >= 7 or Valkey"], []
        await _try_commands(redis)
    except NoPermissionError as error:
        return [f"this Redis user may not do what Tailrace does: {error}"], []
    wrong, warnings = [], []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        wrong.append(f"maxmemory-policy is {policy}: it would drop running logs; set noeviction")
    if not info.get("aof_enabled"):
        warnings.append("appendonly is off: a restart of the server loses what is running or kept")
    return wrong, warnings


async def _try_commands(redis: Redis) -> None:
    """Raises NoPermissionError if the user lacks a kind of command, or our keys or channels.

    Many processes may try at the same time, and die in the middle of it.
    """
    name = "tailrace:{check}:log"
    with suppress(OutOfMemoryError):  # a full server is another matter
        await redis.xadd(name, {"a": "b"})
    pipe = redis.pipeline(transaction=False)
    pipe.eval("return 1", 1, name)
    pipe.xrange(name)
    pipe.expire(name, 1)
    pipe.delete(name)
    pipe.execute_command("SPUBLISH", "tailrace:{check}:events", b"")
    await pipe.execute()


async def memory_percent(redis: Redis) -> float:
    """How much of its `maxmemory` the server uses; 0 where it has no limit.

    Raises:
        RedisError, OSError: it cannot be reached.
    """
    info = await redis.info("memory")
    limit = int(info.get("maxmemory", 0))
    return 100 * int(info["used_memory"]) / limit if limit else 0.0


async def server_run(redis: Redis) -> tuple[str, float]:
    """The server's run id, new with every start and failover, and seconds since it started.

    Where it does not say (fakeredis) it has always been there.

    Raises:
        RedisError, OSError: it cannot be reached.
    """
    try:
        info = await redis.info("server")
    except RedisError as error:
        if isinstance(error, TRANSIENT_ERRORS):
            raise
        return "", float("inf")
    return str(info.get("run_id", "")), float(info.get("uptime_in_seconds", "inf"))
