"""Tools, the choice among them, and the format of the text: Responses has the fields beside the type, Chat Completions
under it (`{"type": "function", "function": {…}}`)."""

from typing import Any

from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json
from tailrace.translation.expect import expect_object, expect_objects, expect_text, present, refuse_others

CHOICES = ("none", "auto", "required")


def tools_of(value: Any) -> list[Json]:
    """
    Raises:
        UnsupportedParameter: a tool runs at OpenAI, or has a field that Chat Completions lacks.
        InvalidValue: the value is no list of tools.
    """
    return [_tool(tool, param) for tool, param in expect_objects(value, "tools")]


def tool_choice_of(value: Any) -> str | Json:
    """
    Raises:
        UnsupportedParameter: it names a tool that runs at OpenAI.
        InvalidValue: the value is no choice of tools.
    """
    if isinstance(value, str):
        if value not in CHOICES:
            raise InvalidValue.at("tool_choice", f"must be one of {', '.join(CHOICES)}")
        return value
    choice = expect_object(value, "tool_choice")
    if choice.get("type") != "allowed_tools":
        return _named(choice, "tool_choice")
    refuse_others(choice, {"type", "mode", "tools"}, "tool_choice")
    tools = [_named(tool, param) for tool, param in expect_objects(choice.get("tools"), "tool_choice.tools")]
    mode = expect_text(choice.get("mode"), "tool_choice.mode")
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def response_format_of(value: Any) -> Json | None:
    """The `response_format` of a `text.format`; None for plain text.

    Raises:
        UnsupportedParameter: there is no such format in Chat Completions.
        InvalidValue: the value is no format.
    """
    form = expect_object(value, "text.format")
    match form.get("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            refuse_others(form, {"type", "name", "description", "schema", "strict"}, "text.format")
            schema = expect_object(form.get("schema"), "text.format.schema")
            named = {"name": expect_text(form.get("name"), "text.format.name")}
            return {
                "type": "json_schema",
                "json_schema": named | present(form, "description") | {"schema": schema} | present(form, "strict"),
            }
    raise UnsupportedParameter.at("text.format.type", "must be text, json_object or json_schema")


def _tool(tool: Json, param: str) -> Json:
    match tool.get("type"):
        case "function":
            refuse_others(tool, {"type", "name", "description", "parameters", "strict"}, param)
            name = expect_text(tool.get("name"), f"{param}.name")
            function = {"name": name} | present(tool, "description", "parameters", "strict")
            return {"type": "function", "function": function}
        case "custom":
            refuse_others(tool, {"type", "name", "description", "format"}, param)
            custom: Json = {"name": expect_text(tool.get("name"), f"{param}.name")} | present(tool, "description")
            if tool.get("format") is not None:
                custom["format"] = _input_format(expect_object(tool["format"], f"{param}.format"))
            return {"type": "custom", "custom": custom}
    raise UnsupportedParameter.at(f"{param}.type", "only tools of the types function and custom run at the client")


def _input_format(form: Json) -> Json:
    """The format of a custom tool's input; a grammar's fields go under it."""
    if form.get("type") != "grammar":
        return form
    return {"type": "grammar", "grammar": {name: each for name, each in form.items() if name != "type"}}


def _named(choice: Json, param: str) -> Json:
    """A function or a custom tool by its name."""
    kind = choice.get("type")
    if kind not in ("function", "custom"):
        raise UnsupportedParameter.at(f"{param}.type", "only tools of the types function and custom run at the client")
    refuse_others(choice, {"type", "name"}, param)
    return {"type": kind, kind: {"name": expect_text(choice.get("name"), f"{param}.name")}}
