"""Errors of the upstream, and the failures that clients see for them.

A failure repeats the upstream's own message if the message is about the request. A message about the worker's account
(its key, its permissions) is replaced, because upstreams quote the key in it.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import openai

from tailrace import jsoncodec
from tailrace.events import Failure
from tailrace.failures import failure

MAX_MESSAGE_CHARACTERS = 2000
MAX_WORD_CHARACTERS = 200
"""Of a code, a type or a parameter's name."""

MAX_RETRY_AFTER_S = 24 * 3600


class ConnectionLost(Exception):
    """The connection to the upstream broke before the answer was complete."""


class EmptyAnswer(ConnectionLost):
    """The stream ended cleanly, without any content and without a mark of its end."""


UPSTREAM_ERRORS = (ConnectionLost, openai.APIError, TimeoutError, ValueError)
"""Exceptions of a request to the upstream; ValueError: an event that cannot be read (`sse.EventTooLarge`)."""


def is_transient(error: Exception) -> bool:
    """Whether the SDK would send the request again, unless without retries. A 429 is not among them: the client of a
    foreground request repeats it."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500 or error.status_code in (408, 409)
    return isinstance(error, openai.APIConnectionError)


def failure_from_exception(error: Exception) -> Failure:
    """The failure for an exception; it never contains credentials that the upstream quotes."""
    reason = _reason_of(error)
    if not isinstance(error, openai.APIStatusError):
        return reason
    return msgspec.structs.replace(
        reason, status=error.status_code, retry_after=_retry_after_of(error.response.headers)
    )


def _reason_of(error: Exception) -> Failure:
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            message = f"The upstream rejected the worker's credentials (status {error.status_code})."
            return failure("upstream_auth", message)
        case openai.RateLimitError():
            return failure("upstream_rate_limited", _message_of(error))
        case openai.APIStatusError() if error.status_code < 500:
            code, kind = _code_of(error.code), _word_of(error.type)
            return Failure(
                _message_of(error), code or "upstream_refused", kind or "invalid_request_error",
                _word_of(error.param) or None,
            )  # fmt: skip
        case openai.APIStatusError():
            return failure("upstream_error", f"The upstream failed (status {error.status_code}).")
        case openai.APITimeoutError() | TimeoutError():
            return failure("upstream_timeout")
        case EmptyAnswer():
            return failure("upstream_empty")
        case openai.APIConnectionError() | ConnectionLost():
            return failure("upstream_unreachable")
        case ValueError():
            message = f"The upstream's answer could not be parsed: {error}."
            return failure("upstream_unreadable", message[:MAX_MESSAGE_CHARACTERS])
    return failure("internal_error")


def _message_of(error: openai.APIStatusError) -> str:
    body: Any = error.body
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, str):
        message = f"The upstream responded with status {error.status_code}."
    return str(jsoncodec.replace_lone_surrogates(message))[:MAX_MESSAGE_CHARACTERS]


def _retry_after_of(headers: Mapping[str, str]) -> int | None:
    """Seconds, as both SDKs read them; None where there are none, or a date."""
    for name, a_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        with contextlib.suppress(ValueError, OverflowError):
            seconds = math.ceil(float(headers.get(name, "")) / a_second)
            if 0 < seconds <= MAX_RETRY_AFTER_S:
                return seconds
    return None


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
        _code_of(code) or _code_of(kind) or "upstream_error",
        _word_of(kind) or "server_error",
        _word_of(param) or None,
    )


def _word_of(value: Any) -> str:
    """A string of an error object, encodable and cut to its limit; "" where it is none. (The SDK does not check the
    types of these fields, and a `done` with another type could not be read again.)"""
    return str(jsoncodec.replace_lone_surrogates(value))[:MAX_WORD_CHARACTERS] if isinstance(value, str) else ""


def _code_of(value: Any) -> str:
    """The same for a code: some upstreams send a number."""
    return str(value) if isinstance(value, int | float) and value else _word_of(value)
