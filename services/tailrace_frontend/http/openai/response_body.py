"""The body of a Responses request: types are checked here, the meaning by its translation.

Fields that OpenAI's API does not define go to the upstream as they are (`tailrace.translation`, rule 1).
"""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from tailrace.events import Json, Options
from tailrace.settings import Settings
from tailrace.translation.responses import wants_logprobs, wants_summary
from tailrace_frontend.http.openai.errors import validated
from tailrace_frontend.http.openai.storage_fields import StorageFields, is_stored, with_retention
from tailrace_frontend.http.schemas import (
    MAX_MESSAGES,
    Objects,
    TailraceOptions,
    check_option_names,
    options_from,
)

Items = Annotated[Objects, Field(max_length=MAX_MESSAGES)]
Names = Annotated[list[str], Field(fail_fast=True)]


class CountTokens(BaseModel):
    """The fields on which the size of a prompt depends."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str | None = Field(None, max_length=256, examples=["demo"])
    input: str | Items | None = Field(None, examples=["Why is the sky blue?"])
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None


class CreateResponse(CountTokens, StorageFields):
    """A Responses body with Tailrace's options."""

    model: str = Field(min_length=1, max_length=256, examples=["demo"])
    background: bool | None = None
    include: Names | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    max_tool_calls: int | None = Field(None, ge=1)
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None
    tailrace: TailraceOptions | None = None


def check_create(value: Json, settings: Settings) -> tuple[Json, Options]:
    """Split a decoded body into the request and Tailrace's options.

    A stream has no event that takes back what was sent. Without an option for it, a streamed response whose
    worker dies in the middle therefore fails; one that is not streamed begins again.

    Raises:
        InvalidRequest: the body is invalid; `param` names the first field that is.
    """
    check_option_names(value.get("tailrace"))
    checked = validated(CreateResponse, value)
    request = {name: each for name, each in value.items() if name != "tailrace"}
    given = checked.tailrace or TailraceOptions()
    options = options_from(given, settings, "continue" if checked.background else "cancel")
    if checked.stream and "on_interrupt" not in given.model_fields_set:
        options = msgspec.structs.replace(options, on_interrupt="fail")
    return request, with_retention(options, request)


def check_count(value: Json) -> Json:
    """The body of a request for the size of a prompt.

    Raises:
        InvalidRequest: as `check_create`.
    """
    validated(CountTokens, value)
    return value


def record_fields(request: Json, settings: Settings) -> Json:
    """The fields of a generation's record that a Responses request decides."""
    return {
        "api": "responses",
        "background": bool(request.get("background")),
        "reasoning_summary": wants_summary(request) or settings.reasoning_view == "summary",
        "logprobs": wants_logprobs(request),
        "store": is_stored(request),
    }


def wants_padding(request: Json) -> bool:
    """Whether the deltas of the stream are padded."""
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_obfuscation") is True
