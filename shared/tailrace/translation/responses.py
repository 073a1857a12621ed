"""The parameters of a Responses request, as those of a Chat Completions request.

input, instructions              messages                      (`responses_input`)
tools, tool_choice               the same names                (`responses_tools`)
text.format                      response_format               (`responses_tools`)
text.verbosity                   verbosity
reasoning.effort                 reasoning_effort
max_output_tokens                max_completion_tokens
top_logprobs, include            logprobs, top_logprobs
model, temperature, user, …      the same
background, store, metadata, …   nothing: Tailrace keeps them
conversation, prompt, …          refused
"""

from collections.abc import Callable
from typing import Any

from tailrace.errors import InvalidValue, MissingParameter, UnsupportedParameter
from tailrace.events import Json
from tailrace.translation.expect import expect_object, expect_text, refuse_others
from tailrace.translation.responses_input import messages_of
from tailrace.translation.responses_tools import response_format_of, tool_choice_of, tools_of

LOGPROBS = "message.output_text.logprobs"

INCLUDABLE = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        LOGPROBS,
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""Values of `include`. All but one ask for more of something that is whole already, or that never occurs here."""

KEPT = frozenset(
    {"background", "input", "instructions", "max_tool_calls", "metadata", "previous_response_id", "store", "stream"}
)
"""Fields that are not the upstream's: Tailrace acts on them, and the Response repeats them. (`max_tool_calls` limits
the tools that run at OpenAI, of which there are none.)"""

REFUSED = frozenset({"access_programs", "context_management", "conversation", "image", "moderation", "prompt"})

NAMES_IN_CHAT = {
    "function_call": "tool_choice",
    "functions": "tools",
    "logprobs": "top_logprobs",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "n": "",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}
"""Fields of Chat Completions that Responses has under another name, or not at all: they would replace translated
ones."""


def chat_request(request: Json) -> Json:
    """
    Raises:
        UnsupportedParameter, InvalidValue, MissingParameter: as `translation.chat_request`.
    """
    body: Json = {"model": request.get("model"), "messages": _messages(request)}
    for name, value in request.items():
        if value is None or name in KEPT:
            continue
        if name in REFUSED or name in NAMES_IN_CHAT:
            _refuse(name, value)
            continue
        translate = _FIELDS.get(name)
        body |= translate(value) if translate else {name: value}
    if not body.get("tools"):  # clients send these two always, and OpenAI refuses them without tools
        body.pop("tools", None)
        body.pop("parallel_tool_calls", None)
        if body.get("tool_choice") in ("none", "auto"):
            del body["tool_choice"]
    return body


def wants_logprobs(request: Json) -> bool:
    """Whether the Response has log probabilities."""
    include = request.get("include")
    return bool(request.get("top_logprobs")) or (isinstance(include, list) and LOGPROBS in include)


def wants_summary(request: Json) -> bool:
    """Whether the Response has the model's reasoning as a summary."""
    reasoning = request.get("reasoning")
    return isinstance(reasoning, dict) and bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def _refuse(name: str, value: Any) -> None:
    """Raises UnsupportedParameter, unless the value asks for nothing."""
    if not value:
        return
    if name in REFUSED:
        raise UnsupportedParameter.at(name)
    other = NAMES_IN_CHAT[name]
    raise UnsupportedParameter.at(name, f"this API calls it `{other}`" if other else "this API does not have it")


def _messages(request: Json) -> list[Json]:
    reasoning, instructions = request.get("reasoning"), request.get("instructions")
    all_turns = isinstance(reasoning, dict) and reasoning.get("context") == "all_turns"
    messages = messages_of(request.get("input"), all_turns=all_turns)
    if instructions:
        messages.insert(0, {"role": "system", "content": expect_text(instructions, "instructions")})
    if not messages:
        raise MissingParameter("Missing required parameter: 'input'.", param="input")
    return messages


def _include(value: Any) -> Json:
    if not isinstance(value, list):
        raise InvalidValue.at("include", "must be a list")
    for i, each in enumerate(value):
        if not isinstance(each, str) or each not in INCLUDABLE:
            raise InvalidValue.at(f"include[{i}]", "there is no such value")
    return {"logprobs": True} if LOGPROBS in value else {}


def _reasoning(value: Any) -> Json:
    reasoning = expect_object(value, "reasoning")
    refuse_others(reasoning, {"effort", "summary", "generate_summary", "context"}, "reasoning")
    effort = reasoning.get("effort")
    return {} if effort is None else {"reasoning_effort": effort}


def _stream_options(value: Any) -> Json:
    refuse_others(expect_object(value, "stream_options"), {"include_obfuscation"}, "stream_options")
    return {}


def _text(value: Any) -> Json:
    text = expect_object(value, "text")
    refuse_others(text, {"format", "verbosity"}, "text")
    form = response_format_of(text["format"]) if text.get("format") else None
    fields: Json = {"response_format": form} if form else {}
    return fields | {"verbosity": text["verbosity"]} if text.get("verbosity") else fields


def _top_logprobs(value: Any) -> Json:
    return {"logprobs": True, "top_logprobs": value} if value else {}


def _truncation(value: Any) -> Json:
    if value != "disabled":
        raise UnsupportedParameter.at(
            "truncation", "only the upstream knows the size of the model's context: cut the input"
        )
    return {}


_FIELDS: dict[str, Callable[[Any], Json]] = {
    "include": _include,
    "max_output_tokens": lambda value: {"max_completion_tokens": value},
    "reasoning": _reasoning,
    "stream_options": _stream_options,
    "text": _text,
    "tool_choice": lambda value: {"tool_choice": tool_choice_of(value)},
    "tools": lambda value: {"tools": tools_of(value)},
    "top_logprobs": _top_logprobs,
    "truncation": _truncation,
}
