"""The ASGI application that uvicorn runs.

Event streams are answered by the table below; every other request goes to FastAPI. (A reader costs 10.3 KB that way and
21.4 KB as a FastAPI route, measured.) FastAPI documents the routes by stubs.
"""

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from tailrace import tracing
from tailrace.settings import Settings
from tailrace_frontend.http.admin.streams import answer_any_events, answer_audit, answer_snapshots
from tailrace_frontend.http.ai_sdk.stream import answer_chat
from tailrace_frontend.http.api import create_api, create_operations
from tailrace_frontend.http.diagnostics import answer_diagnostics
from tailrace_frontend.http.stream_endpoint import answer_events
from tailrace_frontend.services import Services
from tailrace_frontend.turnstile import BEGIN, Turnstile

REQUESTS_A_TURN = 25
"""Requests that begin in a turn of the event loop, beside event streams (`Hub.arrivals`): each takes up to half a
millisecond until it first waits for Redis."""

AnswerStream = Callable[[Services, str, Scope, Send], Awaitable[None]]


class StreamRoute(NamedTuple):
    """A path whose GET is answered with an event stream. Group 1 of `path` is the id of what is streamed."""

    path: re.Pattern[str]
    answer: AnswerStream


STREAM_ROUTES = (
    StreamRoute(re.compile(r"/v1/generations/([^/]{1,64})/events", re.ASCII), answer_events),
    StreamRoute(re.compile(r"/api/chat/([^/]+)/stream"), answer_chat),
    StreamRoute(re.compile(r"/v1/admin/overview/(events)"), answer_snapshots),
    StreamRoute(re.compile(r"/v1/admin/audit/(events)"), answer_audit),
    StreamRoute(re.compile(r"/v1/admin/generations/([^/]{1,64})/events", re.ASCII), answer_any_events),
    StreamRoute(re.compile(r"/v1/diagnostics/(stream)"), answer_diagnostics),
)  # fmt: skip


class Frontend:
    """The application; `services` is what its parts share. `operations`: where `/readyz` and `/metrics` are, if they
    have an address of their own."""

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings)
        self.api = create_api(self.services)
        self._requests = Turnstile(REQUESTS_A_TURN)
        self.operations = create_operations(self.services) if settings.operations_address else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, streamed_id = find_stream(scope)
        if answer is None:
            await self._requests.enter()
        else:
            await self.services.hub.arrivals.enter(BEGIN)
        if tracing.is_on() and scope["type"] == "http":
            tracing.enter_request(scope["headers"])
        if answer is None:
            await self.api(scope, receive, send)
        else:
            await answer(self.services, streamed_id, scope, send)


def find_stream(scope: Scope) -> tuple[AnswerStream | None, str]:
    """The handler and the id of what is streamed, if the request is for an event stream; else (None, "")."""
    if scope["type"] == "http" and scope["method"] == "GET":
        for route in STREAM_ROUTES:
            if match := route.path.fullmatch(scope["path"]):
                return route.answer, match[1]
    return None, ""
