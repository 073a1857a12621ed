"""Chat Completions.

POST   /v1/chat/completions        the answer: an object at its end, or with `stream` its chunks
GET    /v1/chat/completions/{id}   the same again, for a client that has lost it; `?stream=true&starting_after=41`: the
                                   chunks after that `sequence_number`
DELETE /v1/chat/completions/{id}
"""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from tailrace.errors import Unavailable
from tailrace.events import Json, Options
from tailrace.failures import failure_of
from tailrace.ids import START
from tailrace.log.state import GenerationState
from tailrace.scopes import Scope
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS, openai_chat
from tailrace.wire.chat_completion_object import ChatCompletion
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import decode_body, received, step
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.openai import foreground
from tailrace_frontend.http.openai.answers import StreamedAnswer
from tailrace_frontend.http.openai.errors import AnswerFailed, invalid_parameter, validated
from tailrace_frontend.http.openai.lookup import CHAT_COMPLETION, as_object_not_found, find, headers_of
from tailrace_frontend.http.openai.storage_fields import StorageFields, is_stored, with_retention
from tailrace_frontend.http.openapi import CREATE_FOREGROUND
from tailrace_frontend.http.require import require
from tailrace_frontend.http.stream_endpoint import STREAM_HEADERS
from tailrace_frontend.services import Services
from tailrace_frontend.upstream_requests import request_for

WIRE = WIRE_FORMATS["openai-chat"]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer.", "content": {"application/json": {}, "text/event-stream": {}}}
}

router = APIRouter(prefix="/v1/chat/completions", tags=["chat completions"])


@router.post(
    "", dependencies=[require(Scope.CREATE)], response_model=None, responses=ANSWERS, openapi_extra=CREATE_FOREGROUND
)
async def create(request: Request) -> Response:
    """OpenAI's Chat Completions. The answer's id is also that of a generation and of a Response."""
    services: Services = request.app.state.services
    async with received(services, request) as (caller, body):
        value = await decode_body(body)
        chat, options = await step(body, lambda: _check_create(value, services.settings))
        await step(body, lambda: request_for(services.upstreams, "chat", chat))  # for its refusals
        fields = {"store": is_stored(chat)}
        state = await foreground.create(services, request, caller, chat, options, fields, body_bytes=len(body))
    if chat.get("stream"):
        return foreground.stream(services, request, caller, state, WIRE)
    return foreground.whole(services, request, caller, state, partial(_completion, services))


@router.get("/{completion_id}", dependencies=[require(Scope.READ)], response_model=None, responses=ANSWERS)
async def get(
    request: Request, completion_id: str, stream: bool = False, starting_after: int | None = None
) -> Response:
    """The answer again, once it is complete; `stream`: its chunks, live. `starting_after`: those after that number."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    if stream:
        await services.rate_limits.charge_stream(caller.owner)
    state = await find(services, caller, CHAT_COMPLETION, completion_id)
    if not stream:
        return foreground.whole(services, request, caller, state, partial(_completion, services))
    if starting_after is None or starting_after < 0:
        return foreground.stream(services, request, caller, state, WIRE)
    return await _resume(services, caller, state, starting_after)


@router.delete("/{completion_id}", dependencies=[require(Scope.CANCEL)], response_model=None)
async def delete(request: Request, completion_id: str) -> Response:
    """Delete the answer; one that is under way is cancelled first."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    state = await find(services, caller, CHAT_COMPLETION, completion_id)
    with as_object_not_found(CHAT_COMPLETION, completion_id):
        await services.generations.delete(state.record.id, caller.owner)
    deleted = {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}
    return JSONBytesResponse(deleted, headers=headers_of(state))


def _check_create(value: Json, settings: Settings) -> tuple[Json, Options]:
    """The Chat Completions body, and Tailrace's options.

    Raises:
        InvalidRequest: `param` names the field.
    """
    chat, options = schemas.check_create(value, settings, refuse=invalid_parameter, on_disconnect="cancel")
    validated(StorageFields, chat)
    return chat, with_retention(options, chat)


async def _resume(services: Services, caller: ApiKey, state: GenerationState, starting_after: int) -> Response:
    """The chunks after a sequence number. The last number is that of the finish reason or the usage: after it an answer
    that has ended has its end alone."""
    record, log = state.record, services.log
    has_all = starting_after >= state.seq
    if has_all and (done := await services.generations.end(state)) is not None:
        services.metrics.resumed("ended")
        headers = {name.decode(): value.decode() for name, value in STREAM_HEADERS}
        end = openai_chat.encode_end(done.status, done.error)
        return Response(end, media_type=WIRE.media_type, headers=headers | headers_of(state))
    services.metrics.resumed("continued")
    after = state.position if has_all else await log.id_at(record.id, starting_after, state.epoch)
    position = None if after == START else after
    return StreamedAnswer(services, caller, state, WIRE, position, seen_to=starting_after, may_repeat=False)


async def _completion(services: Services, state: GenerationState, _: bool) -> bytes:
    """The Chat Completion object of a generation that has ended."""
    completion = ChatCompletion(state.record)
    async with services.generations.reads:
        async for entry in services.log.read_all(state.record.id, coalesce=True):
            completion.add(entry)
        if completion.done is None:
            await services.log.state(state.record.id)  # raises NotFound or Gone, unless it came back with older data
            raise Unavailable("Redis has lost the end of the generation.")
        if why := failure_of(completion.done.status, completion.done.error):
            raise AnswerFailed(why)
        return completion.encode()
