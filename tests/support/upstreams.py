"""Upstreams with names, for tests of `tailrace.toml`: each answers with its name, counts its calls, and can be down."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from starlette.types import Message, Receive, Scope, Send

from tailrace_demo import running

Mode = Literal["ok", "503", "reset", "silent", "400", "404"]
STATUSES: dict[str, int] = {"503": 503, "400": 400, "404": 404}


class NamedUpstream:
    """An ASGI application: a model server that sends `words` words, one every `delay_s`.

    `calls`: requests for an answer so far; `models_asked`: the model of each; `in_use` and `most_in_use`: those that
    stream, from the arrival of the request until its last chunk is written or its client has left; `clients`: the port
    of each of them. `released`: unless it is set, answers wait before their first word.
    """

    def __init__(self, name: str, *, words: int = 5, delay_s: float = 0.0) -> None:
        self.name = name
        self.url = ""
        self.mode: Mode = "ok"
        self.words = words
        self.delay_s = delay_s
        self.calls = 0
        self.clients: dict[object, int] = {}
        self.most_in_use = 0
        self.models_asked: list[str] = []
        self.keys: set[str] = set()
        self.released = asyncio.Event()
        self.released.set()

    @property
    def in_use(self) -> int:
        return len(self.clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/models"):
            return await self._json(send, 200, {"data": [{"id": f"{self.name}-model"}, {"id": "shared"}]})
        body = json.loads(await _body(receive))
        self.keys |= {value.decode() for name, value in scope["headers"] if name == b"authorization"}
        self.calls += 1
        self.models_asked.append(body["model"])
        return await self._answer(scope["client"][1], receive, send)

    async def _answer(self, client: int, receive: Receive, send: Send) -> None:
        if self.mode in STATUSES:
            return await self._json(send, STATUSES[self.mode], {"error": {"message": f"{self.name} fails"}})
        if self.mode == "reset":
            raise ConnectionResetError
        call = object()
        self.clients[call] = client
        self.most_in_use = max(self.most_in_use, self.in_use)
        streaming = asyncio.create_task(self._stream(call, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.clients.pop(call, None)
            streaming.cancel()
            leaving.cancel()
        return None

    async def _stream(self, call: object, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.mode == "silent":
            await asyncio.Event().wait()
        await self.released.wait()
        for number in range(self.words):
            await asyncio.sleep(self.delay_s)
            await _chunk(send, {"delta": {"content": f"{self.name}{number} "}, "index": 0})
        self.clients.pop(call)  # before the client can see the end
        end: Message = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
        await _chunk(send, {"delta": {}, "index": 0, "finish_reason": "stop"})
        await send(end)

    async def _json(self, send: Send, status: int, value: object) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(value).encode()})

    def table(self, **fields: object) -> str:
        """Its `[[upstreams]]` in a `tailrace.toml`."""
        rows = {"name": self.name, "base_url": self.url} | fields
        return "[[upstreams]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in rows.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _chunk(send: Send, choice: object) -> None:
    payload = json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()
    await send({"type": "http.response.body", "body": b"data: " + payload + b"\n\n", "more_body": True})


@asynccontextmanager
async def named_upstreams(*upstreams: NamedUpstream) -> AsyncIterator[None]:
    """Serve them during the block."""
    if not upstreams:
        yield
        return
    async with running(app=upstreams[0]) as url, named_upstreams(*upstreams[1:]):
        upstreams[0].url = url
        yield


def write_config(file: Path, *tables: str) -> str:
    """Write a `tailrace.toml`; its path, for `TAILRACE_CONFIG`."""
    file.write_text("\n".join(tables))
    return str(file)
