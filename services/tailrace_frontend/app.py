"""The ASGI application that uvicorn runs.

Event streams are answered by the table below; every other request goes to FastAPI. (A reader costs 10.3 KB that way and
21.4 KB as a FastAPI route, measured.) FastAPI documents the routes by stubs.
"""

import asyncio
import re
from collections import deque
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

REQUESTS_A_TURN = 25

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


class Turnstile:
    """Lets a few requests begin in each turn of the event loop. The others wait for a later turn, in order.

    A request takes up to half a millisecond until it first waits for Redis. A thousand that arrive together would
    otherwise begin in one turn, and all readers would wait for it (0.7 s, measured).
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a turn, if this one is full."""
        if self._left == self._at_once:
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._left:
            self._left -= 1
        else:
            entered = asyncio.get_running_loop().create_future()
            self._waiting.append(entered)
            await entered

    def _next_turn(self) -> None:
        self._left = self._at_once
        while self._left and self._waiting:
            entered = self._waiting.popleft()
            if not entered.done():  # it is when its task was cancelled
                entered.set_result(None)
                self._left -= 1
        if self._left < self._at_once:
            asyncio.get_running_loop().call_soon(self._next_turn)


class Frontend:
    """The application; `services` is what its parts share. `operations`: where `/readyz` and `/metrics` are, if they
    have an address of their own."""

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings)
        self.api = create_api(self.services)
        self._turnstile = Turnstile(REQUESTS_A_TURN)
        self.operations = create_operations(self.services) if settings.operations_address else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._turnstile.enter()
        if tracing.is_on() and scope["type"] == "http":
            tracing.enter_request(scope["headers"])
        answer, streamed_id = find_stream(scope)
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
