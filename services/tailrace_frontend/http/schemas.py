"""What callers send, and how a generation is told as JSON.

The Chat Completions body is checked for types only: what it says is between the caller and the upstream, so unknown
fields pass through, and the upstream gets the body as it came. The `tailrace` object is ours: unknown fields in it
are refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailrace import jsoncodec
from tailrace.errors import InvalidBody
from tailrace.events import Json, Options
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace.settings import Settings

MAX_DEPTH = 100
"""Levels of a body. What only just parses here would be too deep for a process that reads it lower in its stack."""


class Message(BaseModel):
    """One message. `content` may be parts (text, images, …) or null beside tool calls."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str = Field(min_length=1, max_length=64, examples=["user"])
    content: str | list[dict[str, Any]] | None = Field(None, examples=["Why is the sky blue?"])
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class TailraceOptions(BaseModel):
    """How Tailrace keeps this generation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    on_interrupt: Literal["restart", "fail"] = Field(
        "restart", description="What happens to what was said when the worker is lost: told anew, or ended as failed."
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue",
        description="Whether it goes on when nobody reads; `cancel` ends it 20 s after the last reader left.",
    )
    deadline_s: Annotated[int, Field(ge=1)] | None = Field(None, description="Seconds it may take from create.")
    retention_s: Annotated[int, Field(ge=1)] | None = Field(None, description="Seconds it is kept after its end.")


class CreateGeneration(BaseModel):
    """A Chat Completions body, and how to keep what comes of it. Other fields go to the upstream as they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1, max_length=256, examples=["demo"])
    messages: list[Message] = Field(min_length=1)
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
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    tailrace: TailraceOptions | None = None


class Timings(BaseModel):
    """Seconds."""

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
    events_url: str = Field(description="For `EventSource`; carries a ticket where the server has keys.")
    request: dict[str, Any] | None = None
    output: list[dict[str, Any]] | None = Field(None, description="So far, or in all.")
    finish: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    timings: Timings | None = None
    queue_position: int | None = Field(None, description="Place in the queue, from 1.")
    worker_running: bool | None = Field(None, description="Whether any worker is running at all.")


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
    """The one error shape, everywhere."""

    error: ErrorJson


def parse_create(body: bytes, settings: Settings) -> tuple[Json, Options]:
    """The upstream's request and our options.

    Raises:
        InvalidBody: naming the field that is wrong.
    """
    try:
        value = jsoncodec.loads(body)
    except (ValueError, UnicodeDecodeError):
        raise InvalidBody("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The body is not a JSON object.")
    if _is_deeper_than(MAX_DEPTH, value):
        raise InvalidBody("The body is nested too deeply.")
    try:
        checked = CreateGeneration.model_validate(value)
    except ValidationError as error:
        raise _first_problem(error) from None
    ours = checked.tailrace or TailraceOptions()
    request = {name: each for name, each in value.items() if name != "tailrace"}
    return request, Options(
        deadline_s=_capped("deadline_s", ours.deadline_s, settings.deadline_s),
        retention_s=_capped("retention_s", ours.retention_s, settings.retention_s),
        on_interrupt=ours.on_interrupt,
        on_disconnect=ours.on_disconnect,
    )


def _is_deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [child for each in nested for child in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)


def _first_problem(error: ValidationError) -> InvalidBody:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = [str(part) for part in problem["loc"] if not str(part).startswith(("list[", "dict[", "function-"))]
    while place and place[-1] in ("str", "int", "bool", "float"):
        place.pop()
    param = ".".join(place)
    return InvalidBody(f"{param or 'body'}: {problem['msg']}", param=param or None)


def _capped(name: str, asked: int | None, cap: int) -> int:
    if asked is not None and asked > cap:
        raise InvalidBody(f"tailrace.{name}: at most {cap} on this server", param=f"tailrace.{name}")
    return asked or cap


def generation_json(
    state: GenerationState,
    events_url: str,
    *,
    request: Any = None,
    output: Any = None,
    done: StoredDone | None = None,
    **known: Any,
) -> Json:
    """A generation as its callers see it. With an `output` it is whole: its request, and what its end says.

    `request` and `output` are values, or JSON as it is stored (`msgspec.Raw`).
    """
    record = state.record
    generation: Json = {
        "id": record.id,
        "object": "generation",
        "status": state.terminating if state.terminating and not state.is_final else state.status,
        "model": record.model,
        "created_at": record.created / 1000,
        "events_url": events_url,
    }
    if output is None:
        return generation
    generation |= {"request": request, "output": output}
    generation |= {name: getattr(done, name, None) for name in ("finish", "usage", "error", "timings")}
    return generation | known
