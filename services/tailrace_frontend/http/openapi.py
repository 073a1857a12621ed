"""Additions of the routes to the OpenAPI document: the bodies that they parse themselves, and the event stream."""

from typing import Any

from fastapi import FastAPI

from tailrace.errors import NotFound
from tailrace.scopes import Scope
from tailrace_frontend.http import schemas
from tailrace_frontend.http.negotiation import JSON_VIEW
from tailrace_frontend.http.require import require

CREATE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.CreateGeneration.model_json_schema()}},
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "maxLength": 255},
        }
    ],
}
"""The body of a POST, which is parsed by `bodies.parse_body` and not by FastAPI."""

CREATE_FOREGROUND: dict[str, Any] = CREATE | {
    "parameters": [
        *CREATE["parameters"],
        {
            "name": "x-tailrace-on-disconnect",
            "in": "header",
            "schema": {"enum": ["continue", "cancel"]},
        },
    ]
}
"""The same for a request that waits for its answer."""


VIEW: dict[str, Any] = {
    "name": "view",
    "in": "query",
    "required": False,
    "schema": {"enum": [JSON_VIEW]},
}
"""Of the event stream."""


def document_events(api: FastAPI) -> None:
    """Describe the event stream, which `stream_endpoint` answers before FastAPI is asked."""

    @api.get(
        "/v1/generations/{generation_id}/events",
        dependencies=[require(Scope.READ)],
        tags=["generations"],
        responses={
            200: {
                "description": "The log: SSE, or NDJSON or plain text where `Accept` asks for it alone. With "
                "`view=json`: a line of NDJSON for each change of the answer's JSON value."
            },
            204: {"description": "The cursor is at the end: there is nothing more, ever."},
        },
        openapi_extra={
            "parameters": [
                {
                    "name": name,
                    "in": place,
                    "required": place == "path",
                    "schema": {"type": "string"},
                }
                for name, place in (
                    ("generation_id", "path"),
                    ("Last-Event-ID", "header"),
                    ("last_event_id", "query"),
                    ("ticket", "query"),
                )
            ]
            + [VIEW]
        },
    )
    async def events() -> None:
        """Follow the log from its beginning or from a cursor, live, until its end."""
        raise NotFound
