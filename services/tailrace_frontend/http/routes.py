"""The native API: everything but the event stream, which `app` answers itself.

POST   /v1/generations              create; with `Accept: text/event-stream` the log itself
GET    /v1/generations              list, newest first
GET    /v1/generations/{id}         request, status, output so far; `?wait=30` until it ends
GET    /v1/generations/{id}/events  (in `app`)
POST   /v1/generations/{id}/cancel
DELETE /v1/generations/{id}
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from tailrace import jsoncodec
from tailrace.errors import Gone, InvalidRequest, NotFound, RequestTooLarge, Unavailable
from tailrace.events import GenerationRecord, Json
from tailrace.ids import is_generation_id, new_generation_id
from tailrace.lifecycle.termination import terminate
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace_frontend.http import schemas
from tailrace_frontend.services import Services, events_url
from tailrace_frontend.streaming.completion_waiter import wait_for_completion
from tailrace_frontend.streaming.log_response import LogResponse

MAX_WAIT_S = 60

router = APIRouter(prefix="/v1/generations", tags=["generations"])
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.ErrorResponse, "description": text}
    for code, text in (
        (400, "The request cannot be understood"), (401, "No valid API key"), (404, "There is no such generation"),
        (410, "Deleted or expired"), (503, "Redis is away; `Retry-After` says when to come again"),
    )
}  # fmt: skip


class JSONBytesResponse(Response):
    """JSON, written once."""

    media_type = "application/json"

    def __init__(self, value: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(jsoncodec.dumps(value), status_code, headers)


@router.post(
    "",
    status_code=202,
    response_model=schemas.GenerationJson,
    responses=ERRORS | {413: {"model": schemas.ErrorResponse}, 429: {"model": schemas.ErrorResponse}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schemas.CreateGeneration.model_json_schema()}},
        },
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "maxLength": 255},
                "description": "The same key and body again: the same generation.",
            }
        ],
    },
)
async def create(request: Request) -> Response:
    """Have a model answer in the background. 202 with the generation; with `Accept: text/event-stream` its log."""
    services: Services = request.app.state.services
    owner = services.callers.identify(request.headers)
    body = await read_body(request, services.settings.max_body_bytes)
    chat, options = schemas.parse_create(body, services.settings)
    streams = wants_events(request.headers.get("accept", ""))
    if streams:
        services.hub.admit(owner)
    generation_id = await _claim(services, request.headers.get("idempotency-key"), owner, body, options.retention_s)
    if not await services.log.exists(generation_id):  # a repeat is served even when nothing new is
        await services.admission.admit(owner)
    record = GenerationRecord(generation_id, owner, chat["model"], options, include_usage=_wants_usage(chat))
    try:
        await services.queue.submit(record, chat)
        state = await services.log.state(generation_id, owner)
        told = None if streams else await _told(services, state, full=True)
        await services.log.state(generation_id, owner)  # last: accepted is what its server still has
    except NotFound:  # it came back with older data
        raise Unavailable("The log's server lost it as it was created.") from None
    services.metrics.created.inc()
    location = {"Location": f"/v1/generations/{generation_id}"}
    return LogResponse(services, state, location) if told is None else JSONBytesResponse(told, 202, location)


async def _claim(services: Services, key: str | None, owner: str, body: bytes, retention_s: int) -> str:
    generation_id = new_generation_id()
    if key is None:
        return generation_id
    if not 0 < len(key) <= 255:
        raise InvalidRequest("An Idempotency-Key has 1 to 255 characters.", param="Idempotency-Key")
    life_s = services.settings.deadline_s + 2 * retention_s
    return await services.queue.claim(owner, key, jsoncodec.canonical(body), generation_id, life_s)


@router.get("", response_model=schemas.GenerationList, responses=ERRORS)
async def list_generations(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The caller's generations that are still kept, newest first."""
    services: Services = request.app.state.services
    owner = services.callers.identify(request.headers)
    if after is not None:
        after = _checked(after)
    found: list[GenerationState] = []
    vanished: list[str] = []
    async for page in services.queue.list_owned(owner, after):
        states = await services.log.states(page)
        vanished += [each for each, state in zip(page, states, strict=True) if state is None]
        found += [state for state in states if isinstance(state, GenerationState)]
        if len(found) > limit:
            break
    await services.queue.forget(owner, vanished)  # only now: pages go by rank
    data = [await _told(services, state) for state in found[:limit]]
    return JSONBytesResponse(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > limit,
        }
    )


