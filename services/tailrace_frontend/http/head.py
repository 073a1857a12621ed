"""HEAD on every route that has GET: uptime monitors, link previews and `curl -I` send it.

A stream has no HEAD. A `StreamConnection` writes to the socket itself, so its bytes would be read as the response to
the connection's next request (RFC 9112, section 6.3). Some paths are streams, others are where the query asks for one;
`refuse_stream` is therefore called where a stream is opened, too.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.errors import MethodNotAllowed

STREAM = re.compile(r"/(?:events|stream|log)")
"""The end of a path whose GET has no length, and may last for an hour. It has no HEAD."""

IS_HEAD = "tailrace.is_head"
"""In the scope of a GET that was a HEAD."""


class HeadAsGet:
    """ASGI middleware: a HEAD is answered as a GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or not has_head(scope["path"]):
            return await self._app(scope, receive, send)

        is_complete = False

        async def send_without_body(message: Message) -> None:
            nonlocal is_complete
            if is_complete:
                return
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)
            if message["type"] == "http.response.start" and _has_length(message):
                # Before a file is read: the client may send its next request now, which counts as pipelined until then.
                is_complete = True
                await send({"type": "http.response.body", "body": b""})

        return await self._app({**scope, "method": "GET", IS_HEAD: True}, receive, send_without_body)


def _has_length(start: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in start["headers"])


def has_head(path: str) -> bool:
    """Whether a GET of this path may be asked for its head alone."""
    return STREAM.fullmatch(path[path.rfind("/") :]) is None


def is_head(scope: Mapping[str, Any]) -> bool:
    """Whether the request, a GET by its scope, was a HEAD."""
    return bool(scope.get(IS_HEAD))


def refuse_stream(scope: Mapping[str, Any]) -> None:
    """
    Raises:
        MethodNotAllowed: the request for a stream was a HEAD.
    """
    if is_head(scope):
        raise MethodNotAllowed("A stream has no HEAD; send GET.", allow="GET")
