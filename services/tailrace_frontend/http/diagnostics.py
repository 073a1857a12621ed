"""A stream that shows what lies between a client and this frontend: a proxy that buffers, compresses, cuts or strips.

    GET /v1/diagnostics/stream?events=20&interval_ms=100&silence_s=0     needs `read`; `tailrace doctor` asks

    event: hello    what arrived of the request, and what this frontend counts on
    event: beat     `events` times, one each `interval_ms`, with its time since `hello` by this frontend's clock
                    (nothing for `silence_s`: not even a keep-alive)
    event: end

A stream lasts at most `MAX_S`. `dashboard.diagnostic_stream` has the other limits.
"""

from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import parse_qsl

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope
from starlette.types import Send

from tailrace.errors import InvalidValue, NotFound, TailraceError, Unauthenticated, Unavailable
from tailrace.events import Json
from tailrace.scopes import READERS, Scope
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.dashboard import DiagnosticStream, Plan
from tailrace_frontend.http.head import refuse_stream
from tailrace_frontend.http.require import require
from tailrace_frontend.http.stream_endpoint import refuse, stream_headers
from tailrace_frontend.services import Services

PATH = "/v1/diagnostics/stream"
MAX_S = 330
ECHOED = ("last-event-id", "idempotency-key", "accept", "accept-encoding")
"""Headers that are sent back as they arrived. Of `Authorization` only the scheme is."""

ECHOED_CHARACTERS = 64
AUTHORIZATION = "authorization"


class Limits(NamedTuple):
    """The values that a parameter of the query may have, and the one that it has where the query does not name it."""

    default: int
    least: int
    most: int


PARAMETERS = {"events": Limits(20, 0, 600), "interval_ms": Limits(100, 10, 10_000), "silence_s": Limits(0, 0, 300)}


def plan_of(query_string: bytes) -> Plan:
    """What the query asks for.

    Raises:
        InvalidValue: a parameter is out of its limits, or all together last longer than `MAX_S`.
    """
    query = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    plan = Plan(**{name: _whole(name, query.get(name), limits) for name, limits in PARAMETERS.items()})
    if plan.seconds > MAX_S:
        raise InvalidValue.at("events", f"A diagnostic stream lasts at most {MAX_S} s.")
    return plan


def _whole(name: str, given: str | None, limits: Limits) -> int:
    if given is None:
        return limits.default
    if not (given.isascii() and given.isdecimal() and len(given) < 8 and limits.least <= int(given) <= limits.most):
        raise InvalidValue.at(name, f"a whole number from {limits.least} to {limits.most:,}.")
    return int(given)


async def answer_diagnostics(services: Services, _: str, scope: AsgiScope, send: Send) -> None:
    """Send the stream that the query asks for, or the reason why not."""
    native = WIRE_FORMATS["native"]
    try:
        refuse_stream(scope)
        headers = Headers(scope=scope)
        caller = await _identify(services, headers)
        plan = plan_of(scope["query_string"])
        if services.hub.draining:
            raise Unavailable("This frontend is stopping.")
        await services.rate_limits.charge_stream(caller.owner)
        stream = DiagnosticStream(
            services.hub, plan, hello_of(services, scope, headers), services.diagnostic_streams, scope[SCOPE], send,
            caller, services.callers.may_read, stream_headers(native),
        )  # fmt: skip
    except TailraceError as error:
        return await refuse(services, error, None, [], send)
    return await stream.run()


async def _identify(services: Services, headers: Headers) -> ApiKey:
    """The caller.

    Raises:
        Unauthenticated: as `Services.authorize`; `param` is set where no key has arrived at all.
        TailraceError: as `Services.authorize`.
    """
    try:
        return await services.authorize(headers, READERS)
    except Unauthenticated:
        if headers.get(AUTHORIZATION):
            raise
        raise Unauthenticated("No Authorization header has arrived.", param=AUTHORIZATION) from None


def hello_of(services: Services, scope: AsgiScope, headers: Headers) -> Json:
    """What arrived of a request, and what the frontend counts on. Nothing of a key but its scheme."""
    settings = services.settings
    echoed: Json = {name: headers[name][:ECHOED_CHARACTERS] for name in ECHOED if name in headers}
    if AUTHORIZATION in headers:
        echoed[AUTHORIZATION] = headers[AUTHORIZATION].partition(" ")[0][:ECHOED_CHARACTERS]
    return {
        "object": "diagnostics", "version": version("tailrace"), "http_version": scope["http_version"],
        "is_open": services.callers.are_open, "keepalive_s": settings.keepalive_s, "received": echoed,
    }  # fmt: skip


def document_diagnostics(api: FastAPI) -> None:
    """Describe the stream, which `app` has answered before FastAPI is asked."""

    @api.get(
        PATH,
        dependencies=[require(Scope.READ)],
        tags=["diagnostics"],
        responses={200: {"description": "`hello`, so many `beat`, silence, `end`: SSE."}},
        openapi_extra={
            "parameters": [
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "schema": {
                        "type": "integer", "default": limits.default, "minimum": limits.least, "maximum": limits.most
                    },
                }
                for name, limits in PARAMETERS.items()
            ]
        },
    )  # fmt: skip
    async def diagnostics() -> None:
        """Follow a stream of known times, to see what a proxy does to it. `tailrace doctor` does."""
        raise NotFound