@router.get(
    "/{generation_id}",
    response_model=schemas.GenerationJson,
    responses=ERRORS | {429: {"model": schemas.ErrorResponse}},
)
async def get(request: Request, generation_id: str, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0) -> Response:
    """The generation with its output so far. `wait`: seconds to wait for its end."""
    services: Services = request.app.state.services
    owner = services.callers.identify(request.headers)
    generation_id = _checked(generation_id)
    state = await services.log.state(generation_id, owner)
    if wait:
        state = await wait_for_completion(services.hub, state, wait)
    return JSONBytesResponse(await _told(services, state, full=True))


@router.post("/{generation_id}/cancel", response_model=schemas.GenerationJson, responses=ERRORS)
async def cancel(request: Request, generation_id: str) -> Response:
    """End it here and now. Also again, also when it has ended: the answer is the generation as it is."""
    services: Services = request.app.state.services
    owner = services.callers.identify(request.headers)
    generation_id = _checked(generation_id)
    state = await services.log.state(generation_id, owner)
    if not state.is_final:
        await terminate(services.log, services.queue, generation_id, "cancelled")
        state = await services.log.state(generation_id, owner)
    return JSONBytesResponse(await _told(services, state, full=True))


@router.delete("/{generation_id}", response_model=schemas.Deleted, responses=ERRORS)
async def delete(request: Request, generation_id: str) -> Response:
    """Take it away; what runs is cancelled first."""
    services: Services = request.app.state.services
    owner = services.callers.identify(request.headers)
    generation_id = _checked(generation_id)
    state = await services.log.state(generation_id, owner)
    if not state.is_final:
        await terminate(services.log, services.queue, generation_id, "cancelled")
    await services.log.delete(generation_id)
    await services.queue.forget(owner, [generation_id])
    return JSONBytesResponse({"id": generation_id, "deleted": True})


async def read_body(request: Request, limit: int) -> bytes:
    """Raises RequestTooLarge as soon as more than `limit` bytes are announced or have come."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise RequestTooLarge(f"The body may have at most {limit} bytes.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(f"The body may have at most {limit} bytes.")
    return bytes(body)


def wants_events(accept: str) -> bool:
    return "text/event-stream" in accept.lower()


def _wants_usage(chat: Json) -> bool:
    return bool((chat.get("stream_options") or {}).get("include_usage"))


def _checked(generation_id: str) -> str:
    if not is_generation_id(generation_id):
        raise NotFound
    return generation_id


async def _told(services: Services, state: GenerationState, *, full: bool = False) -> Json:
    """A generation as JSON; `full` with its request and output so far."""
    url = events_url(services, state)
    if not full:
        return schemas.generation_json(state, url)
    state, request = await services.log.state(state.record.id), await services.log.request(state.record.id)
    done = await services.log.done_entry(state.record.id) if state.is_final else None
    if done is not None:
        return schemas.generation_json(state, url, request=request, items=done.output, done=done, queue_position=None)
    output = Output([entry async for entry in services.log.read_all(state.record.id)], logprobs=state.record.logprobs)
    if output.done:
        return schemas.generation_json(
            state, url, request=request, items=output.done.output, done=output.done, queue_position=None
        )
    if output.last_seq < 0:
        raise Gone("lost")
    position = await services.queue.position(state.job_id) if state.status == "queued" else None
    return schemas.generation_json(
        state,
        url,
        request=request,
        items=output.items(),
        queue_position=position,
        worker_running=await services.queue.workers() > 0,
    )
