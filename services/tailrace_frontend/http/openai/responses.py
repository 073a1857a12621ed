"""Responses.

POST   /v1/responses                   the Response at its end; `stream`: its events; `background`: at once
POST   /v1/responses/input_tokens      the size of a prompt, estimated
GET    /v1/responses/{id}              the Response as it stands; `?stream=true&starting_after=41`: the events behind
                                       that `sequence_number`, live
POST   /v1/responses/{id}/cancel       end a background response
DELETE /v1/responses/{id}
GET    /v1/responses/{id}/input_items  its whole input
"""

import math
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest, InvalidValue, RequestTooLarge
from tailrace.events import Json
from tailrace.ids import START
from tailrace.log.output import BYTES_A_TOKEN
from tailrace.log.state import GenerationState
from tailrace.prompt_size import prompt_bytes
from tailrace.scopes import Scope
from tailrace.sizes import size_text
from tailrace.translation.input_items import input_items
from tailrace.translation.responses import INCLUDABLE
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend import large_requests
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.conversation import is_continuation
from tailrace_frontend.http.bodies import MAX_VALUES, count_values, decode_body, received, step
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.openai import foreground, response_body
from tailrace_frontend.http.openai.answers import StreamedAnswer
from tailrace_frontend.http.openai.foreground import WholeRequest
from tailrace_frontend.http.openai.lookup import RESPONSE, as_object_not_found, find, headers_of
from tailrace_frontend.http.openai.response_json import Order, encoded_response_of, page_of, response_of
from tailrace_frontend.http.openapi import CREATE_FOREGROUND
from tailrace_frontend.http.require import require
from tailrace_frontend.http.whole_reads import answer_whole
from tailrace_frontend.large_requests import Turn
from tailrace_frontend.readable_generations import Snapshot
from tailrace_frontend.services import Services
from tailrace_frontend.upstream_requests import request_for

WIRES = {False: WIRE_FORMATS["openai-responses"], True: WIRE_FORMATS["openai-responses-obfuscated"]}
"""By whether deltas are padded."""

ANSWERS: dict[int | str, Json] = {
    200: {"description": "The Response.", "content": {"application/json": {}, "text/event-stream": {}}}
}

CREATE = CREATE_FOREGROUND | {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": response_body.CreateResponse.model_json_schema()}},
    }
}

router = APIRouter(prefix="/v1/responses", tags=["responses"])


@router.post("", dependencies=[require(Scope.CREATE)], response_model=None, responses=ANSWERS, openapi_extra=CREATE)
async def create(request: Request) -> Response:
    """OpenAI's Responses. The id is also that of a generation and of a Chat Completion."""
    services: Services = request.app.state.services
    async with received(services, request) as (caller, body), services.turn_within(len(body)) as turn:
        value = await decode_body(body)
        asked, options = await step(body, lambda: response_body.check_create(value, services.settings))
        streams = bool(asked.get("stream"))
        if streams:
            services.hub.check_capacity(caller.owner)
        resolve = None
        if await step(body, lambda: is_continuation(asked)):
            resolve = partial(_whole_request, services, caller, asked, turn)
        else:
            await step(body, lambda: _upstream_request(services, asked))  # for its refusals
        fields = response_body.record_fields(asked, services.settings)
        state = await foreground.create(
            services, request, caller, asked, options, fields, body_bytes=len(body), resolve=resolve
        )
    wire = WIRES[response_body.wants_padding(asked)]
    if streams or not state.record.background:
        return await foreground.answer(
            services, request, caller, state, wire, streams=streams, as_object=encoded_response_of
        )
    if state.status == "queued":
        return _answer(Snapshot(state, asked, []))  # a Response repeats nothing of the input
    return await _read(request, services, caller, state)


@router.post("/input_tokens", dependencies=[require(Scope.CREATE)], response_model=None)
async def count_input_tokens(request: Request) -> Response:
    """The size of a prompt, estimated by its length: only the upstream has the model's tokens."""
    services: Services = request.app.state.services
    async with received(services, request) as (caller, body), services.turn_within(len(body)) as turn:
        value = await decode_body(body)
        asked = await step(body, lambda: response_body.check_count(value))
        resolved = await _resolved(services, caller, asked, turn)
        asked_upstream = await turn.step(lambda: _upstream_request(services, resolved.request))
        size = await turn.step(lambda: _prompt_bytes(asked_upstream))
    count = math.ceil(size / BYTES_A_TOKEN)
    return JSONBytesResponse({"object": "response.input_tokens", "input_tokens": count, "estimated": True})


@router.get("/{response_id}", dependencies=[require(Scope.READ)], response_model=None, responses=ANSWERS)
async def get(
    request: Request,
    response_id: str,
    stream: bool = False,
    starting_after: int | None = None,
    include_obfuscation: bool = False,
) -> Response:
    """The Response as it stands; `stream`: its events, live. `starting_after`: those behind that number."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    _check_include(request)
    if stream:
        await services.rate_limits.charge_stream(caller.owner)
    state = await find(services, caller, RESPONSE, response_id)
    if stream:
        return await _stream(services, caller, state, starting_after, pads=include_obfuscation)
    with as_object_not_found(RESPONSE, response_id):
        return await _read(request, services, caller, state)


@router.post("/{response_id}/cancel", dependencies=[require(Scope.CANCEL)], response_model=None)
async def cancel(request: Request, response_id: str) -> Response:
    """End a background response. Repeating it, or cancelling one that has ended, returns it unchanged."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    state = await find(services, caller, RESPONSE, response_id)
    if state.record.foreground and state.record.api == "responses":
        raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")
    with as_object_not_found(RESPONSE, response_id):
        return await _read(request, services, caller, await services.generations.cancel(state.record.id, caller.owner))


