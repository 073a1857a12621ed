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

TIMEOUT_S = 20.0
MESSAGES = [{"role": "user", "content": "Hello?"}]


async def eventually(condition: Callable[[], Awaitable[Any]], timeout_s: float = TIMEOUT_S) -> Any:
    """Evaluate the condition until it is true; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"no result within {timeout_s:g} s"
        await asyncio.sleep(0.02)
    return value


class Response(NamedTuple):
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The `error` object, which always has the same shape."""
        assert self.headers["content-type"] == "application/json", self
        error = self.value["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        return error

    @property
    def refusal(self) -> tuple[int, str | None]:
        """Status and error code."""
        return self.status, self.error["code"]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": MESSAGES} | fields


def scripted(*steps: dict[str, Any], script_id: str = "", **fields: Any) -> dict[str, Any]:
    """A body for the scripted upstream: it answers with these steps."""
    return body(model="scripted", script=list(steps), script_id=script_id, **fields)


class Api:
    """One caller at one frontend."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str | None = None) -> None:
        self._http = http
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def request(
        self, method: str, path: str, *, json: Any = None, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        all_headers = self._headers | dict(headers or {})
        async with self._http.request(method, self.url + path, json=json, data=data, headers=all_headers) as response:
            return Response(response.status, response.headers, await response.read())

    async def post(self, content: Any, **headers: str) -> Response:
        """POST a generation; bytes are sent as they are, anything else as JSON."""
        data = io.BytesIO(content if isinstance(content, bytes) else json.dumps(content).encode())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("POST", "/v1/generations", data=data, headers=named)

    async def create(self, **fields: Any) -> str:
        response = await self.post(body(**fields))
        assert response.status == 202, response
        generation_id: str = response.value["id"]
        return generation_id

    async def create_scripted(self, *steps: dict[str, Any], **fields: Any) -> str:
        """Create a generation that the scripted upstream answers with these steps."""
        return await self.create(**scripted(*steps, **fields))

    async def get(self, generation_id: str, query: str = "") -> Response:
        return await self.request("GET", f"/v1/generations/{generation_id}{query}")

    async def wait_for_result(self, generation_id: str) -> Any:
        """The generation object, once the generation has ended."""
        response = await self.get(generation_id, "?wait=20")
        assert response.status == 200, response
        assert response.value["status"] not in ("queued", "running"), response.value
        return response.value

    async def cancel(self, generation_id: str) -> Response:
        return await self.request("POST", f"/v1/generations/{generation_id}/cancel")

    async def delete(self, generation_id: str) -> Response:
        return await self.request("DELETE", f"/v1/generations/{generation_id}")

    async def list(self, query: str = "") -> Response:
        return await self.request("GET", f"/v1/generations{query}")

    async def events(self, generation_id: str, query: str = "", **headers: str) -> Response:
        """The whole response of `/events`."""
        named = {"Accept": "text/event-stream"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("GET", f"/v1/generations/{generation_id}/events{query}", headers=named)

    async def stream(self, generation_id: str, cursor: str | None = None, query: str = "") -> Stream:
        """Open an event stream and read nothing yet."""
        headers = self._headers | {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        url = f"{self.url}/v1/generations/{generation_id}/events{query}"
        response = await self._http.get(url, headers=headers)
        assert response.status == 200, response
        return Stream(response)

    async def read(self, generation_id: str, cursor: str | None = None, query: str = "") -> Stream:
        """Read an event stream to its end."""
        stream = await self.stream(generation_id, cursor, query)
        await stream.rest()
        return stream
