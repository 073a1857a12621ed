"""Errors of an upstream: their rows in the table (`conditions`), and the failures that clients see for them.

    exception ──▶ condition_of ──▶ CONDITIONS[…] ──▶ is_retried, is_fault_of_request, failure_from_exception

A failure repeats the upstream's own message if the message is about the request or the upstream. A message about the
worker's key is replaced, because upstreams quote the key in it; `detail_of` has it for the log. A failure that the
operator can end names the setting.
"""

import math
from typing import Any

import aiohttp
import httpx2
import msgspec
import openai

from tailrace import jsoncodec
from tailrace.events import Failure
from tailrace.failures import failure
from tailrace_worker.upstream.conditions import CONDITIONS, STATUSES, WORDS, Condition, ConditionName
from tailrace_worker.upstream.connection_errors import causes, connection_condition
from tailrace_worker.upstream.error_texts import (
    MAX_MESSAGE_CHARACTERS,
    code_of,
    details_of,
    encodable,
    error_object,
    folded,
    message_in,
    status_of,
    word_of,
)
from tailrace_worker.upstream.retry_after import delay_before_retry, retry_after_of

REJECTED_KEY = {
    401: "The upstream does not accept the key in OPENAI_API_KEY (status 401).",
    403: "The upstream does not permit this request to the key in OPENAI_API_KEY (status 403).",
}


class ConnectionLost(Exception):
    """The connection to the upstream broke before the answer was complete."""


class EmptyAnswer(ConnectionLost):
    """The stream ended cleanly, without any content and without a mark of its end."""


class NotSent(ValueError):
    """A header or the address of the request has characters that HTTP does not permit: nothing was sent. The
    transport's own message may quote the key, so no one is shown it."""


class Unreadable(ValueError):
    """The upstream answered 200 with something that is no answer. The message completes "The upstream's answer"."""


class ErrorInStream(Exception):
    """The upstream sent an error object in a 200 before any content."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.code)
        self.failure = reason


UPSTREAM_ERRORS = (
    ConnectionLost,
    ErrorInStream,
    openai.APIError,
    TimeoutError,
    ValueError,
    aiohttp.ClientError,
    httpx2.HTTPError,
)
"""Exceptions of a request to the upstream; ValueError: `NotSent`, `Unreadable` and `sse.EventTooLarge`. The SDK
passes on the transport's own errors where the response is not HTTP, or its body cannot be read."""


def condition_of(error: Exception) -> ConditionName:
    """The row of an exception."""
    match error:
        case ErrorInStream():
            return _condition_of_words(error.failure.code, error.failure.type, error.failure.status)
        case openai.APIStatusError():
            return _condition_of_status(error.status_code, error.code, error.type)
        case openai.APIConnectionError():
            return connection_condition(error).name
        case TimeoutError():
            return "silent"
        case EmptyAnswer():
            return "empty"
        case ConnectionLost() | httpx2.HTTPError():
            return "cut"
        case aiohttp.ClientError():
            return "no_http"
        case NotSent():
            return "not_sent"
        case ValueError():
            return "unreadable"
    return "defect"


def _condition_of_status(status: int, code: Any, kind: Any) -> ConditionName:
    if status == 429 and _condition_of_word(code, kind) == "quota":
        return "quota"
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return "redirect"
    return "rejected" if status < 500 else "failed"


def _condition_of_word(*words: Any) -> ConditionName | None:
    """The row of the first word that has one."""
    for word in words:
        letters = folded(word) if isinstance(word, str) else ""
        for name, known in WORDS.items():
            if letters in known:
                return name
    return None


def _condition_of_words(code: str, kind: str, status: int | None) -> ConditionName:
    """The row of an error object in a 200: that of the status that it has, else of its words; of 5xx if it has none.

    A type counts beside an unknown code unless it is `server_error`, which also is the type where there was none."""
    if status:
        return _condition_of_status(status, code, kind)
    if not (code or kind):
        return "failed"
    name, by_type = _condition_of_word(code), _condition_of_word(kind)
    if name is None and not (code and by_type == "failed"):
        name = by_type
    return name or "error_in_stream"


def is_retried(error: Exception, *, foreground: bool) -> bool:
    """Whether a request that failed so before any content is sent again. `foreground`: see `Retried`."""
    retried = CONDITIONS[condition_of(error)].retried
    wish = error.response.headers.get("x-should-retry") if isinstance(error, openai.APIStatusError) else None
    if retried == "background" and foreground:
        return False
    return wish == "true" or (retried != "no" and wish != "false")


