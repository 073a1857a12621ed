"""What an HTTP connection may do: the limits that connections share, the state of one request, the check of a head,
and the response to a request that is refused before the application is asked."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tailrace import jsoncodec
from tailrace.errors import TailraceError
from tailrace.ids import new_request_id
from tailrace_frontend.inflight import Inflight

MAX_HEADERS = 256
"""64 KiB of the smallest headers are 10,000: 1 MB and 10 ms each time."""

HEAD, BODY, ANSWER, CLOSING = range(4)
"""The phases of a connection; `http_protocol` has them as a table."""


class PipelinedRequest(Exception):
    """A request began before the previous one was answered."""


class TooManyHeaders(Exception):
    """A head has more than `MAX_HEADERS`."""


class ClientLimits:
    """What the connections of a process share."""

    def __init__(self, max_connections: int, write_timeout_s: float, inflight: Inflight) -> None:
        self.max_connections = max_connections
        self.write_timeout_s = write_timeout_s
        self.inflight = inflight
        self.idle: dict[HttpToolsProtocol, None] = {}
        """Connections that wait for a request head. The first has waited longest."""

    def make_room(self, connections: int) -> bool:
        """Whether so many connections may be open. One too many closes the one that has been idle for longest."""
        if connections <= self.max_connections:
            return True
        idle = next(iter(self.idle), None)
        if idle is not None:
            del self.idle[idle]
            idle.transport.abort()
        return idle is not None


class ReceivedRequest:
    """The request that a connection receives, and the timers of the connection.

    `body`: bytes of its body so far; `seen`: how many there were when its progress was last checked. `framing`: bytes
    of its head, then of what is around the body.
    """

    __slots__ = ("body", "framing", "phase", "seen", "timer", "write_timer")

    def __init__(self) -> None:
        self.phase = HEAD
        self.body = self.seen = self.framing = 0
        self.timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None


def check_head(version: str, upgrades: bool, headers: list[tuple[bytes, bytes]]) -> None:
    """What the parser does not check: RFC 9112, sections 3.2 (one Host) and 6.1 (no chunks in HTTP/1.0).

    The body of a request that asks for an upgrade is not parsed: its bytes would be taken for the next request.

    Raises:
        ValueError
    """
    names = [name for name, _ in headers]
    if version == "1.0":
        if b"transfer-encoding" in names:
            raise ValueError("Transfer-Encoding in HTTP/1.0")
    elif names.count(b"host") != 1:
        raise ValueError("not one Host")
    if upgrades and (b"content-length" in names or b"transfer-encoding" in names):
        raise ValueError("a body beside an upgrade")


def refusal_bytes(error: TailraceError) -> bytes:
    """The whole of an error's response, after which the connection closes."""
    body = jsoncodec.dumps(error.as_json())
    own = {"content-type": "application/json", "content-length": len(body), "connection": "close"}
    headers = own | {"x-request-id": new_request_id()} | error.headers()
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])
