"""Requests to an ASGI application, without a server."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.datastructures import Headers


class Response(NamedTuple):
    status: int
    headers: Headers
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: Any, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", query: str = ""
) -> Response:
    """Send one request in one message; the whole response."""
    all_headers = {"host": "localhost"} | dict(headers or {})
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in all_headers.items()],
        "server": ("localhost", 80), "client": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip
    messages: list[Any] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *rest = messages
    return Response(start["status"], Headers(raw=start["headers"]), b"".join(each["body"] for each in rest))
