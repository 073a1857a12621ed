"""The HTTP routes: chat completions, responses, the list of models, and for tests the record of calls
(`/calls`) and the release of scripts that hold (`/release`).
"""

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
from tailrace_demo.holds import HOLDS
from tailrace_demo.responses import RESPONSES_ROUTES
from tailrace_demo.scenarios import Repeats, UnknownScenario, is_scenario, play
from tailrace_demo.script import Head, ScriptError, Statuses, Step, parse_script
from tailrace_demo.scripted_response import ScriptedResponse
from tailrace_demo.statuses import error, status_of, unknown_model

SCRIPTED = "scripted"
"""Not among the listed models: it needs a script, which tests send."""


class ScriptedRequest(ChatRequest):
    """`continuation`: the script for a request whose last message is the assistant's, to be continued."""

    script: list[Any] | None = None
    continuation: list[Any] | None = None
    script_id: Annotated[str, Meta(max_length=200)] = ""


def create_app() -> Starlette:
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            *RESPONSES_ROUTES,
            Route("/v1/models", models),
            Route("/calls", calls),
            Route("/release", release, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: on_http_error,
            ScriptError: on_invalid,
            UnknownScenario: on_unknown_scenario,
            msgspec.MsgspecError: on_invalid,
        },
    )
    app.state.ledger = new_ledger()
    app.state.repeats = Repeats()
    app.state.answers = {}
    app.state.started_at = int(time.time())
    return app


async def chat_completions(request: Request) -> Response:
    body = msgspec.json.decode(await request.body(), type=dict[str, Any])
    chat = msgspec.convert(body, ScriptedRequest)
    if not is_scenario(chat.model) and chat.model not in (*MODELS, SCRIPTED):
        return JSONResponse(unknown_model(chat.model), 404)
    steps = script_of(chat, request.app.state.repeats)
    record = request.app.state.ledger[chat.script_id]
    earlier = record.start(chat.model, body, authorized="authorization" in request.headers)
    status = status_of(steps, earlier)
    if status is not None:
        record.finish()
        return JSONResponse(status.json, status.status, status.headers)
    head = steps[0].head if steps and isinstance(steps[0], Head) else {}
    steps = [step for step in steps if not isinstance(step, Statuses | Head)]
    return ScriptedResponse(steps, Envelope(chat.model), record, stream=bool(chat.stream), head=head)


def script_of(chat: ScriptedRequest, repeats: Repeats) -> list[Step]:
    if is_scenario(chat.model):
        return [*play(chat, repeats.count(chat, chat.script_id))]
    if chat.model != SCRIPTED:
        return answer(chat)
    if chat.script is None:
        raise ScriptError(f"the model {SCRIPTED} requires the request field `script`, a list of steps")
    if chat.continuation is not None and chat.messages[-1:] and chat.messages[-1].get("role") == "assistant":
        return parse_script(chat.continuation)
    return parse_script(chat.script)


async def models(request: Request) -> Response:
    created = request.app.state.started_at
    data = [{"id": name, "object": "model", "created": created, "owned_by": "tailrace"} for name in MODELS]
    return JSONResponse({"object": "list", "data": data})


async def calls(request: Request) -> Response:
    return JSONResponse(request.app.state.ledger[request.query_params.get("script_id", "")].as_json())


async def release(request: Request) -> Response:
    HOLDS[request.query_params.get("hold", "")].set()
    return Response(status_code=204)


async def on_invalid(request: Request, problem: Exception) -> Response:  # noqa: ARG001
    return JSONResponse(error(str(problem), "invalid_request_error"), 400)


async def on_unknown_scenario(request: Request, problem: Exception) -> Response:  # noqa: ARG001
    return JSONResponse(error(str(problem), "invalid_request_error", "model", "model_not_found"), 404)


async def on_http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    message = f"{problem.detail}: {request.method} {request.url.path}"
    return JSONResponse(error(message, "invalid_request_error"), problem.status_code, problem.headers)
