"""The parameters of a Responses request."""

from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseIncludable
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from tailrace.errors import InvalidRequest, InvalidValue, MissingParameter, UnsupportedParameter
from tailrace.translation import chat_request
from tailrace.translation.responses import (
    INCLUDABLE,
    KEPT,
    LOGPROBS,
    NAMES_IN_CHAT,
    REFUSED,
    wants_logprobs,
    wants_summary,
)

HELLO = [{"role": "user", "content": "Hello?"}]
BODY = {"model": "m", "messages": HELLO}
TOOL = {"type": "function", "name": "f"}
CHAT_TOOL = {"type": "function", "function": {"name": "f"}}

SAME = {
    "model", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "service_tier", "temperature", "top_p", "user",
}  # fmt: skip
TRANSLATED = {
    "include", "max_output_tokens", "reasoning", "stream_options", "text", "tool_choice", "tools", "top_logprobs",
    "truncation",
}  # fmt: skip


def translated(**fields: Any) -> dict[str, Any]:
    return chat_request("responses", {"model": "m", "input": "Hello?"} | fields)


def test_every_parameter_of_the_package_is_carried_kept_or_refused() -> None:
    known = set(get_type_hints(ResponseCreateParamsBase)) | {"stream"}
    assert known == SAME | TRANSLATED | KEPT | REFUSED
    assert not (SAME | TRANSLATED) & (KEPT | REFUSED)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, {}),
        ({"temperature": 0, "top_p": 0.5, "user": "u"}, {"temperature": 0, "top_p": 0.5, "user": "u"}),
        ({"top_k": 5, "chat_template_kwargs": {"x": 1}}, {"top_k": 5, "chat_template_kwargs": {"x": 1}}),
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"instructions": ""}, {}),
        ({"instructions": "Be."}, {"messages": [{"role": "system", "content": "Be."}, *HELLO]}),
        ({"reasoning": {"effort": "low", "summary": "auto", "mode": "standard"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {}}, {}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": None, "verbosity": None}}, {}),
        ({"top_logprobs": 0}, {}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": [LOGPROBS]}, {"logprobs": True}),
        ({"include": sorted(INCLUDABLE - {LOGPROBS})}, {}),
        ({"truncation": "disabled"}, {}),
        ({"stream_options": {"include_obfuscation": True}}, {}),
        ({"tools": [TOOL]}, {"tools": [CHAT_TOOL]}),
        ({"tools": []}, {}),
        ({"context_management": [], "conversation": "", "moderation": {}, "logprobs": False, "functions": []}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
            {"tools": [CHAT_TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        ),
        (dict.fromkeys(sorted(SAME | TRANSLATED | KEPT | REFUSED | NAMES_IN_CHAT.keys()) , None) | {
            "model": "m", "input": "Hello?"}, {}),
        (
            {"background": True, "max_tool_calls": 3, "metadata": {"a": "b"}, "previous_response_id": "resp_x",
             "store": False, "stream": True},
            {},
        ),
    ],
)  # fmt: skip
def test_parameters_become_those_of_chat(fields: Any, body: Any) -> None:
    assert translated(**fields) == BODY | body


@pytest.mark.parametrize("name", sorted(REFUSED | NAMES_IN_CHAT.keys()))
def test_parameter_without_a_place_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        translated(**{name: 1})
    assert (refusal.value.param, refusal.value.status, refusal.value.code) == (name, 400, "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"text": {"style": "terse"}}, "text.style"),
        ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_value_without_a_place_is_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        translated(**fields)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 3}, "input"),
        ({"instructions": ["Be."]}, "instructions"),
        ({"include": "x"}, "include"),
        ({"include": ["x"]}, "include[0]"),
        ({"include": [LOGPROBS, ["x"]]}, "include[1]"),
        ({"reasoning": "low"}, "reasoning"),
        ({"text": "plain"}, "text"),
        ({"stream_options": True}, "stream_options"),
        ({"tool_choice": "any"}, "tool_choice"),
    ],
)
def test_malformed_parameter_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        translated(**fields)
    assert refusal.value.param == param


@pytest.mark.parametrize("empty", [None, []])
def test_request_without_input_is_refused(empty: Any) -> None:
    with pytest.raises(MissingParameter, match="Missing required parameter: 'input'") as refusal:
        translated(input=empty)
    assert (refusal.value.param, refusal.value.code) == ("input", "missing_required_parameter")


def test_instructions_alone_are_a_request() -> None:
    assert translated(input=None, instructions="Be.")["messages"] == [{"role": "system", "content": "Be."}]


def test_reasoning_context_decides_on_earlier_turns() -> None:
    items = [*HELLO, {"type": "reasoning", "id": "r", "summary": [], "content": [{"text": "Hm."}]}, *HELLO]
    assert len(translated(input=items)["messages"]) == 2
    assert len(translated(input=items, reasoning={"context": "current_turn"})["messages"]) == 2
    assert len(translated(input=items, reasoning={"context": "all_turns"})["messages"]) == 3


def test_includable_values_are_those_of_the_package() -> None:
    assert set(get_args(ResponseIncludable)) == INCLUDABLE


@pytest.mark.parametrize(
    ("request_", "logprobs", "summary"),
    [
        ({}, False, False),
        ({"top_logprobs": 0, "include": [], "reasoning": {}}, False, False),
        ({"top_logprobs": 2, "reasoning": {"summary": "auto"}}, True, True),
        ({"include": [LOGPROBS], "reasoning": {"generate_summary": "concise"}}, True, True),
        ({"include": None, "reasoning": None}, False, False),
        ({"include": 3, "reasoning": 3}, False, False),
    ],
)
def test_wishes_for_the_response(request_: Any, logprobs: bool, summary: bool) -> None:
    assert (wants_logprobs(request_), wants_summary(request_)) == (logprobs, summary)


def test_chat_request_is_the_upstreams_as_it_is() -> None:
    request = {"model": "m", "messages": [], "store": True, "anything": {"else": 1}}
    assert chat_request("chat", request) is request


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.sampled_from(sorted(TRANSLATED)),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "role", "content", "text", "id", "call_id", "name", "arguments", "input", "output", "summary",
             "format", "schema", "tools", "mode", "image_url", "file_data", "encrypted_content", "detail", "strict"]
        ),
        inner
        | st.sampled_from(
            ["message", "user", "assistant", "system", "reasoning", "function_call", "function_call_output",
             "custom_tool_call", "custom_tool_call_output", "item_reference", "input_text", "output_text", "refusal",
             "input_image", "input_file", "input_audio", "function", "custom", "allowed_tools", "json_schema",
             "grammar", "text"]
        ),
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(SAME | TRANSLATED | KEPT)), json_values))
def test_translation_fails_by_an_invalid_request_only(request_: Any) -> None:
    refusal, body = None, BODY
    try:
        body = chat_request("responses", request_)
    except InvalidRequest as error:
        refusal = error
    assert refusal is None or (refusal.param or "?") in refusal.message
    assert body["messages"]
    assert not (body.keys() & (KEPT | {"include", "text", "reasoning", "truncation", "max_output_tokens"}))
