"""The fuzz of the HTTP layer: real processes, bare sockets.

Every response must be documented (docs/errors.md), in the one shape of errors. The client is blocking and lives in a
thread of its own, beside the loop of the upstream.
"""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from system.fuzz_requests import Mutation, Request

TIMEOUT_S = 10.0
STREAM_S = 0.02
"""So long an event stream is read; then its client leaves."""

SUCCESSES = {200, 202, 204, 206, 304}
"""206 and 304: of the page's files."""

ERRORS_MD = Path(__file__).parents[2] / "docs" / "errors.md"
DOCUMENTED = {
    (int(status), None if code == "null" else code)
    for status, code in re.findall(r"^\| (\d{3}) \| `\w+` \| `(\w+)` \|", ERRORS_MD.read_text(), re.MULTILINE)
}
"""(status, code) of every error that a client may receive."""

DOCUMENTED |= {
    (int(status), code)
    for code, status in re.findall(
        r"^\| `(\w+)` \| `\w+` \| `\w+` \|.*\| (\d{3}) \|$", ERRORS_MD.read_text(), re.MULTILINE
    )
}
"""And those of a generation that failed before the status of its answer was sent (OpenAI's routes)."""

DOCUMENTED |= {(400, "cancelled")}
"""A chat completion that another request has cancelled."""


def is_documented(status: int, code: str | None) -> bool:
    """Whether the error is in the tables. (A refusal by the upstream has the upstream's own status.)"""
    return (status, code) in DOCUMENTED or (400 <= status < 500 and code == "upstream_refused")


class Response(NamedTuple):
    """`body` is None where it is not read: an event stream."""

    status: int
    headers: dict[str, str]
    body: bytes | None


class Connection:
    """One connection to a frontend. `is_open`: another request may follow."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self.is_open = True

    def close(self) -> None:
        self._file.close()
        self._socket.close()
        self.is_open = False

    def ask(self, data: bytes, *, is_head: bool) -> Response | None:
        """The response to one well-framed request; None where the connection ended without one."""
        with suppress(ConnectionError):
            self._socket.sendall(data)
        return self._response(is_head=is_head)

    def throw(self, data: bytes) -> list[Response]:
        """Send bytes and the end of the stream; every response to them."""
        with suppress(OSError):  # the frontend has answered and left already
            self._socket.sendall(data)
            self._socket.shutdown(socket.SHUT_WR)
        found = []
        is_head = data.lstrip(b"\r\n").startswith(b"HEAD ")
        while self.is_open and (response := self._response(is_head=is_head)) is not None:
            found.append(response)
        return found

    def _response(self, *, is_head: bool) -> Response | None:
        try:
            status, headers = self._head()
            while 100 <= status < 200:
                status, headers = self._head()
            return Response(status, headers, self._body(status, headers, is_head=is_head))
        except (ConnectionError, EOFError):
            self.is_open = False
            return None

    def _head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline(65536)
        if not line:
            raise EOFError
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", line)
        assert match, f"no status line: {line!r}"
        headers: dict[str, str] = {}
        while (line := self._file.readline(65536)) != b"\r\n":
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, f"no header: {line!r}"
            headers[name.lower()] = value.strip()
        return int(match[1]), headers

    def _body(self, status: int, headers: dict[str, str], *, is_head: bool) -> bytes | None:
        if headers.get("connection", "").lower() == "close":
            self.is_open = False
        if is_head or status in (204, 304):
            return b""
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        if headers.get("content-type", "").startswith(("text/event-stream", "application/x-ndjson", "text/plain")):
            self._leave_stream()
            return None
        return self._chunks() if "transfer-encoding" in headers else self._file.read()

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._file.readline(20), 16):
            parts.append(self._file.read(size))
            self._file.readline(3)
        self._file.readline(3)
        return b"".join(parts)

    def _leave_stream(self) -> None:
        self._socket.settimeout(STREAM_S)
        with suppress(OSError):
            while self._file.raw.read(65536):
                pass
        self.close()


class HttpFuzz:
    """Sends batches of requests to the frontends of a stack, and judges what comes back."""

    def __init__(self, ports: list[int], pool: list[str]) -> None:
        self.ports = ports
        self.pool = pool
        self.sent = 0
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.wrong: list[str] = []

    def send(self, batch: Iterable[Request | Mutation]) -> None:
        """Send the requests, one after the other on one connection where that stays open."""
        port = self.ports[self.sent % len(self.ports)]
        connection: Connection | None = None
        for request in batch:
            data = request.encode(f"127.0.0.1:{port}", self.pool)
            self.sent += 1
            if connection is None or not connection.is_open:
                if connection:
                    connection.close()
                connection = Connection(port)
            try:
                self._send(connection, request, data)
            except (AssertionError, ValueError, OSError) as error:
                self._report(data, repr(error))
                connection.close()
        if connection:
            connection.close()

    def _send(self, connection: Connection, request: Request | Mutation, data: bytes) -> None:
        if isinstance(request, Mutation):
            for each in connection.throw(data):
                self._judge(each, data)
            return connection.close()
        began = time.monotonic()
        response = connection.ask(data, is_head=request.method == "HEAD")
        took_s = time.monotonic() - began
        self.slowest_s = max(self.slowest_s, took_s)
        if took_s > TIMEOUT_S:
            self._report(data, f"answered after {took_s:.1f} s")
        return self._judge(response, data) if response else self._report(data, "no response")

    def _judge(self, response: Response, data: bytes) -> None:
        status, headers, body = response
        if status in SUCCESSES or (status == 400 and body == b"Invalid HTTP request received."):
            self.answers[f"{status} {'not HTTP' if status == 400 else ''}".strip()] += 1
            return None
        if status >= 500:
            return self._report(data, f"{status}: {body!r}")
        if headers.get("content-type") != "application/json":
            return self._report(data, f"{status} {headers} {body!r}")
        if not body and b"HEAD " in data:
            return None
        error = json.loads(body or b"")["error"]
        if error.keys() != {"message", "type", "param", "code"} or not is_documented(status, error["code"]):
            return self._report(data, f"{status}: {error}")
        self.answers[f"{status} {error['code']}"] += 1
        return None

    def _report(self, data: bytes, what: str) -> None:
        self.wrong.append(f"{what}\n    {data[:600]!r}")
