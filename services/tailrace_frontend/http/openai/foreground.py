"""Requests of OpenAI's API that create a generation, and requests that wait for one.

A generation that is waited for (foreground) is cancelled soon after its last client has left, and is not retried by the
worker after a 429 of the upstream: the client's SDK does that.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace import jsoncodec
from tailrace.errors import InvalidValue, Unavailable
from tailrace.events import Json, Options
from tailrace.failures import failure
from tailrace.log.state import GenerationState
from tailrace.wire import WireFormat
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.generations import NO_FIELDS, IdempotencyKey
from tailrace_frontend.http.openai import retries
from tailrace_frontend.http.openai.answers import ReadAnswer, StreamedAnswer, WholeAnswer
from tailrace_frontend.http.openai.errors import AnswerFailed, is_abandoned
from tailrace_frontend.large_requests import step
from tailrace_frontend.readable_generations import Snapshot
from tailrace_frontend.services import Services

ON_DISCONNECT = "x-tailrace-on-disconnect"
POLICIES = ("continue", "cancel")


class WholeRequest(NamedTuple):
    """A request as it is stored, and its size as JSON in bytes."""

    request: Json
    size: int


async def create(
    services: Services, request: Request, caller: ApiKey, body: Json, options: Options,
    record_fields: Json = NO_FIELDS, *, body_bytes: int, resolve: Callable[[], Awaitable[WholeRequest]] | None = None,
) -> GenerationState:  # fmt: skip
    """The generation of a request: a new one, or the one that the request repeats.

    `body` is stored as the generation's request, unless it depends on other generations: then `resolve` makes what is
    stored of it. Requests are compared as they were sent, and one that repeats another is not resolved: the other
    generations may have gone. `record_fields`: of the record; it is foreground unless they have `background`.

    Raises:
        Those of `resolve`.
        InvalidRequest: a header is wrong, or an Idempotency-Key was used with another body.
        ModelNotFound, RateLimited, Unavailable: the request is refused.
        Gone: the generation that the request repeats was deleted, or has expired.
    """
    is_foreground = not record_fields.get("background", False)
    if services.hub.draining:
        raise Unavailable("This frontend is stopping.")
    if is_foreground:
        services.hub.check_capacity(caller.owner)
    options = with_policy(options, request.headers)
    key = await _key_of(request, body, options, body_bytes)
    whole_request = WholeRequest(body, body_bytes)
    if resolve is not None:
        if key is not None:
            repeated, key = await retries.find(services.generations, caller.owner, body, key)
            if repeated is not None:
                return repeated
        whole_request = await resolve()
    return await _create(services, caller, whole_request, options, key, record_fields | {"foreground": is_foreground})


async def _key_of(request: Request, body: Json, options: Options, body_bytes: int) -> IdempotencyKey | None:
    if not retries.will_repeat(request.headers):
        return None
    compared = [request.scope["path"], body, options]
    identity = await step(body_bytes, lambda: jsoncodec.canonical(compared))
    return await step(body_bytes, lambda: retries.key_of(request.headers, identity, options))


async def _create(
    services: Services, caller: ApiKey, whole_request: WholeRequest, options: Options, key: IdempotencyKey | None,
    fields: Json,
) -> GenerationState:  # fmt: skip
    body, size = whole_request
    while True:
        state, submission = await services.generations.create(caller.owner, body, options, key, size, fields)
        if key is None or submission is not None or not await retries.is_over(services.generations, state, key):
            return state
        key = retries.next_key(key, state)


def with_policy(options: Options, headers: Mapping[str, str]) -> Options:
    """The options with what a header decides: whether the generation continues without its client.

    Raises:
        InvalidValue: the header has another value.
    """
    given = headers.get(ON_DISCONNECT)
    if given is None:
        return options
    if given not in POLICIES:
        raise InvalidValue(f"{ON_DISCONNECT} is `continue` or `cancel`.", param=ON_DISCONNECT)
    return msgspec.structs.replace(options, on_disconnect=given)


async def answer(
    services: Services, request: Request, caller: ApiKey, state: GenerationState, wire: WireFormat, *,
    streams: bool, as_object: Callable[[Snapshot], bytes],
) -> Response:  # fmt: skip
    """The answer of a generation: its stream in a format, or, at its end, an object made of all of it.

    `as_object` may raise AnswerFailed; a generation that has failed is passed to it only where the status was sent.
    """
    if streams:
        return stream(services, request, caller, state, wire)
    return whole(services, request, caller, state, partial(_read_object, services, as_object))


def stream(services: Services, request: Request, caller: ApiKey, state: GenerationState, wire: WireFormat) -> Response:
    """The stream of a generation from its beginning."""
    return StreamedAnswer(services, caller, state, wire, may_repeat=_may_repeat(request))


def whole(services: Services, request: Request, caller: ApiKey, state: GenerationState, read: ReadAnswer) -> Response:
    """The answer of a generation at its end, as `read` makes it."""
    will_repeat = retries.will_repeat(request.headers)
    return WholeAnswer(services, caller, state, read, may_repeat=_may_repeat(request), will_repeat=will_repeat)


async def _read_object(
    services: Services, as_object: Callable[[Snapshot], bytes], state: GenerationState, is_late: bool
) -> bytes:
    snapshot = await services.generations.snapshot(state)
    if snapshot.done is None:  # a server that came back with older data
        raise Unavailable("Redis has lost the end of the generation.")
    if is_abandoned(snapshot.done.error) or (snapshot.done.status == "failed" and not is_late):
        raise AnswerFailed(snapshot.done.error or failure("server_error"))
    return as_object(snapshot)


def _may_repeat(request: Request) -> bool:
    return request.method == "POST"
