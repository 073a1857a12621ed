"""The attacks of `scripts/hostile`, in a process of their own: `python -m system.hostile_attacks`.

An attack is a coroutine for one connection; as many run at a time as its size is. What it returns is the end that the
client saw. `docs/operations.md` documents the ends (Limits), and `ATTACKS` lists them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench.children import serve_commands
from system.hostile_client import LOST, Socket

KIB, MIB = 1024, 1024 * 1024
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BEGIN = b'{"model":"scripted","messages":['
BODY_BYTES = 8 * MIB


class Target(NamedTuple):
    """The frontend, a finished generation of 6 MB and one that goes on."""

    port: int
    large_id: str
    running_id: str


def post(body: bytes) -> bytes:
    return POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def wide(element: bytes) -> bytes:
    return BEGIN + b",".join([element] * ((BODY_BYTES - 40) // (len(element) + 1))) + b"]}"


async def send_and_read(target: Target, data: bytes) -> str:
    async with Socket(target.port) as client:
        await client.send(data)
        return await client.first_answer()


async def send_for_ever(target: Target, begin: bytes, more: bytes) -> str:
    """256 MiB, or until there is an answer."""
    async with Socket(target.port) as client:
        await client.send(begin)
        await client.repeat(more, 256 * MIB // len(more))
        return await client.first_answer()


async def drip(target: Target, begin: bytes, more: bytes) -> str:
    async with Socket(target.port) as client:
        await client.send(begin)
        await client.repeat(more, 200, pause_s=0.5)
        return await client.first_answer()


async def stay_silent(target: Target) -> str:
    async with Socket(target.port) as client:
        return await client.answers()


async def unread_body(target: Target) -> str:
    """The head of an answer of 6 MB; the rest is not read until the server ends it."""
    path = f"/v1/generations/{target.large_id}".encode()
    return await _unread(target, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def unread_stream(target: Target) -> str:
    path = f"/v1/generations/{target.large_id}/events".encode()
    return await _unread(target, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")


async def _unread(target: Target, request: bytes) -> str:
    async with Socket(target.port, buffer=4096) as client:
        await client.send(request)
        if not await client.has_input(within_s=30):
            return "hangs"
        await asyncio.sleep(16)  # more than the write timeout
        end = await client.answers()
        return "503" if end.startswith("503") else end


async def pipeline(target: Target) -> str:
    async with Socket(target.port) as client:
        sending = asyncio.create_task(client.send((GET + b"\r\n") * 20_000))
        end = await client.answers()
        await sending
        return end


async def pipeline_behind_a_stream(target: Target) -> str:
    """A stream, and requests after it: none is answered, and the client's leaving is noticed."""
    request = _events(target.running_id)
    async with Socket(target.port) as client:
        await client.send(request + request * 100)
        if await client.first_answer() != "200":
            return "refused"
        client.half_close()
        with_rest = await client.answers()
        return with_rest.rpartition(" ")[2]


async def half_close(target: Target) -> str:
    async with Socket(target.port) as client:
        await client.send(_events(target.running_id))
        await client.first_answer()
        client.half_close()
        return (await client.answers()).rpartition(" ")[2]


def _events(generation_id: str) -> bytes:
    path = f"/v1/generations/{generation_id}/events".encode()
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


async def leave_a_wait(target: Target) -> str:
    path = f"/v1/generations/{target.running_id}?wait=60".encode()
    async with Socket(target.port) as client:
        await client.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.2)
    return "left"


async def flood(target: Target) -> str:
    """Part of a head, then silence; an honest request must still be answered beside it."""
    async with Socket(target.port) as client:
        await client.send(GET)
        honest = await send_and_read(target, GET + b"\r\n")
        end = await client.answers()
        return end if honest == "200" else f"an honest request got: {honest}"


async def linger(target: Target) -> str:
    """A body that is answered before its end, which does not come; an honest request must be answered beside it."""
    async with Socket(target.port) as client:
        await client.send(
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + b" " * 60_000
        )
        if not await client.has_input(within_s=30):
            return "hangs"
        honest = await send_and_read(target, GET + b"\r\n")
        end = await client.answers()
        return end if honest == "200" else f"an honest request got: {honest}"


SHAPES = [
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + GET + b"\r\n",
    POST + b"Content-Length: 0, 40\r\n\r\n" + GET + b"\r\n",
    POST + b"Content-Length: +40\r\n\r\n" + GET + b"\r\n",
    POST + b"Content-Length : 40\r\n\r\n" + GET + b"\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    CHUNKED + b"-1\r\n" + GET + b"\r\n",
    CHUNKED + b"0x0\r\n\r\n" + GET + b"\r\n",
    CHUNKED + b"10000000000000000\r\n" + GET + b"\r\n",
    CHUNKED + b"1\r\nxx\r\n0\r\n\r\n" + GET + b"\r\n",
    CHUNKED + b"1\nx\n0\n\n" + GET + b"\r\n",
    POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 40\r\n\r\n" + GET + b"\r\n",
    GET + b"X: a\r\n b\r\n\r\n" + GET + b"\r\n",
    b"GET /healthz HTTP/1.1\nHost: localhost\n\n" + GET + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n" + GET + b"\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n" + GET + b"\r\n",
    GET + b"Host: elsewhere\r\n\r\n" + GET + b"\r\n",
    b"GET /healthz\r\n\r\n" + GET + b"\r\n",
]
"""Requests of which two servers could see different ends. One answer and the end: none is followed by a second."""


