"""The ASGI application that uvicorn runs.

Event streams are answered by the table below; every other request goes to FastAPI. (A reader costs 10.3 KB that way and
21.4 KB as a FastAPI route, measured.) FastAPI documents the routes by stubs.
"""

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from tailrace.settings import Settings
from tailrace_frontend.http.api import create_api
from tailrace_frontend.http.stream_endpoint import answer_events
from tailrace_frontend.services import Services

AnswerStream = Callable[[Services, str, Scope, Send], Awaitable[None]]


class StreamRoute(NamedTuple):
    """A path whose GET is answered with an event stream. Group 1 of `path` is the generation's id."""

    path: re.Pattern[str]
    answer: AnswerStream


STREAM_ROUTES = (
    StreamRoute(re.compile(r"/v1/generations/([^/]{1,64})/events", re.ASCII), answer_events),
)  # fmt: skip


class Frontend:
    """The application; `services` is what its parts share."""

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings)
        self.api = create_api(self.services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, generation_id = find_stream(scope)
        if answer is None:
            await self.api(scope, receive, send)
        else:
            await answer(self.services, generation_id, scope, send)


def find_stream(scope: Scope) -> tuple[AnswerStream | None, str]:
    """The handler and the generation's id, if the request is for an event stream; else (None, "")."""
    if scope["type"] == "http" and scope["method"] == "GET":
        for route in STREAM_ROUTES:
            if match := route.path.fullmatch(scope["path"]):
                return route.answer, match[1]
    return None, ""
