"""Requests for a Responses upstream: of Responses as they came, of the other APIs translated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from tailrace.events import Api
from tailrace.translation import chat_request, upstream_request
from tailrace.translation.to_responses import responses_request

TEXT = {"type": "text", "text": "See"}
IMAGE = {"type": "image_url", "image_url": {"url": "u"}}
HELLO: dict[str, Any] = {"role": "user", "content": "Hello?"}
OURS = "abcdefghijklmnopqrstuvwxyz"


def translated(**fields: Any) -> dict[str, Any]:
    """The translation of a chat request, without the fields that are always there."""
    body = responses_request("chat", {"model": "m", "messages": [HELLO]} | fields)
    assert body.pop("model") == "m"
    assert body.pop("store") is False
    if "messages" not in fields:
        body.pop("input")
    return body


def items(*messages: dict[str, Any]) -> Any:
    return translated(messages=list(messages))["input"]


def sent(*input_items: dict[str, Any], stores: bool = False) -> Any:
    """The input of a Responses request as it goes out."""
    return responses_request("responses", {"model": "m", "input": list(input_items)}, stores=stores)["input"]


# ── Responses ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_responses_request_goes_out_as_it_came() -> None:
    request: dict[str, Any] = {
        "model": "m", "input": "Hello?", "tools": [{"type": "web_search"}], "truncation": "auto", "x_unknown": {"a": 1},
        "prompt": {"id": "pmpt_1"}, "temperature": None, "include": ["reasoning.encrypted_content"],
    }  # fmt: skip
    assert responses_request("responses", request) == request | {"store": False}


def test_tailraces_own_fields_stay_here() -> None:
    request = {"model": "m", "input": "x", "background": True, "store": True, "stream": True,
               "previous_response_id": "resp_1", "stream_options": {"include_obfuscation": True}}  # fmt: skip
    assert responses_request("responses", request) == {"model": "m", "input": "x", "store": False}
    assert responses_request("responses", request, stores=True)["store"] is True


def test_items_go_out_under_their_upstreams_ids() -> None:
    search = {"type": "web_search_call", "id": f"ws_{OURS}_0.ws_68", "status": "completed"}
    reasoning = {"type": "reasoning", "id": f"rs_{OURS}_1.rs_68", "summary": [], "encrypted_content": "gA"}
    answer = {"type": "message", "id": f"msg_{OURS}_2", "role": "assistant", "content": "x"}
    call = {"type": "function_call", "id": f"fc_{OURS}_3", "call_id": "c", "name": "f", "arguments": "{}"}
    foreign = {"type": "message", "id": "msg_68", "role": "assistant", "content": "y"}
    without = [{k: v for k, v in each.items() if k != "id"} for each in (answer, call)]
    assert sent(search, reasoning, answer, call, foreign) == [
        search | {"id": "ws_68"}, reasoning | {"id": "rs_68"}, *without, foreign,
    ]  # fmt: skip


def test_reasoning_that_the_upstream_cannot_read_is_left_out() -> None:
    summary = {"type": "reasoning", "id": f"rs_{OURS}_0.rs_68", "summary": [{"type": "summary_text", "text": "Hm."}]}
    own_text = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    assert sent(summary, own_text, HELLO) == [own_text, HELLO]
    assert sent(summary, HELLO, stores=True) == [summary | {"id": "rs_68"}, HELLO]


def test_responses_request_without_input_is_refused() -> None:
    with pytest.raises(MissingParameter):
        upstream_request("responses", "responses", {"model": "m"})
    assert upstream_request("responses", "responses", {"model": "m", "prompt": {"id": "p"}})


# ── Chat Completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_become_items() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    assert items(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [TEXT, IMAGE]},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "a.txt"},
        {"role": "assistant", "content": "Yes."},
    ) == [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {
            "type": "message", "role": "user",
            "content": [
                {"type": "input_text", "text": "See"}, {"type": "input_image", "detail": "auto", "image_url": "u"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "a.txt"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
    ]  # fmt: skip


SCHEMA = {"name": "s", "schema": {"type": "object"}, "strict": True}

FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 9}, {"max_output_tokens": 9}),
    ({"max_completion_tokens": 9}, {"max_output_tokens": 9}),
    (
        {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
        {"reasoning": {"effort": "low", "summary": "auto"}},
    ),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    ({"response_format": {"type": "text"}}, {}),
    (
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}, "verbosity": "low"},
        {"text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"}},
    ),
    (
        {"logprobs": True, "top_logprobs": 3},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
    ),
    ({"logprobs": False, "n": 1, "modalities": ["text"], "stop": None, "stream": True}, {}),
    ({"temperature": 0.5, "top_k": 3, "stop": ["x"], "user": "u", "metadata": {"a": "b"}}, {
        "temperature": 0.5, "top_k": 3, "stop": ["x"], "user": "u", "metadata": {"a": "b"}}),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False}]},
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        {"tools": [{"type": "function", "name": "f", "strict": True}]},
    ),
    (
        {"tools": [{"type": "custom", "custom": {"name": "run", "format": {
            "type": "grammar", "grammar": {"syntax": "regex", "definition": ".*"}}}}]},
        {"tools": [{"type": "custom", "name": "run", "format": {
            "type": "grammar", "syntax": "regex", "definition": ".*"}}]},
    ),
    ({"tool_choice": "required"}, {"tool_choice": "required"}),
    (
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": {"type": "function", "name": "f"}},
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("chat", "responses"), FIELDS)
def test_parameters_have_their_names_in_responses(chat: dict[str, Any], responses: dict[str, Any]) -> None:
    assert translated(**chat) == responses


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("audio", {"voice": "x"}),
        ("modalities", ["text", "audio"]),
        ("functions", []),
        ("function_call", "auto"),
    ],
)
def test_parameter_without_a_place_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        translated(**{name: value})
    assert refusal.value.param == name


@pytest.mark.parametrize("fields", [
    {"tools": [{"type": "function", "name": "f", "strict": False, "parameters": {}}], "tool_choice": "auto"},
    {"text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"}, "max_output_tokens": 20},
    {"reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "temperature": 0.5},
])  # fmt: skip
def test_request_that_is_translated_to_chat_and_back_is_the_same(fields: dict[str, Any]) -> None:
    request = {"model": "m", "input": [{"type": "message", "role": "user", "content": "Hello?"}], **fields}
    back = responses_request("chat", chat_request("responses", request))
    assert back.pop("input") == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}
    ]
    assert back == {"model": "m", "store": False, **fields}


def test_ui_messages_become_items() -> None:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}
    body = responses_request("ui-messages", {"model": "m", "messages": [message], "id": "chat", "trigger": "submit"})
    assert body == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}],
        "store": False,
    }


NAMES = st.sampled_from(
    ["type", "role", "content", "text", "id", "input", "messages", "tools", "function", "tool_choice", "name", "n",
     "response_format", "reasoning", "custom", "tool_calls", "json_schema", "logprobs", "verbosity", "x"]
)  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(["chat", "responses"]), st.dictionaries(NAMES, JSON, max_size=6))
def test_translation_never_fails_but_by_a_refusal(api: Api, request: dict[str, Any]) -> None:
    try:
        body = responses_request(api, request)
    except InvalidRequest:
        return
    assert body["store"] is False
