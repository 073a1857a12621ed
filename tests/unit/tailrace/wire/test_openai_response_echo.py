"""The fields of the Response object that repeat the request."""

from typing import Any

import pytest
from openai.types.responses import Response

from support.logs import record
from tailrace.wire.openai_response_echo import DEFAULTS, echo_of, flattened

SCHEMA = {"type": "object", "properties": {}}
TOOL = {"type": "function", "name": "f", "description": None, "parameters": SCHEMA, "strict": None}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "s: A"}
CUSTOM = {"type": "custom", "name": "c", "format": GRAMMAR}
FORMAT = {"type": "json_schema", "name": "s", "description": None, "schema": SCHEMA, "strict": True}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}

CHAT = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Hello?"}],
    "max_completion_tokens": 9,
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}},
    "verbosity": "low",
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
        {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": GRAMMAR}}},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "temperature": 0,
}
RESPONSES = {
    "model": "demo",
    "input": "Hello?",
    "max_output_tokens": 9,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}, CUSTOM],
    "tool_choice": ALLOWED,
    "temperature": 0,
}


def of_responses(**request: Any) -> Any:
    return echo_of(record(api="responses"), request)


def test_both_apis_are_repeated_alike() -> None:
    echo = echo_of(record(reasoning_summary=True), CHAT)
    assert echo == echo_of(record(api="responses", reasoning_summary=True), RESPONSES)
    assert echo == DEFAULTS | {
        "instructions": None,
        "previous_response_id": None,
        "max_output_tokens": 9,
        "max_tool_calls": None,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": FORMAT, "verbosity": "low"},
        "tools": [TOOL, CUSTOM],
        "tool_choice": ALLOWED,
        "truncation": "disabled",
        "temperature": 0,
    }


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_field_that_the_request_left_out_has_its_default(api: str) -> None:
    assert echo_of(record(api=api), {}) == DEFAULTS | {
        "instructions": None,
        "previous_response_id": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}},
        "tools": [],
        "tool_choice": "auto",
        "truncation": "disabled",
    }


def test_fields_of_a_responses_request_are_repeated() -> None:
    asked = {
        "instructions": "Be.",
        "previous_response_id": "resp_x",
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "store": False,
        "parallel_tool_calls": False,
        "top_logprobs": 2,
    }
    assert of_responses(**asked).items() >= asked.items()


@pytest.mark.parametrize(
    ("reasoning", "echo"),
    [
        (None, {"effort": None, "summary": None}),
        ({"generate_summary": "concise"}, {"effort": None, "summary": "concise"}),
        ({"effort": "low", "context": "all_turns"}, {"effort": "low", "summary": None, "context": "all_turns"}),
        ({"effort": None, "context": None}, {"effort": None, "summary": None}),
    ],
)
def test_reasoning_is_repeated(reasoning: Any, echo: Any) -> None:
    assert of_responses(reasoning=reasoning)["reasoning"] == echo


def test_echo_is_readable_by_the_package() -> None:
    fields = {
        "id": "resp_x", "object": "response", "created_at": 1, "status": "completed", "model": "demo", "output": [],
    }  # fmt: skip
    Response.model_validate(fields | of_responses(**RESPONSES), strict=True)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("value", [3, "x", [], {}, [3], {"type": 3}, {"type": "function"}, [{"type": "custom"}]])
def test_malformed_request_is_repeated_without_an_error(api: str, value: Any) -> None:
    names = ("tools", "tool_choice", "response_format", "text", "reasoning", "metadata", "instructions")
    assert echo_of(record(api=api), dict.fromkeys(names, value))["truncation"] == "disabled"


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        ({"type": "x", "x": {"a": 1}, "b": 2}, {"type": "x", "b": 2, "a": 1}),
        ({"type": "x", "x": 3}, {"type": "x", "x": 3}),
        ({"type": ["x"]}, {"type": ["x"]}),
        ({}, {}),
    ],
)
def test_nested_fields_are_flattened(value: Any, flat: Any) -> None:
    assert flattened(value) == flat
