"""What the OpenAPI document has beside the routes' signatures: errors, raw bodies, and the event stream."""

from typing import Any

from fastapi import FastAPI

from tailrace.errors import NotFound
from tailrace_frontend.http import schemas

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.ErrorResponse, "description": text}
    for code, text in (
        (400, "The request cannot be understood"), (401, "No valid API key"), (404, "There is no such generation"),
        (410, "Deleted or expired"),
        (429, "Too many requests, generations or readers; retry after `Retry-After`"),
        (503, "Redis is unavailable; retry after `Retry-After` seconds"),
    )
}  # fmt: skip

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
            "description": "The same key and body again: the same generation.",
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
            "description": "Whether the generation continues without its client; by default it is cancelled.",
        },
    ]
}
"""The same for a request that waits for its answer."""


def document_events(api: FastAPI) -> None:
    """Describe the event stream, which `stream_endpoint` answers before FastAPI is asked."""

    @api.get(
        "/v1/generations/{generation_id}/events",
        tags=["generations"],
        responses=ERRORS
        | {
            200: {
                "description": "The log: SSE, or NDJSON or plain text where `Accept` asks for it alone.",
                "content": {"text/event-stream": {}, "application/x-ndjson": {}, "text/plain": {}},
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
                    "description": text,
                }
                for name, place, text in (
                    ("generation_id", "path", "Its id."),
                    ("Last-Event-ID", "header", "Go on after this event."),
                    ("last_event_id", "query", "The same."),
                    ("ticket", "query", "From `events_url`, instead of a key; better as `Authorization: Ticket …`."),
                )
            ]
        },
    )
    async def events() -> None:
        """Follow the log from its beginning or from a cursor, live, until its end."""
        raise NotFound
