"""Reading and parsing a POST, in bounded time and memory.

A body is bounded in bytes and in values: 8 MiB of `[{},{},…]` are 2.8 million dictionaries (0.2 GB and 1.2 s to decode,
measured). Its values are counted before it is decoded. The steps of a large body run with other work in between, each
for some tens of milliseconds of the event loop at most: as one step, 8 MiB took 130 ms. A thread would not help: a
decoder holds the interpreter's lock.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, TypeVar

from starlette.requests import Request

from tailrace import jsoncodec
from tailrace.errors import InvalidBody, InvalidRequest, RequestTooLarge
from tailrace.events import Json, Options
from tailrace.settings import Settings
from tailrace.sizes import size_text
from tailrace_frontend import large_requests
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE, ClientConnection
from tailrace_frontend.http import schemas
from tailrace_frontend.large_requests import LARGE_BYTES
from tailrace_frontend.services import Services

MAX_VALUES = 50_000
"""JSON values in a body: 50,000 small objects take 13 MB, and 20 ms to decode and check."""

STRINGS_PER_VALUE = 2
"""At most: its key and itself."""

SLICE_BYTES = 1024 * 1024
NO_BACKSLASH = re.compile(rb"[^\\]")
"""A slice ends after such a byte, so that no escape is cut in two."""

NOT_MARKS = bytes(set(range(256)) - set(b'",[{'))

T = TypeVar("T")


class ParsedBody(NamedTuple):
    """The upstream's request, Tailrace's options, and the canonical form of both if it was asked for."""

    request: Json
    options: Options
    canonical: bytes


@asynccontextmanager
async def received(services: Services, request: Request) -> AsyncIterator[tuple[ApiKey, bytearray]]:
    """The caller of a POST and its body. Inside, the request has its turn among the caller's, and, where it is large,
    among all large ones. Afterwards it counts no longer among the bytes that this process holds.

    Raises:
        Unauthenticated, HostRefused, OriginRefused, RateLimited: as `Services.identify`.
        RequestTooLarge, ClientDisconnect: as `read_body`.
    """
    caller = await services.identify(request.headers)
    charge = None if "content-length" in request.headers else partial(services.rate_limits.charge_body, caller.owner)
    body = await read_body(request, services.settings.max_body_bytes, charge)
    async with services.rate_limits.turn(caller.owner), services.turn(len(body)):
        yield caller, body
    if client := client_of(request):
        client.inflight.release(client)


def client_of(request: Request) -> ClientConnection | None:
    """The client's connection; None where the application runs without a server."""
    client: ClientConnection | None = request.scope.get(SCOPE)
    return client


IDEMPOTENCY_KEY = "idempotency-key"


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The `Idempotency-Key` of a request.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    key = headers.get(IDEMPOTENCY_KEY)
    if key is not None and not 0 < len(key) <= 255:
        raise InvalidRequest("An Idempotency-Key has 1 to 255 characters.", param="Idempotency-Key")
    return key


async def read_body(
    request: Request, limit: int, charge: Callable[[object, int, int], Awaitable[None]] | None = None
) -> bytearray:
    """`charge`: called with a mark of this body, the bytes before, and those that have come.

    Raises:
        RateLimited: by `charge`.
        RequestTooLarge: as soon as more than `limit` bytes are announced or have come.
        ClientDisconnect: the connection was closed before.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise RequestTooLarge(f"The body may have at most {size_text(limit)}.")
    body, mark = bytearray(), object()
    async for chunk in request.stream():
        if charge:
            await charge(mark, len(body), len(chunk))
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(f"The body may have at most {size_text(limit)}.")
    return body


async def parse_body(body: bytes | bytearray, settings: Settings, *, canonical: bool = False) -> ParsedBody:
    """The body of a `POST /v1/generations`.

    Raises:
        InvalidBody: the body is invalid; `param` names the field.
    """
    value = await decode_body(body)
    request, options = await step(body, lambda: schemas.check_create(value, settings))
    form = await step(body, lambda: jsoncodec.canonical(value)) if canonical else b""
    return ParsedBody(request, options, form)


async def decode_body(body: bytes | bytearray) -> Json:
    """
    Raises:
        InvalidBody: the body is not a JSON object, is nested too deeply, or has too many values. (One of at most
            `LARGE_BYTES` has at most 32,000: they are not counted.)
    """
    if len(body) > LARGE_BYTES and await count_values(body) > MAX_VALUES:
        raise InvalidBody(f"The request body has more than {MAX_VALUES} values.")
    return await step(body, lambda: schemas.decode(body))


async def count_values(body: bytes | bytearray) -> int:
    """At least the number of JSON values in a body; more than `MAX_VALUES` only if it has more.

    Each value but the first follows a comma or an opening bracket. These are counted outside of strings, by searches
    over the bytes: 8 MiB take 20 to 60 ms.
    """
    most = await step(body, lambda: sum(map(body.count, (b",", b"[", b"{"))) + 1)
    if most <= MAX_VALUES:
        return most
    marks, start = bytearray(), 0
    while start < len(body):
        after = NO_BACKSLASH.search(body, start + SLICE_BYTES - 1)
        end = after.end() if after else len(body)
        marks += await step(body, lambda piece=body[start:end]: _marks(piece))  # type: ignore[misc]
        start = end
    strings = marks.count(b'"') // 2
    if strings > STRINGS_PER_VALUE * MAX_VALUES:
        return strings // STRINGS_PER_VALUE
    return sum(map(len, marks.split(b'"')[::2])) + 1


def _marks(piece: bytes | bytearray) -> bytes | bytearray:
    """Quotes, commas and opening brackets, without the quotes that are escaped."""
    return piece.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, NOT_MARKS)


async def step(body: bytes | bytearray, work: Callable[[], T]) -> T:
    """One step of the work on a body (`large_requests`)."""
    return await large_requests.step(len(body), work)
