"""Connections to Redis: how redis-py is configured, and which of its errors pass.

Without configuration, redis-py 5 has no timeouts and no retries, and its connect path raises a plain `OSError` while a
server restarts. Both are settled here (measured: without them 10 of 10 workers end with their server).
"""

from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis._parsers import _AsyncHiredisParser
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import EqualJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.errors import Misconfigured, RedisFull, RedisRefused, RedisUnavailable, TailraceError
from tailrace.redis.redirects import Redirected, SlotUnavailable

COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
CLIENT_RETRIES = 3
"""Of redis-py itself: of connecting, and of the commands that arq sends. `server` repeats the commands of the log."""

SENTINEL = "redis+sentinel://"
SCHEMES = f"rediss://, unix://, {SENTINEL}"


class Demoted(RedisConnectionError):
    """The server has become a replica, and this connection to it was closed."""


class _Convertible(AbstractConnection):
    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """uvloop raises RuntimeError when asked to write to a connection that has just been closed."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As redis-py does for Sentinel alone, a connection to a replica is closed: where the address of the primary
        has moved, the next connection leads to the new one. (A server that is demoted keeps its connections.)"""
        try:
            return await super().read_response(*args, **options)
        except DEMOTED as error:
            await self.disconnect(nowait=True)
            raise Demoted(f"the server is a replica: {error}") from error


class _Connection(_Convertible, Connection):
    pass


class _TlsConnection(_Convertible, SSLConnection):
    pass


class _PrimaryConnection(_Convertible, SentinelManagedConnection):
    pass


class _PrimaryPool(SentinelConnectionPool):
    async def disconnect(self, inuse_connections: bool = True) -> None:
        """redis-py leaves the connections to the sentinels open."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


CONNECTIONS: dict[Any, Any] = {Connection: _Connection, SSLConnection: _TlsConnection}


class ServerBusy(ResponseError):
    """The server fails over, has lost its replicas, cannot write to its disk, or is busy with a script."""


class NotPrimary(ServerBusy):
    """The server is a replica whose primary is away, or became a replica while a command of ours was blocked."""


class MovedReply(ResponseError):
    """`MOVED`: the slot of the command's key is on the server that the reply names."""


class AskReply(ResponseError):
    """`ASK`: the slot is being moved, and the key is on the server that the reply names, if anywhere."""


class TryAgainReply(ServerBusy):
    """`TRYAGAIN`: the slot is being moved, and each server has some of the command's keys. `CLUSTERDOWN`: no server has
    the slot at the moment."""


class _Parser(_AsyncHiredisParser):
    """A parser that counts bytes, and has a class for each reply that passes.

    redis-py has no classes for these replies and raises a plain ResponseError, as for a mistake of the caller.
    """

    received = 0
    """Bytes received so far."""

    EXCEPTION_CLASSES = _AsyncHiredisParser.EXCEPTION_CLASSES | dict.fromkeys(
        ("BUSY", "MISCONF", "NOREPLICAS"), ServerBusy
    )
    EXCEPTION_CLASSES |= {"MOVED": MovedReply, "ASK": AskReply}
    EXCEPTION_CLASSES |= dict.fromkeys(("CLUSTERDOWN", "TRYAGAIN"), TryAgainReply)
    EXCEPTION_CLASSES |= dict.fromkeys(("MASTERDOWN", "UNBLOCKED"), NotPrimary)

    async def read_from_socket(self) -> bool:
        """As redis-py's, which does not count. Counting the parsed reply took longer than parsing it."""
        stream, reader = cast("Any", self._stream), cast("Any", self._reader)
        data = await stream.read(self._read_size)
        if not data:
            raise RedisConnectionError("closed by the server")
        self.received += len(data)
        reader.feed(data)
        return True


DEMOTED = (ReadOnlyError, NotPrimary)
"""Replied by a server that is a replica: a former primary, where the address named the primary before."""

TRANSIENT_ERRORS = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, ServerBusy, OSError)
"""Raised while a server is unreachable, loading or failing over: the same command may succeed later."""


def options() -> dict[str, Any]:
    """Options of every connection: timeouts, keepalive, retries with backoff and jitter."""
    return {
        "parser_class": _Parser,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(EqualJitterBackoff(cap=0.5, base=0.02), CLIENT_RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, BusyLoadingError, OSError],
    }


def connect(url: str, *, max_connections: int = 64, setting: str = "TAILRACE_REDIS_URL or TAILRACE_QUEUE_URL") -> Redis:
    """A client whose callers wait for a free connection instead of failing when all are busy. `setting`: where the
    address is from.

    Raises:
        Misconfigured: the address is not a Redis URL.
    """
    try:
        if url.startswith(SENTINEL):
            return Redis.from_pool(_primary_of(url))
        pool = BlockingConnectionPool.from_url(url, max_connections=max_connections, timeout=10, **options())
    except ValueError:  # its text may hold part of a password
        raise Misconfigured(
            f"{setting} is not a Redis address such as redis://127.0.0.1:6379/0 (or {SCHEMES})."
        ) from None
    pool.connection_class = CONNECTIONS.get(pool.connection_class, pool.connection_class)
    return Redis.from_pool(pool)  # closed with the client


def _primary_of(url: str) -> _PrimaryPool:
    """`redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]`: connections to the current primary.

    Raises:
        ValueError: the address has another form.
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


def translated(error: Exception) -> TailraceError:
    """Our error for what redis-py raised or a server replied."""
    if isinstance(error, MovedReply | AskReply):
        return Redirected(str(error), asking=isinstance(error, AskReply))
    if isinstance(error, TryAgainReply):
        return SlotUnavailable(detail=str(error))
    if isinstance(error, TRANSIENT_ERRORS):
        return RedisUnavailable(detail=f"{type(error).__name__}: {error}")
    return RedisFull() if isinstance(error, OutOfMemoryError) else RedisRefused(detail=str(error))
