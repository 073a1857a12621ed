"""The fields of the Response object that repeat the request, for both APIs.

Every field is present; one that the request left out has OpenAI's default. Fields that both APIs call by one name are
copied. Where Chat Completions nests fields under their type (`{"type": "function", "function": {…}}`), Responses has
them beside it: `flattened`. The request may have any form: its caller's API has checked little more than types.
"""

from typing import Any

from tailrace.events import GenerationRecord, Json, objects_in

DEFAULTS: Json = {
    "frequency_penalty": 0.0,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "top_logprobs": 0,
    "top_p": 1.0,
}
"""Fields that both APIs call by one name, with their values where the request has none."""

SCHEMA_DEFAULTS: Json = {"name": "", "description": None, "schema": {}, "strict": False}
TOOL_DEFAULTS: Json = {"name": "", "description": None, "parameters": None, "strict": None}


def echo_of(record: GenerationRecord, request: Json) -> Json:
    """The fields of the Response that repeat the request, in the API that the record names."""
    own = _of_responses(request) if record.api == "responses" else _of_chat(record, request)
    return {
        **own,
        "tools": [_tool(tool) for tool in objects_in(request.get("tools"))],
        "tool_choice": _tool_choice(request.get("tool_choice")),
        "truncation": "disabled",
        **{name: _first(request, name, default=default) for name, default in DEFAULTS.items()},
    }


def flattened(value: Json) -> Json:
    """`{"type": "x", "x": {…}}` as `{"type": "x", …}`; anything else unchanged."""
    name = value.get("type")
    nested = value.get(name) if isinstance(name, str) else None
    if not isinstance(nested, dict):
        return value
    return {"type": name, **{key: each for key, each in value.items() if key not in ("type", name)}, **nested}


def _of_chat(record: GenerationRecord, request: Json) -> Json:
    """The instructions of a chat request are among its messages."""
    summary = "auto" if record.reasoning_summary else None
    return {
        "instructions": None,
        "previous_response_id": None,
        "max_output_tokens": _first(request, "max_completion_tokens", "max_tokens"),
        "max_tool_calls": None,
        "reasoning": {"effort": request.get("reasoning_effort"), "summary": summary},
        "text": _text(request.get("response_format"), request.get("verbosity")),
    }


def _of_responses(request: Json) -> Json:
    text, reasoning = _dict(request.get("text")), _dict(request.get("reasoning"))
    known = {"effort": reasoning.get("effort"), "summary": _first(reasoning, "summary", "generate_summary")}
    others = {name: each for name, each in reasoning.items() if name != "generate_summary" and each is not None}
    return {
        "instructions": request.get("instructions"),
        "previous_response_id": request.get("previous_response_id"),
        "max_output_tokens": request.get("max_output_tokens"),
        "max_tool_calls": request.get("max_tool_calls"),
        "reasoning": known | others,
        "text": _text(text.get("format"), text.get("verbosity")),
    }


def _text(form: Any, verbosity: Any) -> Json:
    flat = flattened(_dict(form)) or {"type": "text"}
    if flat.get("type") == "json_schema":
        flat = SCHEMA_DEFAULTS | {name: each for name, each in flat.items() if each is not None}
    return {"format": flat} | ({"verbosity": verbosity} if verbosity else {})


def _tool(tool: Json) -> Json:
    flat = flattened(tool)
    match flat:
        case {"type": "function"}:
            return {"type": "function", **TOOL_DEFAULTS} | flat
        case {"type": "custom", "format": dict(form)}:
            return flat | {"format": flattened(form)}
    return flat


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice or "auto"
    flat = flattened(choice)
    return flat | {"tools": [flattened(tool) for tool in objects_in(flat["tools"])]} if "tools" in flat else flat


def _first(values: Json, *names: str, default: Any = None) -> Any:
    """The first of these fields that is present and not null."""
    return next((values[name] for name in names if values.get(name) is not None), default)


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
