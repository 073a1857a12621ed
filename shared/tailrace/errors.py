"""Every error that Tailrace reports to a client or an operator.

    TailraceError                    500  server_error
    ├── InvalidRequest               400  invalid_request_error
    │   ├── InvalidBody              400  invalid_body
    │   ├── InvalidCursor            400  invalid_cursor
    │   ├── IdempotencyKeyReused     400  idempotency_key_reused
    │   ├── MissingParameter         400  missing_required_parameter
    │   ├── InvalidValue             400  invalid_value
    │   ├── UnsupportedParameter     400  unsupported_parameter
    │   ├── PreviousResponseNotFound 400  previous_response_not_found
    │   ├── RequestTooLarge          413  request_too_large
    │   ├── MethodNotAllowed         405  method_not_allowed
    │   ├── RequestTimeout           408  request_timeout
    │   ├── WebhookUnreachable       400  webhook_unreachable
    │   ├── HostRefused              421  host_refused
    │   └── HeadTooLarge             431  head_too_large
    ├── Unauthenticated              401  invalid_api_key
    ├── OriginRefused                403  origin_refused
    ├── InsufficientScope            403  insufficient_scope
    ├── CallerBlocked                403  caller_blocked
    ├── NotFound                     404  not_found
    │   ├── ModelNotFound            404  model_not_found
    │   └── ObjectNotFound           404  invalid_request_error
    ├── Gone                         410  deleted | expired | lost
    ├── RetryableError                           carries Retry-After
    │   ├── RateLimited              429  rate_limit_exceeded
    │   │   ├── ConcurrencyLimited   429  concurrency_limit_exceeded
    │   │   ├── StorageLimited       429  storage_limit_exceeded
    │   │   └── QuotaExceeded        429  insufficient_quota
    │   └── Unavailable              503  unavailable
    │       ├── RedisUnavailable     503  unavailable
    │       └── RedisFull            503  unavailable
    ├── RedisRefused                 500  server_error
    ├── CorruptEntry                 500  corrupt_entry
    └── Misconfigured                     printed on the terminal at start, never sent over HTTP

A class defines the HTTP status, the `type` and the `code`. Its docstring is the default message. `as_json()` gives the
one JSON shape of all errors (OpenAI's Error schema: all four keys, always).
"""

from collections.abc import Iterable
from typing import Any, ClassVar

MAX_ID = 100
"""Characters of a client's id that an error repeats."""


