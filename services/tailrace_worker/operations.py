"""The operations address of a worker: probes and metrics over plain HTTP, without a web framework.

A connection has one request, GET or HEAD, and no body. Its head has at most HEAD_BYTES and HEAD_S; at most CONNECTIONS
are open at once, and one more is closed. A route's answer takes at most ANSWER_S.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest, MethodNotAllowed, Misconfigured, NotFound, TailraceError, Unavailable
from tailrace.events import Json

CONNECTIONS = 100
HEAD_BYTES = 8 * 1024
HEAD_S = 5.0
ANSWER_S = 5.0
METHODS = ("GET", "HEAD")

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a route answers."""

    body: bytes
    content_type: str = "application/json"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}

    @classmethod
    def of(cls, value: Json) -> "Answer":
        """A JSON value."""
        return cls(jsoncodec.dumps(value))

    @classmethod
    def of_error(cls, error: TailraceError) -> "Answer":
        """An error, in the one shape of all errors."""
        return cls(jsoncodec.dumps(error.as_json()), status=error.status, headers=error.headers())


Route = Callable[[], Awaitable[Answer]]
"""It may raise a `TailraceError`, which is the answer then."""


class OperationsServer:
    """Answers each path of `routes`."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None] | None] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Misconfigured: the address cannot be listened on.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Misconfigured(
                f"TAILRACE_WORKER_OPERATIONS_ADDRESS: cannot listen on {host}:{port}: {reason}"
            ) from None

    async def close(self) -> None:
        """Stop listening. Answers under way are cut."""
        if self._server:
            self._server.close()
            for task in filter(None, self._connections):
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if len(self._connections) >= CONNECTIONS:
            return writer.close()
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._respond(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        Raises:
            OSError, IncompleteReadError, TimeoutError: the client has left, or is too slow.
        """
        async with asyncio.timeout(HEAD_S):
            method, path = await _read(reader)
        writer.write(_encoded(await self._answer(method, path), has_body=method != "HEAD"))
        async with asyncio.timeout(HEAD_S):
            await writer.drain()

    async def _answer(self, method: str, path: str) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._route(method, path)()
        except TailraceError as error:
            return Answer.of_error(error)
        except TimeoutError:
            return Answer.of_error(Unavailable(f"No answer within {ANSWER_S:g} s."))
        except Exception as error:
            logger.error("%s failed: %s", path, type(error).__name__, exc_info=error)
            return Answer.of_error(TailraceError())

    def _route(self, method: str, path: str) -> Route:
        """
        Raises:
            InvalidRequest, NotFound, MethodNotAllowed: there is none.
        """
        if not method:
            raise InvalidRequest("The request is no HTTP/1.1, or its head is too large.")
        if path not in self._routes:
            raise NotFound
        if method not in METHODS:
            raise MethodNotAllowed(allow=", ".join(METHODS))
        return self._routes[path]


async def _read(reader: asyncio.StreamReader) -> tuple[str, str]:
    """The method and the path of a request; two empty strings if it is none, or too large.

    Raises:
        OSError, IncompleteReadError: the client has left.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return "", ""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    return (method, target.partition("?")[0]) if version.startswith("HTTP/1.") else ("", "")


def _encoded(answer: Answer, *, has_body: bool) -> bytes:
    status = HTTPStatus(answer.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        "connection: close",
        *(f"{name.lower()}: {value}" for name, value in answer.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (answer.body if has_body else b"")
