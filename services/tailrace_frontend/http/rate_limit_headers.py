"""`x-ratelimit-*-requests` on the answers to callers that have a rate, as OpenAI's API has them.

    limit       requests a minute (`TAILRACE_MAX_REQUESTS_PER_MINUTE_PER_CALLER`)
    remaining   requests that this frontend would accept at once
    reset       seconds until it would accept as many as ever

A body, and an answer that is read, cost as several requests by their size.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.errors import TailraceError
from tailrace_frontend.services import Services


class RateLimitHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._services.settings.has_callers:
            return await self._app(scope, receive, send)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._limits(scope)]
            await send(message)

        return await self._app(scope, receive, send_with_limits)

    def _limits(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        try:
            owner = self._services.callers.identify(Headers(scope=scope)).owner
        except TailraceError:
            return []
        allowance = self._services.rate_limits.allowance(owner)
        return [
            (b"x-ratelimit-limit-requests", b"%d" % allowance.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % allowance.remaining),
            (b"x-ratelimit-reset-requests", b"%.3fs" % allowance.reset_s),
        ]
