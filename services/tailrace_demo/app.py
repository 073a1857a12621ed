"""The HTTP routes: chat completions, the list of models, and the record of calls (`/calls`, for tests)."""

import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace_demo.answers import MODELS, ChatRequest, answer
from tailrace_demo.calls import new_ledger
from tailrace_demo.chunks import Envelope
from tailrace_demo.script import ScriptError, Status, Statuses, Step, parse_script
from tailrace_demo.scripted_response import ScriptedResponse

SCRIPTED = "scripted"


class ScriptedRequest(ChatRequest):
    script: list[Any] | None = None
    script_id: Annotated[str, Meta(max_length=200)] = ""


def create_app() -> Starlette:
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/calls", calls),
        ],
        exception_handlers={HTTPException: on_http_error, ScriptError: on_invalid, msgspec.MsgspecError: on_invalid},
    )
    app.state.ledger = new_ledger()
    app.state.started_at = int(time.time())
    return app


async def chat_completions(request: Request) -> Response:
    body = msgspec.json.decode(await request.body(), type=dict[str, Any])
    chat = msgspec.convert(body, ScriptedRequest)
    steps = script_of(chat)
    record = request.app.state.ledger[chat.script_id]
    earlier = record.start(chat.model, body, authorized="authorization" in request.headers)
    status = status_of(steps, earlier)
    if status is not None:
        record.finish()
        return JSONResponse(status.json, status.status, status.headers)
    steps = [step for step in steps if not isinstance(step, Statuses)]
    return ScriptedResponse(steps, Envelope(chat.model), record, stream=bool(chat.stream))


def script_of(chat: ScriptedRequest) -> list[Step]:
    if chat.model != SCRIPTED:
        return answer(chat)
    if chat.script is None:
        raise ScriptError(f"the model {SCRIPTED} requires the request field `script`, a list of steps")
    return parse_script(chat.script)


def status_of(steps: list[Step], earlier: int) -> Status | None:
    """The error status that the script begins with, if it applies after this number of earlier calls."""
    match steps:
        case [Status() as status, *_]:
            return Status(status.status, status.headers, status.json or scripted_error(status.status))
        case [Statuses(statuses, headers), *_] if earlier < len(statuses):
            return Status(statuses[earlier], headers, scripted_error(statuses[earlier]))
    return None


async def models(request: Request) -> Response:
    created = request.app.state.started_at
    data = [{"id": name, "object": "model", "created": created, "owned_by": "tailrace"} for name in (*MODELS, SCRIPTED)]
    return JSONResponse({"object": "list", "data": data})


async def calls(request: Request) -> Response:
    return JSONResponse(request.app.state.ledger[request.query_params.get("script_id", "")].as_json())


def error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def scripted_error(status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    return error(f"Scripted response with status {status}.", kind)


async def on_invalid(request: Request, problem: Exception) -> Response:  # noqa: ARG001
    return JSONResponse(error(str(problem), "invalid_request_error"), 400)


async def on_http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    message = f"{problem.detail}: {request.method} {request.url.path}"
    return JSONResponse(error(message, "invalid_request_error"), problem.status_code, problem.headers)
