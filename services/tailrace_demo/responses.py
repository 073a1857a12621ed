"""`/v1/responses`: the scenarios, and for tests events as a script has them, also in the background.

    POST   /v1/responses               `demo…`: the answers and scenarios of Chat Completions, as events of Responses
                                       `scripted`: plays the request's `script`
    GET    /v1/responses/{id}          its status; `?stream=true&starting_after=N`: the events behind number N
    POST   /v1/responses/{id}/cancel   ends it

The steps are those of `script`, and one more:

    {"events": [{…}, …], "rate": 40}   each object as an event of its `type`; `rate` events/s

With `background` a script is played once, for all readers: `reset` and `eof` then cut the connection of the first
reader that comes to them, and the script goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace_demo.answers import MODELS, ChatRequest, StreamOptions, answer
from tailrace_demo.calls import Calls
from tailrace_demo.chunks import Envelope
from tailrace_demo.response_events import ResponseEnvelope, frame
from tailrace_demo.scenarios import is_scenario, play
from tailrace_demo.script import (
    STEPS,
    EndOfFile,
    Eof,
    Head,
    Rate,
    Reset,
    ResetConnection,
    ScriptError,
    Statuses,
    Step,
    Write,
    paced,
    parse_script,
)
from tailrace_demo.scripted_response import ScriptedResponse
from tailrace_demo.statuses import error, status_of, unknown_model

SCRIPTED = "scripted"


class Events(Step, frozen=True):
    events: Sequence[dict[str, Any]]
    rate: Rate = None

    async def play(self, envelope: Envelope, write: Write) -> None:  # noqa: ARG002
        async for k in paced(len(self.events), self.rate):
            await write(frame(self.events[k]))


class ResponsesRequest(msgspec.Struct):
    model: str
    script: list[Any] | None = None
    script_id: str = ""
    stream: bool | None = None
    background: bool | None = None
    input: Any = None
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None

    def as_chat(self) -> ChatRequest:
        """The request of Chat Completions that has the same answer."""
        messages = [{"role": "user", "content": self.input}]
        return ChatRequest(
            self.model,
            messages,
            self.stream,
            StreamOptions(include_usage=True),
            tokens_per_second=self.tokens_per_second,
        )


class Answer:
    """An answer in the background: its frames so far. `cuts`: how many frames a connection gets before it is cut."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.cuts: list[tuple[int, type[Exception]]] = []
        self.status = "in_progress"
        self.playing: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    async def play(self, steps: Sequence[Step]) -> None:
        envelope = Envelope(SCRIPTED)
        for step in steps:
            if isinstance(step, Eof | ResetConnection):
                async with self._changed:
                    self.cuts.append((len(self.frames), EndOfFile if isinstance(step, Eof) else Reset))
                    self._changed.notify_all()
            else:
                await step.play(envelope, self._write)
        await self._end("completed")

    async def cancel(self) -> None:
        if self.playing is not None and not self.playing.done():
            self.playing.cancel()
            await self._end("cancelled")

    async def read(self, after: int) -> AsyncIterator[bytes]:
        """The frames behind this number of an event.

        Raises:
            EndOfFile, Reset: a step cuts the connection; each does so once.
        """
        at = 0
        while True:
            async with self._changed:
                while not (at < len(self.frames) or self.has_ended or self._is_cut(at)):
                    await self._changed.wait()
            if self._is_cut(at):
                raise self.cuts.pop(0)[1]
            if at == len(self.frames):
                return
            if number_of(self.frames[at]) > after:
                yield self.frames[at]
            at += 1

    @property
    def has_ended(self) -> bool:
        return self.status != "in_progress"

    def _is_cut(self, at: int) -> bool:
        return bool(self.cuts) and self.cuts[0][0] <= at

    async def _write(self, data: bytes) -> None:
        async with self._changed:
            self.frames.append(data)
            self._changed.notify_all()

    async def _end(self, status: str) -> None:
        async with self._changed:
            self.status = status
            self._changed.notify_all()