class TailraceError(Exception):
    """Internal server error."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(self, message: str | None = None, *, param: str | None = None, detail: str = "") -> None:
        """`message` is for clients; `detail` is the cause as `str()` gives it, for our own logs only."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.param = param
        super().__init__(detail or self.message)

    def as_json(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`: all four keys, always (OpenAI's Error schema)."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Response headers that accompany the error."""
        return {}


class InvalidRequest(TailraceError):
    """The request is invalid."""

    status = 400
    type = "invalid_request_error"


class InvalidBody(InvalidRequest):
    """The request body is not a JSON object of the expected form."""

    code = "invalid_body"


class InvalidCursor(InvalidRequest):
    """The cursor is not an event id of the form `<epoch>-<seq>` (two decimal numbers)."""

    code = "invalid_cursor"


class IdempotencyKeyReused(InvalidRequest):
    """This Idempotency-Key was already used with a different request body."""

    code = "idempotency_key_reused"


class MissingParameter(InvalidRequest):
    """A required parameter is missing."""

    code = "missing_required_parameter"


class InvalidValue(InvalidRequest):
    """A parameter has a value that is not allowed."""

    code = "invalid_value"

    @classmethod
    def at(cls, param: str, reason: str) -> "InvalidValue":
        """The error for one part of the request."""
        return cls(f"{param}: {reason}", param=param)


class UnsupportedParameter(InvalidRequest):
    """A parameter cannot be carried to the upstream."""

    code = "unsupported_parameter"

    @classmethod
    def at(cls, param: str, reason: str = "a Chat Completions upstream has no place for it") -> "UnsupportedParameter":
        """The error for one part of the request."""
        return cls(f"{param}: {reason}", param=param)


class PreviousResponseNotFound(InvalidRequest):
    """There is no such previous response."""

    code = "previous_response_not_found"

    @classmethod
    def of(cls, response_id: str) -> "PreviousResponseNotFound":
        """The error in OpenAI's words."""
        message = f"Previous response with id '{response_id[:MAX_ID]}' not found."
        return cls(message, param="previous_response_id")


class RequestTooLarge(InvalidRequest):
    """The request body is larger than this frontend accepts."""

    status = 413
    code = "request_too_large"


class MethodNotAllowed(InvalidRequest):
    """This resource does not support the request's method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str | None = None, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        return {"Allow": self.allow} if self.allow else {}


class RequestTimeout(InvalidRequest):
    """The request was not received in time."""

    status = 408
    code = "request_timeout"


class WebhookUnreachable(InvalidRequest):
    """The webhook endpoint did not answer."""

    code = "webhook_unreachable"


class HostRefused(InvalidRequest):
    """The server runs without API keys, so it only accepts loopback names in the Host header."""

    status = 421
    code = "host_refused"


class HeadTooLarge(InvalidRequest):
    """The request's head, or what surrounds its body, is larger than this frontend accepts."""

    status = 431
    code = "head_too_large"


class Unauthenticated(TailraceError):
    """The API key is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class OriginRefused(TailraceError):
    """The server runs without API keys, so it rejects requests from pages of other origins."""

    status = 403
    type = "invalid_request_error"
    code = "origin_refused"


class InsufficientScope(TailraceError):
    """The API key may not do this."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_scope"

    @classmethod
    def lacking(cls, scopes: Iterable[str]) -> "InsufficientScope":
        """The error for a key that has none of these scopes."""
        return cls(f"The API key may not do this: it lacks the scope {' or '.join(sorted(scopes))}.")


class CallerBlocked(TailraceError):
    """The caller is blocked by the operator."""

    status = 403
    type = "invalid_request_error"
    code = "caller_blocked"


class NotFound(TailraceError):
    """The requested resource does not exist."""

    status = 404
    type = "invalid_request_error"
    code: str | None = "not_found"


class ModelNotFound(NotFound):
    """The model does not exist, or you do not have access to it."""

    code = "model_not_found"


class ObjectNotFound(NotFound):
    """There is no object with this id."""

    code = None

    @classmethod
    def of(cls, kind: str, object_id: str, *, param: str | None = None) -> "ObjectNotFound":
        """The error in OpenAI's words, the same for ids that never existed, are another owner's, or no longer kept."""
        return cls(f"{kind} with id '{object_id[:MAX_ID]}' not found.", param=param)


class Gone(TailraceError):
    """This generation is no longer stored.

    `reason` becomes the code: `deleted`, `expired`, or `lost` (Redis no longer has its log).
    """

    status = 410
    type = "invalid_request_error"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This generation is no longer stored ({reason}).")
        self.code = reason


LONGEST_RETRY_S = 60
"""openai-node ignores a longer `Retry-After` and repeats at once; openai-python gives up above 120 s."""


class RetryableError(TailraceError):
    """A temporary failure: the same request may succeed later."""

    def __init__(self, message: str | None = None, *, retry_after: int = 1, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(min(self.retry_after, LONGEST_RETRY_S))}


class RateLimited(RetryableError):
    """Too many requests. Retry after a moment."""

    status = 429
    type = "rate_limit_exceeded"
    code = "rate_limit_exceeded"


class ConcurrencyLimited(RateLimited):
    """The caller has too much under way. Retry after a moment."""

    code = "concurrency_limit_exceeded"


class StorageLimited(RateLimited):
    """Too much is stored for the caller. Delete generations, or retry once some have expired."""

    code = "storage_limit_exceeded"

    def __init__(self, message: str | None = None, *, retry_after: int = 60, detail: str = "") -> None:
        super().__init__(message, retry_after=retry_after, detail=detail)


class QuotaExceeded(RateLimited):
    """The budget of the caller is spent."""

    type = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> dict[str, str]:
        """OpenAI's SDKs repeat each 429, unless they are asked not to. A budget returns at the end of its period."""
        return super().headers() | ({} if self.retry_after <= LONGEST_RETRY_S else {"x-should-retry": "false"})


class Unavailable(RetryableError):
    """Redis cannot be reached. Retry after a moment."""

    status = 503
    code = "unavailable"


class RedisUnavailable(Unavailable):
    """Redis cannot be reached. Retry after a moment."""


class RedisFull(Unavailable):
    """Redis is full. Retry later."""

    def __init__(self, message: str | None = None, *, retry_after: int = 5, detail: str = "") -> None:
        super().__init__(message, retry_after=retry_after, detail=detail)


class RedisRefused(TailraceError):
    """Redis refused a command."""


class CorruptEntry(TailraceError):
    """An entry of this log cannot be decoded."""

    code = "corrupt_entry"


class Misconfigured(TailraceError):
    """The settings are invalid or contradict each other."""
