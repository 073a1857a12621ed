"""Limits of an HTTP connection: those that connections share, the state of one request, the check of a head, and the
response to a request that is refused before the application is asked."""

import asyncio
import re
from itertools import chain

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tailrace import jsoncodec
from tailrace.errors import TailraceError
from tailrace.ids import new_request_id
from tailrace_frontend.inflight import Inflight
from tailrace_frontend.turnstile import Turnstile

HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
"""64 KiB of the smallest headers are 10,000: 1 MB and 10 ms each time."""

URL_BYTES = 4096
"""The longest URL that a client needs has 350 bytes: an id, a ticket of 119, a cursor. FastAPI parses the query of
every request: 64 KiB of `a=%41&` took 20 ms each time, and 4 KiB take 1.3 ms."""

LENGTH_DIGITS = 19
"""Of a Content-Length. The parser accepts any number of leading zeros; `int` refuses more than 4,300 digits, which was
answered 500."""

SMALL_HEAD_BYTES = 1024
"""A smaller incomplete head is not counted, so large ones never cut it. All connections together have 11 MB of them."""

HEADS_A_TURN = 3
"""Heads of new connections that are parsed in a turn of the event loop, 0.1 ms each."""

DEFERRED_BYTES = 2048
"""A larger piece of a head is parsed at once: what waits for a later turn is not counted as a head is. All connections
together have 22 MB of it."""

SESSION_COOKIE = re.compile(rb"(?:^|; ?)tailrace_admin=([A-Za-z0-9_.~-]{1,512})(?:;|$)")
SESSION_HEADER = b"tailrace-session"
"""What a request has instead of the dashboard's cookie; no client can send it itself."""

UNREAD_HEADERS = frozenset({b"cookie", b"range", b"if-range", SESSION_HEADER})
"""FastAPI parses the cookies of every request: 62,000 backslashes took 7.1 s (CVE-2024-7592). So the one cookie that is
used is found here, by a pattern that is linear in the header. Starlette answers a
malformed range of a static file with an error of its own shape. They count in the limits of the head."""

WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods whose bodies are discarded as they arrive: no route reads them. uvicorn stops reading a connection once
64 KiB of a body are unread, and does not notice then that the client leaves."""

HEAD, BODY, ANSWER, CLOSING = range(4)
"""The phases of a connection; `http_protocol` has them as a table."""


class PipelinedRequest(Exception):
    """A request began before the previous one was answered."""


class ExceedingHead(Exception):
    """A head has more than `MAX_HEADERS`, or a URL of more than `URL_BYTES`."""


class ClientLimits:
    """The limits that the connections of a process share, and the connections that may be closed."""

    def __init__(self, max_connections: int, write_timeout_s: float, inflight: Inflight) -> None:
        self.max_connections = max_connections
        self.write_timeout_s = write_timeout_s
        self.inflight = inflight
        self.heads = Inflight(max(inflight.limit // 4, HEAD_BYTES), undisturbed_s=0.0)
        """Incomplete heads. The oldest is cut where a further one does not fit: an honest head is complete after one or
        two round trips. (In the budget of bodies, 395 heads of 63 KiB refused all large requests for 10 s.)"""

        self.parsing = Turnstile(HEADS_A_TURN)
        self.keeps_alive = True
        """Whether a connection may have another request. A process that stops closes each after its answer, so that the
        next one goes elsewhere."""

        self.idle: dict[HttpToolsProtocol, None] = {}
        """Connections that wait for a request head. The first has waited longest."""

        self.lingering: dict[HttpToolsProtocol, None] = {}
        """Connections that have their answer, and of which the rest is discarded. They close before idle ones."""

    def make_room(self, connections: int) -> bool:
        """Whether so many connections may be open. One too many closes the one that has lingered longest, or else the
        one that has been idle for longest."""
        if connections <= self.max_connections:
            return True
        unneeded = next(chain(self.lingering, self.idle), None)
        if unneeded is not None:
            self.set_busy(unneeded)
            unneeded.transport.abort()
        return unneeded is not None

    def set_idle(self, connection: HttpToolsProtocol) -> None:
        """The connection waits for a request head."""
        self.lingering.pop(connection, None)
        self.idle[connection] = None

    def set_lingering(self, connection: HttpToolsProtocol) -> None:
        """The connection has its answer; nothing that its client still sends is wanted."""
        self.idle.pop(connection, None)
        self.lingering[connection] = None

    def set_busy(self, connection: HttpToolsProtocol) -> None:
        """The connection has a request to answer, or has ended."""
        self.idle.pop(connection, None)
        self.lingering.pop(connection, None)


class ReceivedRequest:
    """The request that a connection receives, and the timers of the connection.

    `body`: bytes of its body so far; `seen`: how many there were when its progress was last checked. `framing`: bytes
    of its head, then of what is around the body. `headers`: their number.
    """

    __slots__ = ("body", "framing", "headers", "phase", "seen", "timer", "write_timer")

    def __init__(self) -> None:
        self.phase = HEAD
        self.body = self.seen = self.framing = self.headers = 0
        self.timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None


def check_head(version: str, upgrades: bool, headers: list[tuple[bytes, bytes]]) -> None:
    """Checks that the parser lacks: RFC 9112, sections 3.2 (one Host) and 6.1 (no chunks in HTTP/1.0).

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
    if any(len(value.strip()) > LENGTH_DIGITS for name, value in headers if name == b"content-length"):
        raise ValueError("a Content-Length of too many digits")


def refusal_bytes(error: TailraceError) -> bytes:
    """The whole of an error's response, after which the connection closes."""
    body = jsoncodec.dumps(error.as_json()) + b"\n"
    own = {"content-type": "application/json", "content-length": len(body), "connection": "close"}
    headers = own | {"x-request-id": new_request_id()} | error.headers()
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])
