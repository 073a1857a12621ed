"""HTTP/1.1 and Server-Sent Events over a bare socket: the checker's ears, sharing nothing with what they listen to.

How a body ends is part of what is heard: `whole` (the last chunk came), or `cut` (the connection broke before it).
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, NamedTuple

End = Literal["whole", "cut"]
CUT = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What a broken connection, or an answer that is no HTTP, raises here."""


class Event(NamedTuple):
    """A dispatched event; `id` is None where its frame named none."""

    id: str | None
    kind: str
    data: str

    @property
    def value(self) -> Any:
        return json.loads(self.data)


class EventParser:
    """Bytes in, events out. `retry` is a hint that no event followed: one that ends a stream. `last_id` is what a
    client hands back."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.last_id: str | None = None
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Event]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if (event := self._line(line.decode()))]

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            self._field(name, value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        self.retry = None
        return Event(fields.get("id"), fields.get("event", "message"), fields["data"])

    def _field(self, name: str, value: str) -> None:
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        self._fields[name] = value
        if name == "id":
            self.last_id = value
        elif name == "retry":
            self.retry = int(value)


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.end: End = "cut"

    async def ask(self, head: bytes, body: bytes) -> None:
        """Raises one of CUT if there is no answer."""
        self._writer.write(head + body)
        await self._writer.drain()
        line = await self._reader.readuntil(b"\r\n")
        self.status = int(line.split()[1])
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; `end` says afterwards how it ended."""
        with contextlib.suppress(*CUT):
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    yield (await self._reader.readexactly(size + 2))[:-2]
            elif length := int(self.headers.get("content-length", 0)):
                yield await self._reader.readexactly(length)
            self.end = "whole"

    def close(self) -> None:
        self._writer.transport.abort()


async def open_exchange(
    port: int, method: str, path: str, headers: Mapping[str, str | bytes], body: bytes = b"", buffer: int | None = None
) -> Exchange:
    """Ask, and read the answer's head. `buffer`: bytes of the socket's receive buffer, for clients that stall.

    Raises:
        one of CUT: there is no answer.
    """
    with contextlib.ExitStack() as undo:
        line = socket.socket()
        undo.callback(line.close)
        if buffer:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
        undo.pop_all()
    reader, writer = await asyncio.open_connection(sock=line, limit=buffer or 65536)
    exchange = Exchange(reader, writer)
    named = {"Host": f"127.0.0.1:{port}", "Connection": "close", **headers}
    if body:
        named["Content-Length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n".encode()
    for name, value in named.items():
        head += name.encode() + b": " + (value.encode() if isinstance(value, str) else value) + b"\r\n"
    try:
        await exchange.ask(head + b"\r\n", body)
    except BaseException:
        exchange.close()
        raise
    return exchange


async def ask(
    port: int, method: str, path: str, value: Any = None, timeout: float = 30.0, **headers: str
) -> tuple[int, Any]:
    """Status and JSON of an answer; status 0 if there was none."""
    body = b"" if value is None else json.dumps(value).encode()
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    try:
        async with asyncio.timeout(timeout):
            exchange = await open_exchange(port, method, path, named, body)
            try:
                told = b"".join([piece async for piece in exchange.pieces()])
            finally:
                exchange.close()
    except (*CUT, TimeoutError):
        return 0, None
    if exchange.end == "cut":
        return 0, None
    is_json = exchange.headers.get("content-type", "").startswith("application/json")
    return exchange.status, json.loads(told) if is_json else told
