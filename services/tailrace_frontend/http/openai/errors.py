"""Failures on OpenAI's routes, as HTTP: a body that is invalid, and a generation that ended without an answer.

Both SDKs repeat a request after 408, 409, 429 and 5xx, unless `x-should-retry` decides. So nothing final is a 408 or a
409, and each 5xx of a generation that was accepted asks not to be repeated: a repetition would cost another one. A 429
of the upstream may be repeated: nothing was generated (`retries`). So may a request that waits for a generation which
was cancelled because the client before it had left: it came too late to be seen.
"""

from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from tailrace.errors import LONGEST_RETRY_S, InvalidRequest, InvalidValue, MissingParameter, TailraceError
from tailrace.events import Failure, Json
from tailrace.failures import kind_of
from tailrace_frontend.http.schemas import Problem, first_problem

Body = TypeVar("Body", bound=BaseModel)

NOT_AGAIN = {"x-should-retry": "false"}

REFUSED = range(400, 500)
"""Statuses of an upstream that are passed on, but for these:"""

CHANGED_STATUSES = {401: 502, 403: 502, 408: 504, 409: 400}
"""The first two are about the worker's account; both SDKs repeat the others."""


class AnswerFailed(Exception):
    """The generation ended without an answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Refusal(NamedTuple):
    """An error as it is sent: where the status was sent already, its body alone."""

    status: int
    body: Json
    headers: dict[str, str]


def invalid_parameter(problem: Problem) -> InvalidRequest:
    """The error for a body that is invalid."""
    if problem.type == "missing":
        return MissingParameter(f"Missing required parameter: '{problem.param}'.", param=problem.param)
    return InvalidValue(f"Invalid value for '{problem.param or 'body'}': {problem.message}.", param=problem.param)


def validated(kind: type[Body], value: Json) -> Body:
    """A decoded body as its schema has it.

    Raises:
        InvalidRequest: the body is invalid; `param` names the first field that is.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise invalid_parameter(first_problem(error)) from None


def refusal_of(error: AnswerFailed | TailraceError, *, may_repeat: bool) -> Refusal:
    """The answer to a request whose generation was accepted. `may_repeat`: whether a repetition of the request can be
    another generation."""
    if isinstance(error, AnswerFailed):
        return _refusal_of_failure(error.failure, may_repeat)
    return Refusal(error.status, error.as_json(), error.headers() | (NOT_AGAIN if error.status >= 500 else {}))


def _refusal_of_failure(failure: Failure, may_repeat: bool) -> Refusal:
    came_too_late = is_abandoned(failure) and may_repeat
    status = 503 if came_too_late else http_status_of(failure)
    is_temporary = came_too_late or (status == 429 and may_repeat and is_retryable(failure))
    headers = {} if is_temporary else dict(NOT_AGAIN)
    if is_temporary and failure.retry_after:
        headers["Retry-After"] = str(min(failure.retry_after, LONGEST_RETRY_S))
    error = {
        "message": failure.message,
        "type": _type_of(failure, status),
        "param": failure.param,
        "code": failure.code,
    }
    return Refusal(status, {"error": error}, headers)


def _type_of(failure: Failure, status: int) -> str:
    """The type of an error that fits its status, also where the status was changed."""
    if status >= 500:
        return "server_error"
    return "invalid_request_error" if failure.type == "server_error" else failure.type


def is_retryable(failure: Failure) -> bool:
    """Whether the same request may succeed later."""
    kind = kind_of(failure)
    return kind is None or kind.retry


def is_abandoned(failure: Failure | None) -> bool:
    """Whether a generation was cancelled because its client had left."""
    return failure is not None and failure.code == "client_disconnected"


def http_status_of(failure: Failure) -> int:
    """The status of a failed generation: the upstream's where it refused the request itself."""
    kind = kind_of(failure)
    if kind is not None and failure.code != "upstream_refused":
        return kind.http_status
    if failure.status is not None and failure.status in REFUSED:
        return CHANGED_STATUSES.get(failure.status, failure.status)
    return 502 if kind is None else kind.http_status
