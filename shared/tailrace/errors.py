"""Every error that Tailrace tells somebody.

    TailraceError                    500  server_error
    ├── InvalidRequest               400  invalid_request_error
    │   ├── InvalidBody              400  invalid_body
    │   ├── InvalidCursor            400  invalid_cursor
    │   ├── IdempotencyKeyReused     400  idempotency_key_reused
    │   ├── RequestTooLarge          413  request_too_large
    │   ├── MethodNotAllowed         405  method_not_allowed
    │   └── HostRefused              421  host_refused
    ├── Unauthenticated              401  invalid_api_key
    ├── OriginRefused                403  origin_refused
    ├── NotFound                     404  not_found
    ├── Gone                         410  deleted | expired | lost
    ├── RetryableError                           carries Retry-After
    │   ├── RateLimited              429  rate_limit_exceeded
    │   └── Unavailable              503  unavailable
    │       ├── RedisUnavailable     503  unavailable
    │       └── RedisFull            503  unavailable
    ├── RedisRefused                 500  server_error
    ├── CorruptEntry                 500  corrupt_entry
    └── Misconfigured                     told on the terminal at start, never over HTTP

A class is its status, its `type` and its `code`; its docstring is the message where none is given. `as_json()` is
the one shape in which any of them is told (OpenAI's: all four keys, always).
"""

from typing import Any, ClassVar


class TailraceError(Exception):
    """Something went wrong on the server's side."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(self, message: str | None = None, *, param: str | None = None, detail: str = "") -> None:
        """`message` is for clients; `detail` is the cause as `str()` gives it, for logs of ours alone."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.param = param
        super().__init__(detail or self.message)

    def as_json(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`: all four keys, always (OpenAI's Error schema)."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Response headers that belong to the error."""
        return {}


class InvalidRequest(TailraceError):
    """The request cannot be understood."""

    status = 400
    type = "invalid_request_error"


class InvalidBody(InvalidRequest):
    """The body is not a JSON object of the expected form."""

    code = "invalid_body"


class InvalidCursor(InvalidRequest):
    """The cursor is not an event id: `<epoch>-<seq>`, two decimal numbers."""

    code = "invalid_cursor"


class IdempotencyKeyReused(InvalidRequest):
    """This Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class RequestTooLarge(InvalidRequest):
    """The body is larger than this server accepts."""

    status = 413
    code = "request_too_large"


class MethodNotAllowed(InvalidRequest):
    """This resource does not have that method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str | None = None, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        return {"Allow": self.allow} if self.allow else {}


class HostRefused(InvalidRequest):
    """This server runs without API keys and answers only to the loopback names."""

    status = 421
    code = "host_refused"


class Unauthenticated(TailraceError):
    """The API key is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class OriginRefused(TailraceError):
    """This server runs without API keys and answers no other site's pages."""

    status = 403
    type = "invalid_request_error"
    code = "origin_refused"


class NotFound(TailraceError):
    """There is nothing here."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Gone(TailraceError):
    """This generation is no longer kept."""

    status = 410
    type = "invalid_request_error"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This generation is {reason}.")
        self.code = reason


class RetryableError(TailraceError):
    """Something that passes: the same request may succeed a little later."""

    def __init__(self, message: str | None = None, *, retry_after: int = 1, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class RateLimited(RetryableError):
    """Too much at once. Try again in a moment."""

    status = 429
    type = "rate_limit_exceeded"
    code = "rate_limit_exceeded"


class Unavailable(RetryableError):
    """The log's server cannot be reached right now. Try again in a moment."""

    status = 503
    code = "unavailable"


class RedisUnavailable(Unavailable):
    """The log's server cannot be reached right now. Try again in a moment."""


class RedisFull(Unavailable):
    """The log's server is full. Try again later."""

    def __init__(self, message: str | None = None, *, retry_after: int = 5, detail: str = "") -> None:
        super().__init__(message, retry_after=retry_after, detail=detail)


class RedisRefused(TailraceError):
    """The log's server refused a command."""


class CorruptEntry(TailraceError):
    """An entry of this log cannot be read."""

    code = "corrupt_entry"


class Misconfigured(TailraceError):
    """The settings do not fit together."""
