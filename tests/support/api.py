"""A client of the native API."""

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from multidict import CIMultiDictProxy

from support.sse import Stream

PATIENCE_S = 20.0
MESSAGES = [{"role": "user", "content": "Hello?"}]


async def eventually(condition: Callable[[], Awaitable[Any]], patience_s: float = PATIENCE_S) -> Any:
    """Ask until the answer is yes; gives the answer."""
    deadline = time.monotonic() + patience_s
    while not (answer := await condition()):
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.02)
    return answer


class Answer(NamedTuple):
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error, in the one shape."""
        assert self.headers["content-type"] == "application/json", self
        error = self.value["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        return error

    @property
    def refusal(self) -> tuple[int, str | None]:
        return self.status, self.error["code"]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": MESSAGES} | fields


def scripted(*steps: dict[str, Any], script_id: str = "", **fields: Any) -> dict[str, Any]:
    """A body that tells the scripted upstream what to answer."""
    return body(model="scripted", script=list(steps), script_id=script_id, **fields)


class Api:
    """One caller at one frontend."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str | None = None) -> None:
        self._http = http
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def ask(
        self, method: str, path: str, *, json: Any = None, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        given = self._headers | dict(headers or {})
        async with self._http.request(method, self.url + path, json=json, data=data, headers=given) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def post(self, sent: Any, **headers: str) -> Answer:
        """POST a generation: bytes as they are, all else as JSON."""
        data = io.BytesIO(sent if isinstance(sent, bytes) else json.dumps(sent).encode())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", "/v1/generations", data=data, headers=named)

    async def create(self, **fields: Any) -> str:
        told = await self.post(body(**fields))
        assert told.status == 202, told
        generation_id: str = told.value["id"]
        return generation_id

    async def play(self, *steps: dict[str, Any], **fields: Any) -> str:
        """Create one that the scripted upstream answers so."""
        return await self.create(**scripted(*steps, **fields))

    async def get(self, generation_id: str, query: str = "") -> Answer:
        return await self.ask("GET", f"/v1/generations/{generation_id}{query}")

    async def finished(self, generation_id: str) -> Any:
        """The generation, once it has ended."""
        told = await self.get(generation_id, "?wait=20")
        assert told.status == 200, told
        assert told.value["status"] not in ("queued", "running"), told.value
        return told.value

    async def cancel(self, generation_id: str) -> Answer:
        return await self.ask("POST", f"/v1/generations/{generation_id}/cancel")

    async def delete(self, generation_id: str) -> Answer:
        return await self.ask("DELETE", f"/v1/generations/{generation_id}")

    async def list(self, query: str = "") -> Answer:
        return await self.ask("GET", f"/v1/generations{query}")

    async def events(self, generation_id: str, query: str = "", **headers: str) -> Answer:
        """What `/events` answers, to its end."""
        named = {"Accept": "text/event-stream"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", f"/v1/generations/{generation_id}/events{query}", headers=named)

    async def stream(self, generation_id: str, cursor: str | None = None, query: str = "") -> Stream:
        """Begin to read; the caller of this reads on."""
        headers = self._headers | {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        url = f"{self.url}/v1/generations/{generation_id}/events{query}"
        answer = await self._http.get(url, headers=headers)
        assert answer.status == 200, answer
        return Stream(answer)

    async def read(self, generation_id: str, cursor: str | None = None, query: str = "") -> Stream:
        """All of it."""
        stream = await self.stream(generation_id, cursor, query)
        await stream.rest()
        return stream
