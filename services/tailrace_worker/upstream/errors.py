"""Errors of the upstream, and the failures that clients see for them.

A failure repeats the upstream's own message where it is about the request. Where it is about the worker's account
(its key, its permissions), the message is replaced: upstreams quote the key in it.
"""

from typing import Any

import openai

from tailrace import jsoncodec
from tailrace.events import Failure

MAX_MESSAGE_CHARACTERS = 2000


class ConnectionLost(Exception):
    """The connection to the upstream broke before the answer was complete."""


class EmptyAnswer(ConnectionLost):
    """The stream ended cleanly, without any content and without an end."""


UPSTREAM_ERRORS = (ConnectionLost, openai.APIError, TimeoutError, ValueError)
"""What a request to the upstream may raise; ValueError for an event that cannot be read (`sse.EventTooLarge`)."""


def failure_from_exception(error: Exception) -> Failure:
    """The failure for an exception; it never contains credentials that the upstream quotes."""
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            message = f"The upstream rejected the worker's credentials (status {error.status_code})."
            return Failure(message, "upstream_auth")
        case openai.RateLimitError():
            return Failure(_message_of(error), "upstream_rate_limited", "rate_limit_exceeded")
        case openai.APIStatusError() if error.status_code < 500:
            return Failure(_message_of(error), error.code or "upstream_refused", error.type or "invalid_request_error")
        case openai.APIStatusError():
            return Failure(f"The upstream failed (status {error.status_code}).", "upstream_error")
        case openai.APITimeoutError():
            return Failure("The upstream did not respond in time.", "upstream_timeout")
        case EmptyAnswer():
            return Failure("The upstream's stream ended without any content.", "upstream_empty")
        case openai.APIConnectionError() | ConnectionLost():
            return Failure("The connection to the upstream was lost.", "upstream_unreachable")
        case TimeoutError():
            return Failure("The upstream sent no content within its timeout.", "upstream_timeout")
        case ValueError():
            message = f"The upstream's answer cannot be parsed: {error}"
            return Failure(message[:MAX_MESSAGE_CHARACTERS], "upstream_unreadable")
    return Failure("Internal error of the worker.", "internal_error")


def _message_of(error: openai.APIStatusError) -> str:
    body: Any = error.body
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, str):
        message = f"The upstream responded with status {error.status_code}."
    return str(jsoncodec.replace_lone_surrogates(message))[:MAX_MESSAGE_CHARACTERS]


def failure_from_json(error: Any) -> Failure:
    """The failure for an error that an upstream sent in its stream: an object with any of the usual fields, or a
    message alone. Its strings must be encodable (`LenientReader.verbatim`)."""
    if not isinstance(error, dict):
        error = {"message": error}
    message, code, kind, param = (error.get(key) for key in ("message", "code", "type", "param"))
    if not isinstance(message, str):
        message = jsoncodec.dumps(message).decode() if message else "The upstream failed."
    return Failure(
        message[:MAX_MESSAGE_CHARACTERS],
        str(code or kind or "upstream_error"),
        kind if kind and isinstance(kind, str) else "server_error",
        param if param and isinstance(param, str) else None,
    )
