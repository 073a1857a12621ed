"""The OpenAPI document: as FastAPI reads it from the routes, with the descriptions of `reference`.

FastAPI knows neither the bodies, which the routes parse themselves, nor their errors: it would document a 422, which is
never sent. Schemas that pydantic made for one body bring their definitions along; a document has them in one place.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from tailrace.events import Json
from tailrace_frontend.http import schemas
from tailrace_frontend.http.reference import (
    DESCRIPTION,
    ERROR_EXAMPLES,
    ERRORS,
    EVENT_KINDS,
    EVENTS_EXAMPLE,
    EVERYWHERE,
    FAILED,
    FAILED_DESCRIPTION,
    FAILED_EXAMPLE,
    OPERATIONS,
    PARAMETERS,
    TAGS,
    Operation,
)
from tailrace_frontend.metrics import CONTENT_TYPE_LATEST

SCHEMAS = "#/components/schemas/"
ERROR_SCHEMA: Json = {"$ref": f"{SCHEMAS}ErrorResponse"}
UNUSED = ("HTTPValidationError", "ValidationError")
BEARER: Json = {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the issuer."}
TICKET: Json = {
    "type": "apiKey", "in": "query", "name": "ticket",
    "description": "Reads one log. A generation's `events_url` has it.",
}  # fmt: skip
EVENTS = "/v1/generations/{generation_id}/events"
PLAIN_TEXTS = {"/metrics": CONTENT_TYPE_LATEST}


def openapi_document(api: FastAPI, *, is_open: bool) -> Json:
    """The document of an application with all routes. `is_open`: keys are optional, because the server has none."""
    document = get_openapi(
        title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )  # fmt: skip
    components = document["components"]
    components["schemas"]["ErrorResponse"] = schemas.ErrorResponse.model_json_schema()
    components["securitySchemes"] = {"key": BEARER, "ticket": TICKET}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            row = OPERATIONS.get((method.upper(), path), Operation(operation["summary"]))
            _describe(operation, row, is_open=is_open, path=path)
    _describe_events(document["paths"].get(EVENTS, {}).get("get"))
    _collect_definitions(document, components["schemas"])
    for name in UNUSED:
        components["schemas"].pop(name, None)
    return document


def _describe(operation: Json, row: Operation, *, is_open: bool, path: str) -> None:
    operation["summary"] = row.summary
    for parameter in operation.get("parameters", ()):
        parameter["description"] = PARAMETERS.get(parameter["name"], parameter.get("description", ""))
    is_public = "operations" in operation.get("tags", ())
    if not is_public:
        schemes: list[Json] = [{"key": []}] + [{"ticket": []}] * (path == EVENTS) + [{}] * is_open
        operation["security"] = schemes
    _describe_body(operation, row)
    responses = {code: each for code, each in operation["responses"].items() if code.startswith("2")}
    for code in sorted({*row.errors, *(() if is_public else EVERYWHERE)} - {FAILED}, key=str):
        responses[str(code)] = {"description": ERRORS[int(code)], "content": _error_content(ERROR_EXAMPLES[int(code)])}
    if FAILED in row.errors:
        responses[FAILED] = {"description": FAILED_DESCRIPTION, "content": _error_content(FAILED_EXAMPLE)}
    if operation.get("tags") == ["AI SDK"]:
        contents = responses["200"].get("content", {})
        if "text/event-stream" in contents:  # alone: FastAPI adds JSON to whatever a route names
            responses["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    if media_type := PLAIN_TEXTS.get(path):
        responses["200"]["content"] = {media_type: {"schema": {"type": "string"}}}
    operation["responses"] = responses


def _error_content(example: Json) -> Json:
    return {"application/json": {"schema": ERROR_SCHEMA, "example": example}}


def _describe_body(operation: Json, row: Operation) -> None:
    if row.body is None:
        return
    body = operation.setdefault("requestBody", {"content": {"application/json": {}}})
    content = body["content"]["application/json"]
    if isinstance(row.schema, type) and issubclass(row.schema, BaseModel):
        content["schema"] = row.schema.model_json_schema()
    elif isinstance(row.schema, dict):
        content["schema"] = row.schema
    content["example"] = row.body


def _describe_events(operation: Json | None) -> None:
    """The kinds of event, which no schema of a stream could hold."""
    if operation is None:
        return
    kinds = "".join(f"\n| `{kind}` | {text} |" for kind, text in EVENT_KINDS.items())
    operation["description"] += f"\n\n| event | meaning |\n|---|---|{kinds}"
    text: Json = {"type": "string"}
    operation["responses"]["200"]["content"] = {
        "text/event-stream": {"schema": text, "example": EVENTS_EXAMPLE},
        "application/x-ndjson": {"schema": text},
        "text/plain": {"schema": text},
    }


def _collect_definitions(document: Json, known: Json) -> None:
    """Move the definitions that schemas brought along, and the schemas of bodies, to the one place of a document."""
    for node in list(_objects(document)):
        for name, definition in node.pop("$defs", {}).items():
            known.setdefault(name, definition)
    for node in _objects(document):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            node["$ref"] = SCHEMAS + reference.removeprefix("#/$defs/")
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if title := content.get("schema", {}).get("title"):
                known.setdefault(title, content["schema"])
                content["schema"] = {"$ref": SCHEMAS + title}


def _objects(node: Any) -> Iterator[Json]:
    """Every object in a JSON value, but for examples: those may have any key."""
    if isinstance(node, dict):
        yield node
        for key, child in node.items():
            if key not in ("example", "examples"):
                yield from _objects(child)
    elif isinstance(node, list):
        for child in node:
            yield from _objects(child)
