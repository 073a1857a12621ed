"""Chats of the AI SDK: everything but the stream, which `ai_sdk.stream` answers.

POST /api/chat                 answer the chat's last message: the UI message stream itself
GET  /api/chat/{id}/stream     (in `ai_sdk.stream`)
POST /api/chat/{id}/stop       cancel the answer
GET  /api/chat/{id}/messages   the messages up to the last complete answer

The status of a POST is sent at once: `useChat` repeats no request, and shows the body of an error status as it is, JSON
and all. A generation that fails is an `error` in the stream, with its message alone.
"""

import contextlib
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from tailrace import jsoncodec
from tailrace.errors import InvalidBody, NotFound, TailraceError
from tailrace.events import Api, Json, Options
from tailrace.scopes import Scope
from tailrace.translation import chat_request
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.generations import IdempotencyKey
from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import decode_body, idempotency_key, received, step
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.log_response import LogResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.http.stream_endpoint import GENERATION_HEADER
from tailrace_frontend.http.whole_reads import answer_whole
from tailrace_frontend.services import Services
from tailrace_frontend.upstream_requests import request_for

API: Api = "ui-messages"
WIRE = WIRE_FORMATS[API]
MAX_CHAT_ID = 256

NOTHING: dict[int | str, Json] = {204: {"description": "Nothing is being written."}}
ANSWER: dict[int | str, Json] = {200: {"description": "The answer.", "content": {WIRE.media_type: {}}}}

router = APIRouter(prefix="/api/chat", tags=["AI SDK"])


@router.post(
    "",
    dependencies=[require(Scope.CREATE)],
    responses=ANSWER,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def create(request: Request) -> Response:
    """Answer the last message of a chat: the body is what `DefaultChatTransport` sends, `id` and `messages`, and any
    further field of a Chat Completions request."""
    services: Services = request.app.state.services
    async with received(services, request) as (caller, body):
        return await _create(request, services, caller, body)


async def _create(request: Request, services: Services, caller: ApiKey, body: bytearray) -> Response:
    key = idempotency_key(request.headers)
    chat = await _parse(body, services, caller)
    services.hub.check_capacity(caller.owner)
    claim = None
    if key is not None:
        claim = IdempotencyKey(key, await step(body, lambda: jsoncodec.canonical([chat.request, chat.options])))
    state, _ = await services.generations.create(
        caller.owner, chat.request, chat.options, claim, len(body), {"api": API}
    )
    try:
        await services.chats.begin_answer(chat.id, state)
    except TailraceError:
        if claim is None:  # with a key, the client's repetition leads to the generation again
            with contextlib.suppress(TailraceError):
                await services.generations.cancel(state.record.id, caller.owner)
        raise
    return LogResponse(services, WIRE, state, caller, {GENERATION_HEADER: state.record.id})


class ParsedChat(NamedTuple):
    """A chat's id, the request as it is stored, and Tailrace's options."""

    id: str
    request: Json
    options: Options


async def _parse(body: bytearray, services: Services, caller: ApiKey) -> ParsedChat:
    """
    Raises:
        InvalidBody, InvalidValue, UnsupportedParameter: `param` names the field.
    """
    value = await decode_body(body)
    chat_id = value.get("id")
    if not isinstance(chat_id, str) or not 0 < len(chat_id) <= MAX_CHAT_ID or "/" in chat_id:
        raise InvalidBody(f"id: must be a string of 1 to {MAX_CHAT_ID} characters without `/`", param="id")
    if value.get("model") is None:
        value["model"] = await _default_model(services, caller)
    translated = await step(body, lambda: chat_request(API, value))
    await step(body, lambda: request_for(services.upstreams, API, value))  # for its refusals
    _, options = await step(body, lambda: schemas.check_create(translated, services.settings))
    value.pop("tailrace", None)
    return ParsedChat(chat_id, value, options)


async def _default_model(services: Services, caller: ApiKey) -> str:
    """
    Raises:
        InvalidBody: no model is known.
        RedisUnavailable: as `Generations.list_models`.
    """
    if names := await services.generations.list_models(caller.owner):
        return names[0]
    raise InvalidBody("model: is required: no TAILRACE_MODEL is set, and no worker has listed models", param="model")


@router.get("/{chat_id}/stream", dependencies=[require(Scope.READ)], responses=ANSWER | NOTHING)
async def stream(chat_id: str) -> None:  # noqa: ARG001 - it is documented
    """The answer that is being written, from its first part to its end. Answered by `ai_sdk.stream`."""
    raise NotFound


@router.post("/{chat_id}/stop", dependencies=[require(Scope.CANCEL)], responses=NOTHING)
async def stop(request: Request, chat_id: str) -> Response:
    """Cancel the answer that is being written, at the upstream as well. What has been written stays. Idempotent."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    state = await services.chats.stop(chat_id, caller.owner)
    if state is None:
        return Response(status_code=204)
    body = {"id": state.record.id, "status": state.status}
    return JSONBytesResponse(body, headers={GENERATION_HEADER: state.record.id})


@router.get("/{chat_id}/messages", dependencies=[require(Scope.READ)])
async def messages(request: Request, chat_id: str) -> Response:
    """The chat's messages, for a page that is loaded. An answer that is still being written comes by the stream."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)

    async def read() -> JSONBytesResponse:
        return JSONBytesResponse({"id": chat_id, "messages": await services.chats.messages(chat_id, caller.owner)})

    return await answer_whole(services, request, caller, read)