async def smuggle(target: Target) -> str:
    ends = set()
    for shape in SHAPES:
        async with Socket(target.port) as client:
            await client.send(shape)
            ends.add(await client.answers())
    return " or ".join(sorted(ends))


class Attack(NamedTuple):
    """What one connection does, how many do so at a time, and the ends that are documented."""

    one: Callable[[Target], Awaitable[str]]
    full: int
    ends: frozenset[str]
    short: int = 2


def to(*ends: str) -> frozenset[str]:
    return frozenset(ends)


FULL_PROMPT = BEGIN + b'{"role":"user","content":"' + b"a, " * ((BODY_BYTES - 100) // 3) + b'"}]}'
DEEP = BEGIN + b'{"role":"u"}],"x":' + b"[" * (4 * MIB - 40) + b"]" * (4 * MIB - 40) + b"}"
COOKIE = b'Cookie: a="' + b"\\\\" * 31_000 + b'"\r\n\r\n'
LINGER_ENDS = to("405 closed", "405 cut", "503 closed", "503 cut", "closed", "cut")
LONG_QUERY = b"GET /v1/generations?" + b"a=%41&" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
SLOW_BODY = POST + b"Content-Length: %d\r\n\r\n" % BODY_BYTES + b" " * (BODY_BYTES - 1000)

ATTACKS: dict[str, Attack] = {
    "endless header": Attack(lambda t: send_for_ever(t, GET + b"X: ", b"a" * 64 * KIB), 50, to("431")),
    "endless URL": Attack(lambda t: send_for_ever(t, b"GET /", b"a" * 64 * KIB), 50, to("431")),
    "endless headers": Attack(lambda t: send_for_ever(t, GET, b"X: y\r\n" * 10_000), 50, to("431")),
    "cookie": Attack(lambda t: send_and_read(t, GET + COOKIE), 50, to("200")),
    "empty lines": Attack(lambda t: send_for_ever(t, b"", b"\r\n" * 32_768), 50, to("431")),
    "long query": Attack(lambda t: send_and_read(t, LONG_QUERY), 50, to("431")),
    "silence": Attack(stay_silent, 1000, to("closed")),
    "slow head": Attack(lambda t: drip(t, GET, b"X: y\r\n"), 500, to("408")),
    "fat slow head": Attack(lambda t: drip(t, GET + b"X: " + b"a" * 60_000, b"a"), 1000, to("408", "503")),
    "slow body": Attack(lambda t: drip(t, SLOW_BODY, b" "), 50, to("408", "503")),
    "endless body": Attack(lambda t: send_for_ever(t, CHUNKED, LARGE_CHUNK), 50, to("413", "503")),
    "chunk extension": Attack(lambda t: send_for_ever(t, CHUNKED + b"1;", b"a" * 64 * KIB), 50, to("431")),
    "chunks of a byte": Attack(lambda t: send_for_ever(t, CHUNKED, b"1\r\n \r\n" * 10_000), 50, to("431")),
    "trailers": Attack(lambda t: send_for_ever(t, CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000), 50, to("431")),
    "deep JSON": Attack(lambda t: send_and_read(t, post(DEEP)), 20, to("400", "503")),
    "wide JSON": Attack(lambda t: send_and_read(t, post(wide(b"{}"))), 20, to("400", "503")),
    "wide JSON, valid": Attack(lambda t: send_and_read(t, post(wide(b'{"role":"u"}'))), 20, to("400", "503")),
    "large JSON, valid": Attack(lambda t: send_and_read(t, post(FULL_PROMPT)), 20, to("202", "503")),
    "unread body": Attack(unread_body, 100, to("200 cut", "503")),
    "unread stream": Attack(unread_stream, 100, to("200 cut")),
    "pipelining": Attack(pipeline, 100, to("200 closed", "200 cut")),
    "pipelining behind a stream": Attack(pipeline_behind_a_stream, 100, to("closed", "cut")),
    "half-close": Attack(half_close, 100, to("closed")),
    "abandoned waits": Attack(leave_a_wait, 1000, to("left")),
    "connection flood": Attack(flood, 3000, to("408 closed", "closed", "cut"), 30),
    "lingering bodies": Attack(linger, 3000, LINGER_ENDS, 30),
    "smuggling": Attack(smuggle, 10, to("400 closed")),
}  # fmt: skip


class Attacker:
    """The commands."""

    async def attack(self, counts: dict[str, int], target: list[object]) -> dict[str, dict[str, int]]:
        """So many connections of each attack, all at once; how each of them ended."""
        aim = Target(*target)  # type: ignore[arg-type]
        ends = await asyncio.gather(*(self._attack(ATTACKS[name].one, count, aim) for name, count in counts.items()))
        return dict(zip(counts, ends, strict=True))

    async def _attack(self, one: Callable[[Target], Awaitable[str]], count: int, target: Target) -> dict[str, int]:
        async def end() -> str:
            try:
                return await one(target)
            except LOST as error:
                return type(error).__name__

        return Counter(await asyncio.gather(*(end() for _ in range(count))))


if __name__ == "__main__":
    serve_commands(Attacker())
