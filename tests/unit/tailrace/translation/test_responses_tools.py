"""Tools, the choice among them, formats."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionToolUnionParam
from openai.types.responses.tool_param import ToolParam
from pydantic import TypeAdapter

from support.openai_types import types_in
from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.translation.responses_tools import response_format_of, tool_choice_of, tools_of

SCHEMA = {"type": "object", "properties": {}}
CARRIED = {"function", "custom"}
TOOLS = TypeAdapter(list[ChatCompletionToolUnionParam])


@pytest.mark.parametrize(
    ("tool", "translated"),
    [
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "function", "name": "f", "description": "F.", "parameters": SCHEMA, "strict": True},
            {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}},
        ),
        (
            {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None,
             "defer_loading": False, "output_schema": None, "allowed_callers": ["direct"]},
            {"type": "function", "function": {"name": "f"}},
        ),
        (
            {"type": "function", "name": "f", "parameters": {}, "strict": False},
            {"type": "function", "function": {"name": "f", "parameters": {}, "strict": False}},
        ),
        ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
        (
            {"type": "custom", "name": "c", "description": "C.", "format": {"type": "text"}},
            {"type": "custom", "custom": {"name": "c", "description": "C.", "format": {"type": "text"}}},
        ),
        (
            {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "s: A"}},
            {"type": "custom", "custom": {"name": "c", "format": {
                "type": "grammar", "grammar": {"syntax": "lark", "definition": "s: A"}}}},
        ),
    ],
)  # fmt: skip
def test_tool_of_the_client_is_carried(tool: Any, translated: Any) -> None:
    assert tools_of([tool]) == [translated]
    TOOLS.validate_python([translated])


def test_every_type_of_tool_is_carried_or_refused_by_its_place() -> None:
    known = types_in(ToolParam)
    assert known > CARRIED
    for name in known - CARRIED:
        with pytest.raises(UnsupportedParameter) as refusal:
            tools_of([{"type": "function", "name": "f"}, {"type": name}])
        assert refusal.value.param == "tools[1].type"


@pytest.mark.parametrize(
    ("field", "value"),
    [("defer_loading", True), ("allowed_callers", ["programmatic"]), ("output_schema", SCHEMA), ("async", True)],
)
def test_field_of_a_tool_without_a_place_is_refused_by_name(field: str, value: Any) -> None:
    for tool in ({"type": "function", "name": "f"}, {"type": "custom", "name": "c"}):
        with pytest.raises(UnsupportedParameter) as refusal:
            tools_of([tool | {field: value}])
        assert refusal.value.param == f"tools[0].{field}"


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        (["f"], "tools[0]"),
        ([{"type": "function"}], "tools[0].name"),
        ([{"type": "function", "function": {"name": "f"}, "name": None}], "tools[0].function"),
        ([{"type": "custom", "name": 3}], "tools[0].name"),
        ([{"type": "custom", "name": "c", "format": "text"}], "tools[0].format"),
    ],
)
def test_malformed_tool_is_named(tools: Any, param: str) -> None:
    with pytest.raises((InvalidValue, UnsupportedParameter)) as refusal:
        tools_of(tools)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("choice", "translated"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {"type": "allowed_tools", "allowed_tools": {
                "mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
        ),
    ],
)  # fmt: skip
def test_choice_of_tools_is_carried(choice: Any, translated: Any) -> None:
    assert tool_choice_of(choice) == translated


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "web_search_preview"}, "tool_choice.type"),
        ({"type": "mcp", "server_label": "s"}, "tool_choice.type"),
        ({"type": "function", "name": "f", "strict": True}, "tool_choice.strict"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, "tool_choice.tools[0].type"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [], "strict": True}, "tool_choice.strict"),
    ],
)
def test_choice_without_a_place_is_refused_by_name(choice: Any, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        tool_choice_of(choice)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("any", "tool_choice"),
        (3, "tool_choice"),
        ([], "tool_choice"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "allowed_tools", "mode": "auto"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": []}, "tool_choice.mode"),
    ],
)
def test_malformed_choice_is_named(choice: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        tool_choice_of(choice)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("form", "translated"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        ),
        (
            {"type": "json_schema", "name": "n", "description": "N.", "schema": SCHEMA, "strict": False},
            {"type": "json_schema", "json_schema": {
                "name": "n", "description": "N.", "schema": SCHEMA, "strict": False}},
        ),
    ],
)  # fmt: skip
def test_format_is_carried(form: Any, translated: Any) -> None:
    assert response_format_of(form) == translated


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ("text", "text.format"),
        ({"type": "grammar"}, "text.format.type"),
        ({}, "text.format.type"),
        ({"type": "json_schema", "name": "n"}, "text.format.schema"),
        ({"type": "json_schema", "schema": SCHEMA}, "text.format.name"),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA, "mode": "x"}, "text.format.mode"),
    ],
)
def test_other_format_is_named(form: Any, param: str) -> None:
    with pytest.raises((InvalidValue, UnsupportedParameter)) as refusal:
        response_format_of(form)
    assert refusal.value.param == param
