"""The JSON schemas of requests and responses.

A Chat Completions body is checked for types only. Its meaning is a matter of the caller and the upstream, so unknown
fields are accepted and the upstream receives the body unchanged. Unknown fields in the `tailrace` object are rejected.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailrace import jsoncodec
from tailrace.errors import InvalidBody, InvalidRequest
from tailrace.events import Json, Options
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace.settings import Settings

MAX_DEPTH = 100
"""Levels of nesting in a body. A deeper body could exceed the recursion limit of a process that decodes it later."""


MAX_MESSAGES = 10_000
"""Messages in a body. 10,000 of them take 27 ms to check."""

Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]
"""A list of JSON objects. Like each list of a body it is checked up to its first error; each takes 1 KB and 7 µs."""


OnDisconnect = Literal["continue", "cancel"]


class Message(BaseModel):
    """One message. `content` is text, a list of parts (text, images, …), or null beside tool calls."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str = Field(min_length=1, max_length=64, examples=["user"])
    content: str | Objects | None = Field(None, examples=["Why is the sky blue?"])
    name: str | None = None
    tool_calls: Objects | None = None
    tool_call_id: str | None = None


class TailraceOptions(BaseModel):
    """Options for how Tailrace runs and stores this generation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    on_interrupt: Literal["restart", "fail"] = Field(
        "restart",
        description="When the worker is lost: `restart` discards the output and generates it again, `fail` ends the "
        "generation as failed.",
    )
    on_disconnect: OnDisconnect = Field(
        "continue",
        description="Whether the generation continues without readers; `cancel` ends it 20 s (by default) after "
        "the last one left.",
    )
    deadline_s: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Seconds that the generation may take from its creation."
    )
    retention_s: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Seconds that the generation is stored after its end."
    )


class CreateGeneration(BaseModel):
    """A Chat Completions body with Tailrace's options. All other fields are sent to the upstream unchanged."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1, max_length=256, examples=["demo"])
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = Field(None, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    tailrace: TailraceOptions | None = None


class Timings(BaseModel):
    """Durations in seconds."""

    queue: float | None = None
    first_token: float | None = None
    between_tokens_p50: float | None = None
    between_tokens_p95: float | None = None
    total: float | None = None


class GenerationJson(BaseModel):
    """A generation."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["generation"] = "generation"
    status: Literal["queued", "running", "completed", "incomplete", "failed", "cancelled"]
    model: str
    created_at: float = Field(description="Epoch seconds.")
    events_url: str = Field(description="URL for `EventSource`; contains a ticket if the server has API keys.")
    request: dict[str, Any] | None = None
    output: list[dict[str, Any]] | None = Field(None, description="The output so far; after the end, all of it.")
    finish: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    timings: Timings | None = None
    queue_position: int | None = Field(None, description="Place in the queue, from 1.")
    worker_running: bool | None = Field(None, description="Whether any worker is running.")


class GenerationList(BaseModel):
    """A page of generations, newest first."""

    object: Literal["list"] = "list"
    data: list[GenerationJson]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    deleted: Literal[True] = True


class ErrorJson(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """The JSON shape of all errors."""

    error: ErrorJson


def decode(body: bytes | bytearray) -> Json:
    """
    Raises:
        InvalidBody: the body is not a JSON object, or is nested too deeply.
    """
    try:
        value = jsoncodec.loads(body)
    except (ValueError, UnicodeDecodeError):
        raise InvalidBody("The request body is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The request body is not a JSON object.")
    if _is_deeper_than(MAX_DEPTH, value):
        raise InvalidBody("The request body is nested too deeply.")
    return value


class Problem(NamedTuple):
    """What is wrong with a body: the field, what is expected of it, and pydantic's name of the error."""

    param: str | None
    message: str
    type: str


Refuse = Callable[[Problem], InvalidRequest]
"""Makes the error that a route answers with."""


def invalid_body(problem: Problem) -> InvalidRequest:
    """The error of the native API."""
    return InvalidBody(f"{problem.param or 'body'}: {problem.message}", param=problem.param)


def check_create(
    value: Json, settings: Settings, *, refuse: Refuse = invalid_body, on_disconnect: OnDisconnect = "continue"
) -> tuple[Json, Options]:
    """Split a decoded body into the upstream's request and Tailrace's options. `on_disconnect`: where it has none.

    Raises:
        InvalidRequest: the body is invalid; `param` names the first field that is.
    """
    check_option_names(value.get("tailrace"))
    try:
        checked = CreateGeneration.model_validate(value)
    except ValidationError as error:
        raise refuse(first_problem(error)) from None
    request = {name: each for name, each in value.items() if name != "tailrace"}
    return request, options_from(checked.tailrace or TailraceOptions(), settings, on_disconnect)


def options_from(given: TailraceOptions, settings: Settings, on_disconnect: OnDisconnect = "continue") -> Options:
    """The options of a generation. `on_disconnect`: where the body has none.

    Raises:
        InvalidBody: an option exceeds what this frontend allows.
    """
    has_policy = "on_disconnect" in given.model_fields_set
    return Options(
        deadline_s=_capped("deadline_s", given.deadline_s, settings.deadline_s),
        retention_s=_capped("retention_s", given.retention_s, settings.retention_s),
        on_interrupt=given.on_interrupt,
        on_disconnect=given.on_disconnect if has_policy else on_disconnect,
    )


def check_option_names(options: Any) -> None:
    """Refuse options that do not exist. (pydantic would report each unknown name: 1 KB and 7 µs.)

    Raises:
        InvalidBody: there is one.
    """
    names = options if isinstance(options, dict) else ()
    for name in names:
        if name not in TailraceOptions.model_fields:
            param = f"tailrace.{name[:64]}"
            raise InvalidBody(f"{param}: there is no such option", param=param)


def _is_deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [child for each in nested for child in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)


def first_problem(error: ValidationError) -> Problem:
    """The first field of a body that is invalid."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = [str(part) for part in problem["loc"] if not str(part).startswith(("list[", "dict[", "function-"))]
    while place and place[-1] in ("str", "int", "bool", "float"):
        place.pop()
    return Problem(".".join(place) or None, problem["msg"].removeprefix("Value error, "), problem["type"])


def _capped(name: str, value: int | None, cap: int) -> int:
    if value is not None and value > cap:
        raise InvalidBody(f"tailrace.{name}: must be at most {cap} on this frontend", param=f"tailrace.{name}")
    return value or cap


def generation_json(
    state: GenerationState,
    events_url: str,
    *,
    request: Any = None,
    output: Any = None,
    done: StoredDone | None = None,
    **known: Any,
) -> Json:
    """A generation as callers see it. With an `output` it is complete: its request, and the fields of its end.

    `request` and `output` are values, or JSON as it is stored (`msgspec.Raw`).
    """
    record = state.record
    generation: Json = {
        "id": record.id,
        "object": "generation",
        "status": state.status,
        "model": record.model,
        "created_at": record.created / 1000,
        "events_url": events_url,
    }
    if output is None:
        return generation | known
    generation |= {"request": request, "output": output}
    generation |= {name: getattr(done, name, None) for name in ("finish", "usage", "error", "timings")}
    return generation | known
