from typing import Any

import pytest

from tailrace.errors import InvalidValue, MissingParameter, NotFound, RateLimited, Unavailable
from tailrace.events import Failure
from tailrace.failures import FAILURES, FORMAT_ERRORS, failure
from tailrace_frontend.http.openai.errors import (
    AnswerFailed,
    http_status_of,
    invalid_parameter,
    is_retryable,
    refusal_of,
)
from tailrace_frontend.http.schemas import Problem


@pytest.mark.parametrize("code", [*FAILURES, *FORMAT_ERRORS])
def test_failure_of_the_table_has_its_status_and_is_repeated_by_no_sdk_if_it_is_final(code: Any) -> None:
    status, body, headers = refusal_of(AnswerFailed(failure(code)), may_repeat=True)
    is_abandoned = code == "client_disconnected"
    assert status == (503 if is_abandoned else http_status_of(failure(code))) not in (408, 409)
    may_repeat = is_abandoned or (status == 429 and is_retryable(failure(code)))
    assert (headers.get("x-should-retry") == "false") is not may_repeat
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert (body["error"]["type"] == "server_error") is (status >= 500)


def test_spent_quota_is_429_that_no_sdk_repeats() -> None:
    reason = Failure("Pay.", "insufficient_quota", "insufficient_quota", status=402)
    status, body, headers = refusal_of(AnswerFailed(reason), may_repeat=True)
    assert (status, body["error"]["code"], headers) == (429, "insufficient_quota", {"x-should-retry": "false"})


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Failure("No.", "upstream_refused", status=422), 422),
        (Failure("No.", "upstream_refused"), 400),
        (Failure("No.", "context_length_exceeded", status=400), 400),
        (Failure("No.", "model_not_found", status=404), 404),
        (Failure("No.", "x", status=401), 502),
        (Failure("No.", "x", status=403), 502),
        (Failure("No.", "x", status=408), 504),
        (Failure("No.", "x", status=409), 400),
        (Failure("No.", "x", status=500), 502),
        (Failure("No.", "x"), 502),
        (Failure("No.", "429"), 502),  # a status that an upstream sends as its code is `status`
        (Failure("No.", "upstream_rate_limited", status=429), 429),
        (Failure("No.", "upstream_error", status=503), 502),
        (Failure("No.", "upstream_auth", status=401), 502),
    ],
)
def test_status_is_the_upstreams_where_it_refused_the_request_itself(reason: Failure, status: int) -> None:
    assert http_status_of(reason) == status


@pytest.mark.parametrize("status", [400, 401, 408, 409, 422, 500])
def test_type_fits_the_status(status: int) -> None:
    failed = AnswerFailed(Failure("No.", "x", "invalid_request_error", status=status))
    refusal = refusal_of(failed, may_repeat=False)
    assert (refusal.body["error"]["type"] == "server_error") == (refusal.status >= 500)


@pytest.mark.parametrize(
    ("retry_after", "may_repeat", "headers"),
    [
        (7, True, {"Retry-After": "7"}),
        (3600, True, {"Retry-After": "60"}),
        (None, True, {}),
        (7, False, {"x-should-retry": "false"}),
    ],
)
def test_rate_limit_is_repeated_by_a_request_that_creates_and_by_no_other(
    retry_after: int | None, may_repeat: bool, headers: dict[str, str]
) -> None:
    reason = Failure("Slow down.", "upstream_rate_limited", "rate_limit_exceeded", status=429, retry_after=retry_after)
    assert refusal_of(AnswerFailed(reason), may_repeat=may_repeat).headers == headers


def test_failure_keeps_what_the_upstream_named() -> None:
    reason = Failure("Too long.", "context_length_exceeded", "invalid_request_error", "messages", 400)
    assert refusal_of(AnswerFailed(reason), may_repeat=True).body == {
        "error": {
            "message": "Too long.", "type": "invalid_request_error", "param": "messages",
            "code": "context_length_exceeded",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (Unavailable(), {"Retry-After": "1", "x-should-retry": "false"}),
        (RateLimited(retry_after=3), {"Retry-After": "3"}),
        (NotFound(), {}),
    ],
)
def test_error_of_ours_after_the_generation_was_accepted(error: Any, headers: dict[str, str]) -> None:
    refusal = refusal_of(error, may_repeat=True)
    assert (refusal.status, refusal.body, refusal.headers) == (error.status, error.as_json(), headers)


@pytest.mark.parametrize(
    ("problem", "kind", "message"),
    [
        (Problem("messages", "Field required", "missing"), MissingParameter, "Missing required parameter: 'messages'."),
        (Problem("n", "Must be at least 1", "x"), InvalidValue, "Invalid value for 'n': Must be at least 1."),
        (Problem(None, "Wrong", "x"), InvalidValue, "Invalid value for 'body': Wrong."),
    ],
)  # fmt: skip
def test_invalid_parameter_is_named(problem: Problem, kind: type[Exception], message: str) -> None:
    error = invalid_parameter(problem)
    assert type(error) is kind
    assert (error.message, error.param) == (message, problem.param)
