"""HTTP/1.1 and Server-Sent Events over a bare socket: the checker's own client, which shares no code with the product.

How a body ends is part of the result: `whole` (its last chunk was received), or `cut` (the connection broke before).
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, NamedTuple

from system import canaries

End = Literal["whole", "cut"]
CUT = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What a broken connection, or a response that is not HTTP, raises here."""


class Event(NamedTuple):
    """A dispatched event; `id` is None where its frame has none."""

    id: str | None
    kind: str
    data: str

    @property
    def value(self) -> Any:
        return json.loads(self.data)


class EventParser:
    """Bytes in, events out. `retry`: the last retry hint, in ms, if no event followed it. `last_id`: the cursor."""

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

    async def send(self, head: bytes, body: bytes) -> None:
        """Send the request and read the response's head.

        Raises:
            one of CUT: there is no response.
        """
        self._writer.write(head + body)
        await self._writer.drain()
        line = await self._reader.readuntil(b"\r\n")
        self.status = int(line.split()[1])
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it is received; afterwards `end` has how it ended."""
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
    """Send a request and read the response's head. `buffer`: bytes of the socket's receive buffer, for slow clients.

    Raises:
        one of CUT: there is no response.
    """
    with contextlib.ExitStack() as undo:
        connection = socket.socket()
        undo.callback(connection.close)
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        undo.pop_all()
    reader, writer = await asyncio.open_connection(sock=connection, limit=buffer or 65536)
    exchange = Exchange(reader, writer)
    named = {"Host": f"127.0.0.1:{port}", "Connection": "close", "Authorization": f"Bearer {canaries.KEY}", **headers}
    if body:
        named["Content-Length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n".encode()
    for name, value in named.items():
        head += name.encode() + b": " + (value.encode() if isinstance(value, str) else value) + b"\r\n"
    try:
        await exchange.send(head + b"\r\n", body)
    except BaseException:
        exchange.close()
        raise
    return exchange


async def ask(
    port: int, method: str, path: str, value: Any = None, timeout: float = 30.0, **headers: str
) -> tuple[int, Any]:
    """Send a request; the status and the body (decoded if it is JSON) of its response. Status 0: no response."""
    body = b"" if value is None else json.dumps(value).encode()
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    try:
        async with asyncio.timeout(timeout):
            exchange = await open_exchange(port, method, path, named, body)
            try:
                content = b"".join([chunk async for chunk in exchange.chunks()])
            finally:
                exchange.close()
    except (*CUT, TimeoutError):
        return 0, None
    if exchange.end == "cut":
        return 0, None
    is_json = exchange.headers.get("content-type", "").startswith("application/json")
    return exchange.status, json.loads(content) if is_json else content
