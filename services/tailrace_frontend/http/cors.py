"""Cross-origin resource sharing, with the same headers for FastAPI's routes and for the event streams beside them.

The API uses no credentials in the sense of CORS (keys are sent in a header, tickets in the URL), so `*` is a valid
`Access-Control-Allow-Origin`.
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

EXPOSED = (
    "location", "retry-after", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests", "x-request-id", "x-should-retry", "x-tailrace-generation",
)  # fmt: skip
ALLOWED = [
    "authorization", "content-type", "idempotency-key", "last-event-id", "openai-beta", "openai-organization",
    "openai-project", "traceparent", "tracestate", "user-agent", "x-client-request-id",
    "x-tailrace-on-disconnect",
    *(
        f"x-stainless-{name}"
        for name in (
            "arch", "async", "helper-method", "lang", "os", "package-version", "poll-helper", "read-timeout",
            "retry-count", "runtime", "runtime-version", "timeout",
        )
    ),
]  # fmt: skip
"""The last ones are those of OpenAI's SDKs, which also run in browsers; the AI SDK sets `user-agent`."""

ANY = "*"


def allow_origins(api: FastAPI, origins: list[str]) -> None:
    """Let pages of these origins read the application's responses."""
    if origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=ALLOWED,
            expose_headers=EXPOSED,
        )


def headers_for(origin: str | None, origins: list[str]) -> list[tuple[bytes, bytes]]:
    """The headers that the middleware adds to a response for a page of this origin."""
    varies = [(b"vary", b"Origin")] if origins else []
    if origin is None or not (ANY in origins or origin in origins):
        return varies
    allowed = b"*" if ANY in origins else origin.encode()
    exposed = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())
    return [(b"access-control-allow-origin", allowed), exposed, *varies]