def number_of(data: bytes) -> int:
    """The `sequence_number` of a frame; one without it is behind any other."""
    value = msgspec.json.decode(data.partition(b"data: ")[2])
    return int(value.get("sequence_number", 1 << 62))


class TakenUp(Step, frozen=True):
    """Sends what an answer in the background has, and will have, behind a number."""

    answer: Any
    after: int

    async def play(self, envelope: Envelope, write: Write) -> None:  # noqa: ARG002
        async for data in self.answer.read(self.after):
            await write(data)


async def create(request: Request) -> Response:
    body = msgspec.json.decode(await request.body(), type=dict[str, Any])
    asked = msgspec.convert(body, ResponsesRequest)
    if is_scenario(asked.model) or asked.model in MODELS:
        return named(request, asked, body)
    if asked.model != SCRIPTED:
        return JSONResponse(unknown_model(asked.model), 404)
    if asked.script is None:
        raise ScriptError(f"the model {SCRIPTED} requires the request field `script`, a list of steps")
    steps = parse_script(asked.script, STEPS | {"events": Events})
    record: Calls = request.app.state.ledger[asked.script_id]
    status = status_of(steps, record.start(asked.model, body, authorized="authorization" in request.headers))
    if status is not None:
        record.finish()
        return JSONResponse(status.json, status.status, status.headers)
    head = steps[0].head if steps and isinstance(steps[0], Head) else {}
    steps = [step for step in steps if not isinstance(step, Statuses | Head)]
    if not asked.background:
        return ScriptedResponse(steps, Envelope(asked.model), record, stream=True, head=head)
    answer = Answer()
    request.app.state.answers[response_id_of(asked.script)] = answer
    answer.playing = asyncio.create_task(answer.play(steps))
    return ScriptedResponse([TakenUp(answer, -1)], Envelope(asked.model), record, stream=True)


def named(request: Request, asked: ResponsesRequest, body: dict[str, Any]) -> Response:
    """The answer of a model or scenario, which is kept nowhere: `background` has no effect."""
    chat = asked.as_chat()
    is_played = is_scenario(chat.model)
    steps = [*play(chat, request.app.state.repeats.count(chat, asked.script_id))] if is_played else answer(chat)
    record: Calls = request.app.state.ledger[asked.script_id]
    status = status_of(steps, record.start(asked.model, body, authorized="authorization" in request.headers))
    if status is not None:
        record.finish()
        return JSONResponse(status.json, status.status, status.headers)
    head = steps[0].head if isinstance(steps[0], Head) else {}
    steps = [step for step in steps if not isinstance(step, Head)]
    return ScriptedResponse(steps, ResponseEnvelope(asked.model), record, stream=bool(asked.stream), head=head)


def response_id_of(script: Sequence[Any]) -> str:
    """The id in the first event that has one."""
    events = [event for step in script for event in step.get("events", ())]
    return str(next(event["response"]["id"] for event in events if "response" in event))


async def retrieve(request: Request) -> Response:
    answer = request.app.state.answers.get(request.path_params["response_id"])
    if answer is None:
        return JSONResponse(error("There is no such response.", "invalid_request_error"), 404)
    if request.query_params.get("stream") != "true":
        return JSONResponse({"id": request.path_params["response_id"], "object": "response", "status": answer.status})
    after = int(request.query_params.get("starting_after", -1))
    calls = request.app.state.ledger[""]
    return ScriptedResponse([TakenUp(answer, after)], Envelope(SCRIPTED), calls, stream=True)


async def cancel(request: Request) -> Response:
    answer = request.app.state.answers[request.path_params["response_id"]]
    await answer.cancel()
    return JSONResponse({"id": request.path_params["response_id"], "object": "response", "status": answer.status})


RESPONSES_ROUTES = [
    Route("/v1/responses", create, methods=["POST"]),
    Route("/v1/responses/{response_id}", retrieve),
    Route("/v1/responses/{response_id}/cancel", cancel, methods=["POST"]),
]
