"""The native API: everything but the event stream, which `stream_endpoint` answers.

POST   /v1/generations              create; with `Accept: text/event-stream` the log itself
GET    /v1/generations              list, newest first
GET    /v1/generations/{id}         request, status, output so far; `?wait=30` until it ends; `?output=false`: neither
GET    /v1/generations/{id}/events  (in `stream_endpoint`)
POST   /v1/generations/{id}/cancel
DELETE /v1/generations/{id}
"""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from tailrace.errors import NotFound
from tailrace.events import Json
from tailrace.ids import is_generation_id
from tailrace.log.state import GenerationState
from tailrace.scopes import Scope
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.generations import IdempotencyKey
from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import client_of, idempotency_key, parse_body, received, step
from tailrace_frontend.http.generation_json import generation_json, list_row, progress
from tailrace_frontend.http.head import is_head
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.log_response import LogResponse
from tailrace_frontend.http.negotiation import check_value, wants_events
from tailrace_frontend.http.openapi import CREATE
from tailrace_frontend.http.require import require
from tailrace_frontend.http.value_json import value_json
from tailrace_frontend.http.whole_reads import answer_whole
from tailrace_frontend.readable_generations import Snapshot
from tailrace_frontend.services import Services, events_url
from tailrace_frontend.upstream_requests import request_for

MAX_WAIT_S = 60

router = APIRouter(prefix="/v1/generations", tags=["generations"])


@router.post(
    "",
    dependencies=[require(Scope.CREATE)],
    status_code=202,
    response_model=schemas.GenerationJson,
    responses={202: {"description": "The generation. (With `Accept: text/event-stream`: 200, and its log.)"}},
    openapi_extra=CREATE,
)
async def create(request: Request) -> Response:
    """Start a generation in the background: 202 with the generation; with `Accept: text/event-stream` its log."""
    services: Services = request.app.state.services
    async with received(services, request) as (caller, body):
        return await _create(request, services, caller, body)


async def _create(request: Request, services: Services, caller: ApiKey, body: bytearray) -> Response:
    key = idempotency_key(request.headers)
    chat, options, canonical = await parse_body(body, services.settings, canonical=key is not None)
    await step(body, lambda: request_for(services.upstreams, "chat", chat))  # for its refusals
    body_bytes = len(body)
    body.clear()  # its content is in `chat`: a large request is in memory three times already
    streams = wants_events(request.headers.get("accept", ""))
    if streams:
        services.hub.check_capacity(caller.owner)
    claim = None if key is None else IdempotencyKey(key, canonical)
    state, submission = await services.generations.create(caller.owner, chat, options, claim, body_bytes)
    location = {"Location": f"/v1/generations/{state.record.id}"}
    if streams:
        return LogResponse(services, WIRE_FORMATS["native"], state, caller, location)
    if submission is None:
        return await _read(request, services, caller, state, 202, location)
    snapshot = Snapshot(state, chat, [], None, *submission)
    return JSONBytesResponse(_as_json(services, caller, snapshot), 202, location)


async def _read(
    request: Request, services: Services, caller: ApiKey, state: GenerationState, status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    """The whole generation.

    Raises:
        NotFound, Gone: as `Generations.snapshot`.
        RateLimited, InvalidRequest: as `answer_whole`.
    """

    async def read() -> JSONBytesResponse:
        snapshot = await services.generations.snapshot(state)
        return JSONBytesResponse(_as_json(services, caller, snapshot), status, headers)

    return await answer_whole(services, request, caller, read)


async def _read_value(request: Request, services: Services, caller: ApiKey, state: GenerationState) -> Response:
    """The output's JSON value so far.

    Raises:
        InvalidValue: the generation has none.
        NotFound, Gone: as `Generations.snapshot`.
        RateLimited, InvalidRequest: as `answer_whole`.
    """
    check_value(state.record)

    async def read() -> JSONBytesResponse:
        snapshot = await services.generations.snapshot(state)
        value = await value_json(snapshot)
        return JSONBytesResponse(value)

    return await answer_whole(services, request, caller, read)


@router.get("", dependencies=[require(Scope.READ)], response_model=schemas.GenerationList)
async def list_generations(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The caller's generations that are still kept, newest first."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers, limit)
    if after is not None:
        after = _checked(after)
    async with services.rate_limits.turn(caller.owner):
        found, has_more = await services.generations.list(caller.owner, limit, after)
    data = [list_row(state, events_url(services, state, caller)) for state in found]
    return JSONBytesResponse(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": has_more,
        }
    )


@router.get(
    "/{generation_id}",
    dependencies=[require(Scope.READ)],
    response_model=schemas.GenerationJson | schemas.GenerationValue,
)
async def get(
    request: Request,
    generation_id: str,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
    output: bool = True,
    view: Literal["json"] | None = None,
) -> Response:
    """The generation with its output so far. `wait`: seconds to wait for its end. `output=false`: neither the request
    nor the output, for a client that follows the events and asks for the place in the queue only. `view=json`: only
    the output's JSON value so far, of a generation whose request asks for JSON."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    wait_s = 0 if is_head(request.scope) else wait  # a head has no field that the end changes
    state = await services.generations.wait(
        _checked(generation_id), caller.owner, wait_s, client_of(request), partial(services.callers.may_read, caller)
    )
    if wait_s:
        services.callers.identify(request.headers)  # once more: its key may have been revoked meanwhile
    if view:
        return await _read_value(request, services, caller, state)
    if output:
        return await _read(request, services, caller, state)
    summary = await services.generations.summary(state)
    beside = progress(summary.state, services.generations.count_readers(generation_id), summary.expires_at)
    return JSONBytesResponse(_as_json(services, caller, summary) | beside)


@router.post("/{generation_id}/cancel", dependencies=[require(Scope.CANCEL)], response_model=schemas.GenerationJson)
async def cancel(request: Request, generation_id: str) -> Response:
    """Cancel the generation. Idempotent: repeating it, or cancelling an ended generation, returns it unchanged."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    state = await services.generations.cancel(_checked(generation_id), caller.owner)
    return await _read(request, services, caller, state)


@router.delete("/{generation_id}", dependencies=[require(Scope.CANCEL)], response_model=schemas.Deleted)
async def delete(request: Request, generation_id: str) -> Response:
    """Delete the generation; a running one is cancelled first."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    await services.generations.delete(_checked(generation_id), caller.owner)
    return JSONBytesResponse({"id": generation_id, "deleted": True})


def _checked(generation_id: str) -> str:
    if not is_generation_id(generation_id):
        raise NotFound
    return generation_id


def _as_json(services: Services, caller: ApiKey, snapshot: Snapshot) -> Json:
    """A generation as JSON, with its request and its output where the snapshot has them."""
    state, request, output, done, position, workers, *_ = snapshot
    known: Json = {"queue_position": position, "last_event_id": str(snapshot.last_id or state.position)}
    if workers is not None:
        known["worker_running"] = workers > 0
    url = events_url(services, state, caller)
    return generation_json(state, url, request=request, output=output, done=done, **known)