@router.delete("/{response_id}", dependencies=[require(Scope.CANCEL)], response_model=None)
async def delete(request: Request, response_id: str) -> Response:
    """Delete the Response; one that is under way is cancelled first."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    state = await find(services, caller, RESPONSE, response_id)
    with as_object_not_found(RESPONSE, response_id):
        await services.generations.delete(state.record.id, caller.owner)
    deleted = {"id": response_id, "object": "response", "deleted": True}
    return JSONBytesResponse(deleted, headers=headers_of(state))


@router.get("/{response_id}/input_items", dependencies=[require(Scope.READ)], response_model=None)
async def list_input_items(
    request: Request,
    response_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """The items that the Response was made from, those of earlier responses included."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    _check_include(request)
    state = await find(services, caller, RESPONSE, response_id)

    async def read() -> JSONBytesResponse:
        items, size = await _input_items(services, state)
        page = page_of(items, after=after, limit=limit, order=order)
        return await large_requests.step(size, lambda: JSONBytesResponse(page, headers=headers_of(state)))

    with as_object_not_found(RESPONSE, response_id):
        return await answer_whole(services, request, caller, read)


async def _whole_request(services: Services, caller: ApiKey, asked: Json, turn: Turn) -> WholeRequest:
    """The part that is stored of a request that continues others.

    Raises:
        InvalidRequest, ObjectNotFound, RequestTooLarge: as `_resolved`, or there is no place in a chat for an item.
    """
    resolved = await _resolved(services, caller, asked, turn)
    await turn.step(lambda: _upstream_request(services, resolved.request))  # for its refusals
    return resolved


async def _resolved(services: Services, caller: ApiKey, asked: Json, turn: Turn) -> WholeRequest:
    """The request with its whole input, which has the limits of a body.

    Raises:
        InvalidRequest, ObjectNotFound: as `Conversations.resolve`.
        RequestTooLarge: the conversation is too long.
    """
    resolved = await services.conversations.resolve(caller.owner, asked, turn)
    if resolved is asked:
        return WholeRequest(asked, turn.size)
    encoded, limit = await turn.step(lambda: jsoncodec.dumps(resolved)), services.settings.max_body_bytes
    await turn.grow(len(encoded))
    if len(encoded) > limit or await count_values(encoded) > MAX_VALUES:
        raise RequestTooLarge(
            f"The whole conversation may have at most {size_text(limit)} and {MAX_VALUES} values.", param="input"
        )
    services.rate_limits.charge_answer(caller.owner, len(encoded))
    return WholeRequest(resolved, len(encoded))


def _upstream_request(services: Services, request: Json) -> Json:
    return request_for(services.upstreams, "responses", request)


def _prompt_bytes(request: Json) -> int:
    return prompt_bytes(request) + len(jsoncodec.dumps(request["tools"]) if request.get("tools") else b"")


async def _input_items(services: Services, state: GenerationState) -> tuple[list[Json], int]:
    """The whole input of a generation, as items, and the bytes of its request.

    Raises:
        NotFound, Gone: the generation has vanished meanwhile.
    """
    record = state.record
    async with services.generations.reads:
        stored = await services.log.stored_request(record.id)
        asked = await large_requests.step(len(stored), lambda: msgspec.json.decode(stored))
        return await large_requests.step(len(stored), lambda: input_items(record.id, record.api, asked)), len(stored)


async def _stream(
    services: Services, caller: ApiKey, state: GenerationState, starting_after: int | None, *, pads: bool
) -> Response:
    """The events of a response from its beginning, or behind a number. A number beyond the end of one that has ended
    leaves the end of the stream alone; beyond that of a live one, the stream waits."""
    number = -1 if starting_after is None else starting_after
    last_seen = min(number, state.seq)
    after = START
    if last_seen > 0:
        services.metrics.resumed("continued")
        after = await services.log.id_at(state.record.id, last_seen - 1, state.epoch)
    return StreamedAnswer(services, caller, state, WIRES[pads], after, seen_to=number, may_repeat=False)


async def _read(request: Request, services: Services, caller: ApiKey, state: GenerationState) -> Response:
    """The Response as it stands."""

    async def read() -> JSONBytesResponse:
        return _answer(await services.generations.snapshot(state))

    return await answer_whole(services, request, caller, read)


def _answer(snapshot: Snapshot) -> JSONBytesResponse:
    return JSONBytesResponse(response_of(snapshot), headers=headers_of(snapshot.state))


def _check_include(request: Request) -> None:
    """Check `include`: known values have no effect, because all that they name is always sent; others are mistakes.

    Raises:
        InvalidValue: there is no such value.
    """
    for name in ("include[]", "include"):
        for value in request.query_params.getlist(name):
            if value not in INCLUDABLE:
                raise InvalidValue(f"{name}: there is no such value.", param=name)
