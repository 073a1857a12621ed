"""What a caller has left, on its answers.

    x-ratelimit-limit-requests         requests a minute (`TAILRACE_MAX_REQUESTS_PER_MINUTE_PER_CALLER`)
    x-ratelimit-remaining-requests     requests that this frontend would accept at once
    x-ratelimit-reset-requests         seconds until it would accept as many as ever
    x-ratelimit-*-tokens               the same for tokens, of callers that have a limit of them; over all frontends
    tailrace-budget-remaining          `day-tokens=1200, month-usd=3.5`: of each budget that the caller has
    tailrace-budget-warning            those of them of which a fifth or less is left

The first six are those of OpenAI's API. A body, and an answer that is read, cost as several requests by their size.
Open mode counts no requests.
"""

from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.errors import TailraceError
from tailrace_frontend.rate_limits import Allowance
from tailrace_frontend.services import Services
from tailrace_frontend.token_allowances import BudgetLeft, TokenAllowance

Header = tuple[bytes, bytes]


class RateLimitHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._limits(scope)]
            await send(message)

        return await self._app(scope, receive, send_with_limits)

    def _limits(self, scope: Scope) -> Iterator[Header]:
        try:
            owner = self._services.callers.identify(Headers(scope=scope)).owner
        except TailraceError:
            return
        if self._services.settings.has_callers:
            yield from _of("requests", self._services.rate_limits.allowance(owner))
        tokens = self._services.generations.tokens
        if allowance := tokens.allowance(owner):
            yield from _of("tokens", allowance)
        if left := tokens.budgets_left(owner):
            yield b"tailrace-budget-remaining", _listed(left)
        if nearly_spent := [each for each in left if each.is_nearly_spent]:
            yield b"tailrace-budget-warning", _listed(nearly_spent)


def _of(unit: str, allowance: Allowance | TokenAllowance) -> Iterator[Header]:
    for name, value in (
        ("limit", f"{allowance.limit}"),
        ("remaining", f"{allowance.remaining}"),
        ("reset", f"{allowance.reset_s:.3f}s"),
    ):
        yield f"x-ratelimit-{name}-{unit}".encode(), value.encode()


def _listed(budgets: list[BudgetLeft]) -> bytes:
    shown = (f"{each.period}-{each.unit}={round(each.left, 6):.12g}" for each in budgets)
    return ", ".join(shown).encode()
