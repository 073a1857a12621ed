"""Cross-origin resource sharing, the same for FastAPI's routes and for the event stream beside them.

No credentials are used (keys come in a header, tickets in the URL), so `*` may be answered as it stands.
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

EXPOSED = ("location", "retry-after")
ANY = "*"


def allow_origins(api: FastAPI, origins: list[str]) -> None:
    """Have the application answer pages of these origins."""
    if origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id"],
            expose_headers=EXPOSED,
        )


def headers_for(origin: str | None, origins: list[str]) -> list[tuple[bytes, bytes]]:
    """What that middleware adds to an answer to a page of this origin."""
    if origin is None or not (ANY in origins or origin in origins):
        return []
    headers = [(b"access-control-expose-headers", ", ".join(EXPOSED).encode())]
    if ANY in origins:
        return [(b"access-control-allow-origin", b"*"), *headers]
    return [(b"access-control-allow-origin", origin.encode()), *headers, (b"vary", b"origin")]
