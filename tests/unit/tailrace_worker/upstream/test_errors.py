"""Failures for the upstream's errors: its words about the request are kept, nothing about the worker's account is."""

from typing import Any

import httpx2
import openai
import pytest

from tailrace.events import NO_EXTRA, Done, Failure
from tailrace.log.codec import is_readable
from tailrace_worker.upstream.errors import (
    MAX_MESSAGE_CHARACTERS,
    ConnectionLost,
    EmptyAnswer,
    failure_from_exception,
    failure_from_json,
    is_transient,
)
from tailrace_worker.upstream.sse import EventTooLarge

REQUEST = httpx2.Request("POST", "http://upstream/v1/chat/completions", headers={"Authorization": "Bearer sk-secret"})


def status_error(status: int, body: object) -> openai.APIStatusError:
    kind = {401: openai.AuthenticationError, 403: openai.PermissionDeniedError, 429: openai.RateLimitError}
    made = kind.get(status, openai.InternalServerError if status >= 500 else openai.BadRequestError)
    return made("sk-secret in the message", response=httpx2.Response(status, request=REQUEST), body=body)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (status_error(401, {"message": "bad key sk-secret"}), "upstream_auth"),
        (status_error(403, {"message": "key sk-secret may not"}), "upstream_auth"),
        (status_error(429, {"message": "slow down"}), "upstream_rate_limited"),
        (status_error(400, None), "upstream_refused"),
        (status_error(500, {"message": "stack trace"}), "upstream_error"),
        (openai.APITimeoutError(REQUEST), "upstream_timeout"),
        (openai.APIConnectionError(request=REQUEST), "upstream_unreachable"),
        (ConnectionLost("ReadError"), "upstream_unreachable"),
        (EmptyAnswer(), "upstream_empty"),
        (TimeoutError(), "upstream_timeout"),
        (EventTooLarge("an event of more than 100 bytes"), "upstream_unreadable"),
        (RuntimeError("sk-secret"), "internal_error"),
    ],
)
def test_every_error_has_a_code_and_no_secret(error: Exception, code: str) -> None:
    failure = failure_from_exception(error)
    assert failure.code == code
    assert "sk-secret" not in failure.message


def test_upstreams_message_and_code_for_a_request_are_kept() -> None:
    body = {"message": "The context is too long.", "code": "context_length_exceeded", "type": "invalid_request_error"}
    failure = failure_from_exception(status_error(400, body))
    assert (failure.message, failure.code) == (body["message"], body["code"])


@pytest.mark.parametrize("body", [None, "text", [], {"message": None}, {"message": {"a": 1}}, {"message": "\ud83d"}])
def test_malformed_body_still_gives_a_message(body: object) -> None:
    failure = failure_from_exception(status_error(400, body))
    assert failure.message.encode()


@pytest.mark.parametrize(
    "failure",
    [
        failure_from_exception(status_error(400, {"message": 5000 * "x"})),
        failure_from_exception(ValueError(5000 * "x")),
        failure_from_json({"message": 5000 * "x"}),
    ],
)
def test_messages_are_cut_to_their_limit(failure: Failure) -> None:
    assert len(failure.message) == MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize(("error", "failure"), [
    ({"message": "Busy", "type": "overloaded", "code": "busy", "param": "model"},
     Failure("Busy", "busy", "overloaded", "model")),
    ({"message": "Busy", "type": "overloaded", "code": None}, Failure("Busy", "overloaded", "overloaded")),
    ({"message": "Busy", "code": 503}, Failure("Busy", "503")),
    ("Busy", Failure("Busy", "upstream_error")),
    ({"code": 1}, Failure("The upstream failed.", "1")),
    (True, Failure("true", "upstream_error")),
    (["Busy"], Failure('["Busy"]', "upstream_error")),
    ({"message": {"detail": "Busy"}}, Failure('{"detail":"Busy"}', "upstream_error")),
    ({"message": "Busy", "param": 1}, Failure("Busy", "upstream_error")),
    ({"message": "Busy", "code": {"a": 1}, "type": ["b"]}, Failure("Busy", "upstream_error")),
    ({"message": "Busy", "type": 503}, Failure("Busy", "503")),
    ({"message": "Busy", "code": "c" * 5000}, Failure("Busy", "c" * 200)),
])  # fmt: skip
def test_error_object_of_any_shape_is_a_failure(error: Any, failure: Failure) -> None:
    assert failure_from_json(error) == failure


@pytest.mark.parametrize("field", ["code", "type", "param"])
@pytest.mark.parametrize("value", [400, 0, True, None, "", "\ud83d", {"a": 1}, ["b"], 5000 * "x", 1.5])
def test_field_of_a_rejection_may_have_any_type(field: str, value: object) -> None:
    failure = failure_from_exception(status_error(400, {"message": "No.", field: value}))
    assert all(isinstance(each, str) and each.encode() for each in (failure.code, failure.type))
    assert is_readable(Done("failed", 1.0, error=failure), NO_EXTRA)


def test_code_that_is_a_number_is_kept() -> None:
    assert failure_from_exception(status_error(400, {"message": "No.", "code": 1214, "type": 400})) == Failure(
        "No.", "1214", "invalid_request_error", status=400
    )


def test_rejection_has_its_status_and_the_parameter_that_it_names() -> None:
    reason = failure_from_exception(status_error(422, {"message": "No.", "param": "messages"}))
    assert reason == Failure("No.", "upstream_refused", "invalid_request_error", "messages", status=422)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None), ({"retry-after": "7"}, 7), ({"retry-after": "0.2"}, 1), ({"retry-after-ms": "1500"}, 2),
        ({"retry-after-ms": "100", "retry-after": "9"}, 1), ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "0"}, None), ({"retry-after": "-3"}, None), ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None), ({"retry-after": "1e9"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)  # fmt: skip
def test_rate_limit_has_the_seconds_after_which_the_upstream_allows_another_request(
    headers: dict[str, str], seconds: int | None
) -> None:
    response = httpx2.Response(429, headers=headers, request=REQUEST)
    reason = failure_from_exception(openai.RateLimitError("x", response=response, body={"message": "Slow down."}))
    assert (reason.status, reason.retry_after, reason.message) == (429, seconds, "Slow down.")
    assert is_readable(Done("failed", 1.0, error=reason), NO_EXTRA)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (status_error(400, None), False), (status_error(429, None), False), (status_error(408, None), True),
        (status_error(409, None), True), (status_error(500, None), True), (status_error(503, None), True),
        (openai.APIConnectionError(request=REQUEST), True), (openai.APITimeoutError(REQUEST), True),
        (TimeoutError(), False), (ValueError(), False),
    ],
)  # fmt: skip
def test_error_that_the_sdk_retries_is_transient_but_for_a_rate_limit(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
