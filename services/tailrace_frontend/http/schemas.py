"""The JSON schemas of requests and responses.

A Chat Completions body is checked for types only. Its meaning is a matter of the caller and the upstream, so unknown
fields are accepted and the upstream receives the body unchanged. Unknown fields in the `tailrace` object are rejected.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailrace import jsoncodec
from tailrace.errors import InvalidBody, InvalidRequest
from tailrace.events import Json, OnInterrupt, Options, Priority
from tailrace.ids import GENERATION
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

    on_interrupt: OnInterrupt = Field(
        "restart",
        description="When the worker or the upstream is lost: `restart` discards the output and generates it again, "
        "`fail` ends the generation as failed, `continue` asks the upstream for the rest of a text, where its profile "
        "allows it, and restarts otherwise.",
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
    priority: Priority = Field(
        "normal",
        description="Among the caller's own generations that wait: `high` goes 4 times as often as `normal`, `low` a "
        "quarter as often. Other callers are not affected.",
    )
    previous: Annotated[str, Field(pattern=f"^{GENERATION.pattern}$")] | None = Field(
        None,
        description="Id of the generation that this one continues. Lists and the generation's JSON repeat it, so that "
        "a client that shows the previous one finds the next; `messages` is the whole conversation nevertheless.",
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
    between_tokens_max: float | None = None
    total: float | None = None


class Bucket(BaseModel):
    """Gaps that are longer than the bucket before allows."""

    count: int
    up_to: float | None = Field(None, description="Seconds; left out in the last bucket, which has no upper bound.")


class Gap(BaseModel):
    """A time without content."""

    at: float = Field(description="Epoch seconds of its beginning.")
    seconds: float
    after: str = Field(description="Id of the last event before it.")


class FailedRequest(BaseModel):
    """A request to an upstream that failed."""

    at: float = Field(description="Seconds after the creation.")
    code: str = Field(description="Code of the failure.")
    upstream: str | None = Field(None, description="The upstream's name in tailrace.toml, where there is one.")
    delay: float | None = Field(None, description="Seconds until the next request; left out where there was none.")


class Stream(BaseModel):
    """Measures of the upstream's stream, in all attempts. What was not observed is left out."""

    attempts: int | None = Field(None, description="Runs, the last one included.")
    retries: int | None = Field(None, description="Requests to the upstream that were repeated.")
    chunks: int | None = Field(None, description="Pieces of content that were received.")
    bytes: int | None = Field(None, description="Bytes of the upstream's events.")
    malformed: int | None = Field(None, description="Malformed payloads and values, which were skipped.")
    tokens_per_second: float | None = Field(None, description="In the last attempt, from its first content on.")
    stalls: int | None = Field(None, description="Gaps of more than 3 s.")
    gaps: list[Bucket] = Field([], description="Times between two pieces of content, by their length.")
    slowest: list[Gap] = Field([], description="The ten longest gaps, the longest first.")
    failed: list[FailedRequest] = Field([], description="The last ten requests that failed.")


class Format(BaseModel):
    """Whether the output is the JSON that the request asked for."""

    parsed: bool = Field(description="Whether the text is one JSON value.")
    valid: bool | None = Field(None, description="Whether the value fits the schema, where that could be checked.")
    error: str | None = None


class GenerationValue(BaseModel):
    """The output of a generation as a JSON value (`view=json`)."""

    id: str
    object: Literal["generation.value"] = "generation.value"
    status: Literal["queued", "running", "completed", "incomplete", "failed", "cancelled"]
    value: Any = Field(description="The value of the text so far; null until it has one.")
    is_complete: bool = Field(description="Whether the text is one whole JSON value.")
    refusal: str | None = Field(None, description="The text with which the model refused to answer.")
    error: str | None = Field(None, description="Why the text is no JSON.")
    format: Format | None = Field(None, description="After the end: whether the whole is JSON that fits the schema.")
    last_event_id: str = Field(description="The last event that the value includes.")


GENERATION_EXAMPLE: Json = {
    "id": "gen_yzm3v7lq2n5xk4jt6hbr7wdcae", "object": "generation", "status": "queued", "model": "demo",
    "created_at": 1795334400.0, "events_url": "/v1/generations/gen_yzm3v7lq2n5xk4jt6hbr7wdcae/events",
    "request": {"model": "demo", "messages": [{"role": "user", "content": "What survives?"}]}, "output": [],
    "finish": None, "usage": None, "cost": None, "error": None, "timings": None, "stream": None, "upstream": None,
    "queue_position": 1, "worker_running": True, "last_event_id": "1795334400000-0",
}  # fmt: skip


class GenerationJson(BaseModel):
    """A generation."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [GENERATION_EXAMPLE]})

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
    cost: float | None = Field(None, description="US dollars, where the operator has given the model's prices.")
    error: dict[str, Any] | None = None
    timings: Timings | None = None
    stream: Stream | None = None
    upstream: dict[str, Any] | None = Field(
        None,
        description="After the end: the upstream's `id` of the answer, its name for the `model`, and its `name` in "
        "`tailrace.toml`, where there is one.",
    )
    format: Format | None = Field(
        None, description="After the end, where the request asks for JSON: whether the output is that."
    )
    continued: int | None = Field(
        None, description="After the end: how often a later attempt continued the output (`on_interrupt: continue`)."
    )
    queue_position: int | None = Field(None, description="Place in the queue, from 1.")
    worker_running: bool | None = Field(None, description="Whether any worker is running.")
    last_event_id: str | None = Field(
        None, description="The last event that `output` includes: as `Last-Event-ID`, it continues this output."
    )
    previous: str | None = Field(None, description="The generation that it continues, where its creation named one.")
    preview: str | None = Field(
        None,
        description="In lists: the first 80 characters of the last user message, on one line.",
    )
    tokens: int | None = Field(None, description="In lists: tokens of the output, once the usage is known.")
    attempt: int | None = Field(None, description="In lists and with `output=false`: runs so far.")
    worker: str | None = Field(
        None, description="With `output=false`: short name of the worker that runs it, or ran it last."
    )
    readers: int | None = Field(
        None, description="With `output=false`: event streams of this frontend that read the generation."
    )
    expires_at: float | None = Field(
        None, description="With `output=false`, once it has ended: epoch seconds until which it is stored."
    )


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


class ShareJson(BaseModel):
    """A link by which others read a generation. Times in epoch seconds."""

    id: str
    created_at: int
    expires_at: int


class SharedLink(ShareJson):
    """The link itself, shown once: of the page, and of the event stream."""

    url: str
    events_url: str


class ShareList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ShareJson]


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
    """A mistake in a body: the field, what is expected of it, and pydantic's name of the error."""

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
        previous=given.previous or "",
        priority=given.priority,
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
