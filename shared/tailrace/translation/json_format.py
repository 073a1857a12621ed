"""The JSON that a request asks for: `response_format` of Chat Completions, `text.format` of Responses.

{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}    a schema, in Chat Completions
{"type": "json_schema", "name": …, "schema": {…}}                     the same in Responses
{"type": "json_object"}                                               JSON mode: any value
{"type": "json_object", "schema": {…}}                                a schema, at llama.cpp and others
"""

from typing import Any, NamedTuple

from tailrace.events import Api, Json


class JsonFormat(NamedTuple):
    """`schema`: a JSON Schema; None: the request has none (JSON mode)."""

    schema: Json | None


def json_format_of(api: Api, request: Json) -> JsonFormat | None:
    """The JSON that a stored request asks for; None: it asks for none, or in a form that only its upstream knows."""
    form: Any = request.get("response_format")
    if api == "responses":
        text = request.get("text")
        form = text.get("format") if isinstance(text, dict) else None
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return JsonFormat(schema)
        case {"type": "json_schema" | "json_object", "schema": dict(schema)}:
            return JsonFormat(schema)
        case {"type": "json_schema" | "json_object"}:
            return JsonFormat(None)
    return None
