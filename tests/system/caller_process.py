"""Two callers, each a process of its own, so that neither takes the other's time.

    python -m system.caller_process ATTACK PORT KEY SECONDS    repeats one of `ATTACKS` as fast as it can
    python -m system.caller_process steady PORT KEY SECONDS    creates a generation every `INTERVAL_S`

Each prints JSON: how often each status was answered, and the seconds that each request took (of the second only).
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache

CUT = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError)
LARGE_BYTES = 8 * 1024 * 1024 - 1024
MIDDLE_BYTES = 512 * 1024
INTERVAL_S = 0.04


class Connection:
    """A connection that is kept alive, and opened again where the server closes it."""

    def __init__(self, port: int, key: str, statuses: Counter[int]) -> None:
        self._port = port
        self._key = key
        self._statuses = statuses
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(
        self, method: str, path: str, body: bytes = b"", *, abandon: bool = False, is_chunked: bool = False
    ) -> bytes:
        """The body of the answer. `abandon`: close the connection after the head, as a reader that leaves at once.
        `is_chunked`: do not announce the length of the body."""
        if is_chunked:
            framing, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            framing = f"Content-Length: {len(body)}"
        try:
            return await self._send(method, path, framing, body, abandon=abandon)
        except CUT:
            self._statuses[0] += 1
            self.close()
            await asyncio.sleep(0.01)
            return b""

    async def _send(self, method: str, path: str, framing: str, body: bytes, *, abandon: bool) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n"
        if abandon:
            head += "Accept: text/event-stream\r\n"
        writer.write(f"{head}{framing}\r\n\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        self._statuses[int(lines[0].split()[1])] += 1
        content = b""
        if abandon:
            self.close()
        else:
            content = await reader.readexactly(
                next(int(e.split(b":")[1]) for e in lines if e[:15] == b"content-length:")
            )
        if b"connection: close" in lines:
            self.close()
        return content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


@cache
def body(size: int = 0) -> bytes:
    """A request whose answer is three tokens long."""
    script = [{"tokens": {"count": 3}}, {"delta": {}, "finish_reason": "stop"}, {"done": True}]
    messages = [{"role": "user", "content": "x" * size}]
    return json.dumps({"model": "scripted", "messages": messages, "script": script}).encode()


async def create(connection: Connection, size: int = 0) -> str:
    """The id of a new generation; empty if it was refused."""
    content = await connection.send("POST", "/v1/generations", body(size))
    with contextlib.suppress(ValueError, KeyError):
        return str(json.loads(content)["id"])
    return ""


async def create_and_cancel(connection: Connection) -> None:
    if generation_id := await create(connection, MIDDLE_BYTES):
        await connection.send("POST", f"/v1/generations/{generation_id}/cancel")


async def create_and_get(connection: Connection) -> None:
    if generation_id := await create(connection, MIDDLE_BYTES):
        for _ in range(50):
            await connection.send("GET", f"/v1/generations/{generation_id}")


async def send_chunked(connection: Connection) -> None:
    await connection.send("POST", "/v1/generations", b'{"model": "' + b"x" * LARGE_BYTES, is_chunked=True)


async def list_all(connection: Connection) -> None:
    await connection.send("GET", "/v1/generations?limit=100")


async def read_and_leave(connection: Connection) -> None:
    if generation_id := await create(connection):
        for _ in range(50):
            await connection.send("GET", f"/v1/generations/{generation_id}/events", abandon=True)


ATTACKS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "create": create,
    "list": list_all,
    "read": read_and_leave,
    "cancel": create_and_cancel,
    "get": create_and_get,
    "chunked": send_chunked,
    "large": lambda each: create(each, LARGE_BYTES),
}
"""What each of the hostile caller's connections repeats; large bodies last, because they cost the caller most."""

CONNECTIONS = 32


async def attack(name: str, port: int, key: str, seconds: float) -> Counter[int]:
    """Repeat an attack over all connections; cut them when the time is up."""
    statuses = Counter[int]()

    async def repeat() -> None:
        connection = Connection(port, key, statuses)
        try:
            while True:
                await ATTACKS[name](connection)
        finally:
            connection.close()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(repeat() for _ in range(CONNECTIONS)))
    return statuses


async def post_steadily(port: int, key: str, seconds: float) -> tuple[Counter[int], list[float]]:
    """Create generations at a steady rate, however long the answers take, each on a connection of its own."""
    statuses, took = Counter[int](), list[float]()

    async def post() -> None:
        connection = Connection(port, key, statuses)
        began = time.monotonic()
        await create(connection)
        took.append(time.monotonic() - began)
        connection.close()

    due = time.monotonic()
    until = due + seconds
    async with asyncio.TaskGroup() as posting:
        while due < until:
            posting.create_task(post())
            due += INTERVAL_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return statuses, took


async def main(name: str, port: int, key: str, seconds: float) -> None:
    steady = name == "steady"
    result = await (post_steadily(port, key, seconds) if steady else attack(name, port, key, seconds))
    print(json.dumps(result if steady else (result, [])))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