def retry_delay(error: Exception, retry: int) -> float | None:
    """Seconds until the request may be sent again; None: the upstream asks for too long a delay. `retry`: from 0."""
    headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    return delay_before_retry(headers, retry)


def is_fault_of_request(error: Exception) -> bool:
    """Whether every other upstream would fail in the same way."""
    return CONDITIONS[condition_of(error)].is_fault_of_request


def failure_from_exception(error: Exception) -> Failure:
    """The failure for an exception; it never contains credentials that the upstream quotes."""
    if isinstance(error, ErrorInStream):
        return error.failure
    reason = _reason_of(error)
    if not isinstance(error, openai.APIStatusError):
        return reason
    retry_after_s = retry_after_of(error.response.headers)
    seconds = math.ceil(retry_after_s) if retry_after_s else None
    return msgspec.structs.replace(reason, status=error.status_code, retry_after=seconds)


def _reason_of(error: Exception) -> Failure:
    name = condition_of(error)
    row = CONDITIONS[name]
    match error:
        case openai.APIStatusError():
            return _reason_of_status(error, name, row)
        case openai.APIConnectionError():
            return failure(row.code, connection_condition(error).message)
        case aiohttp.ClientError():
            return failure(row.code, "The server at OPENAI_BASE_URL does not answer in HTTP.")
        case NotSent():
            message = (
                "No request can be sent with the key in OPENAI_API_KEY, or to the address in OPENAI_BASE_URL: HTTP "
            )
            return failure(row.code, message + "does not permit their characters.")
        case Unreadable():
            return failure(row.code, encodable(f"The upstream's answer {error}."))
        case ValueError():
            return failure(row.code, encodable(f"The upstream's answer could not be parsed: {error}."))
    return failure(row.code)


def _reason_of_status(error: openai.APIStatusError, name: ConditionName, row: Condition) -> Failure:
    status, words = error.status_code, message_in(error.body)
    if name == "key":
        return failure(row.code, REJECTED_KEY[status])
    if name == "redirect" and status >= 300:
        message = f"The upstream redirects to another address (status {status}). Is OPENAI_BASE_URL right?"
        return failure(row.code, message)
    if name == "failed":
        failed = f"The upstream failed (status {status})"
        return failure(row.code, f"{failed}: {words}"[:MAX_MESSAGE_CHARACTERS] if words else f"{failed}.")
    if name == "absent" and not words:
        words = f"The upstream has no such address (status {status}). OPENAI_BASE_URL usually ends with /v1."
    reason = failure(row.code, words or f"The upstream responded with status {status}.")
    if not row.own_code:
        return reason
    fields = error_object(error.body)
    return msgspec.structs.replace(
        reason,
        code=code_of(fields.get("code")) or reason.code,
        type=word_of(fields.get("type")) or reason.type,
        param=word_of(fields.get("param")) or None,
    )


def detail_of(error: Exception) -> str:
    """More about the error than the failure has: the upstream's own message, or the transport's. For the log alone,
    redacted: it may quote the key or the address."""
    if isinstance(error, openai.APIStatusError):
        words = message_in(error.body) or error.response.headers.get("location", "")
        return words if words not in failure_from_exception(error).message else ""
    if isinstance(error, NotSent):
        return str(error)
    return next((text for cause in causes(error) if (text := str(cause))), "")


def failure_from_json(error: Any) -> Failure:
    """The failure for an error that an upstream sent in a 200: an object with any of the usual fields, or a message
    alone (`error_texts.error_in` finds it). Its strings must be encodable (`LenientReader.error`)."""
    if not isinstance(error, dict):
        error = {"message": error}
    message, code, kind = (error.get(key) for key in ("message", "code", "type"))
    if not isinstance(message, str):
        message = jsoncodec.dumps(message).decode() if message else "The upstream failed."
    status = next(filter(None, map(status_of, (code, error.get("status"), error.get("status_code"), kind))), None)
    name = _condition_of_words(code_of(code), code_of(kind), status)
    if name == "key":
        return msgspec.structs.replace(failure("upstream_auth"), status=status)
    row = CONDITIONS[name]
    own = "" if name in ("quota", "rate_limited") else _own_code(code, kind)
    kept = failure(row.code, encodable(message))
    return msgspec.structs.replace(
        kept,
        code=own or kept.code,
        type=word_of(kind) or ("server_error" if own else kept.type),
        param=word_of(error.get("param")) or None,
        status=status,
        details=details_of(error),
    )


def _own_code(code: Any, kind: Any) -> str:
    """The upstream's own code, else its type, unless that is a status: the table has a better one for it."""
    return next((word for word in (code_of(code), code_of(kind)) if word and status_of(word) is None), "")
