"""Failures for the upstream's errors: its words about the request are kept, nothing about the worker's account is."""

from typing import Any

import aiohttp
import httpx2
import openai
import pytest

from tailrace.events import NO_EXTRA, Done, Failure
from tailrace.failures import FAILURES
from tailrace.log.codec import is_readable
from tailrace_worker.upstream.conditions import CONDITIONS, INTERRUPTIONS, STATUSES, WORDS
from tailrace_worker.upstream.error_texts import MAX_MESSAGE_CHARACTERS, folded
from tailrace_worker.upstream.errors import (
    ConnectionLost,
    EmptyAnswer,
    ErrorInStream,
    Unreadable,
    detail_of,
    failure_from_exception,
    failure_from_json,
    is_fault_of_request,
    is_retried,
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
        (aiohttp.ClientResponseError(None, (), message="sk-secret"), "upstream_unreadable"),  # type: ignore[arg-type]
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


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_key_names_the_setting_and_keeps_the_upstreams_words_for_the_log(status: int) -> None:
    error = status_error(status, {"message": "Incorrect API key provided: sk-pr***wxyz."})
    assert "OPENAI_API_KEY" in failure_from_exception(error).message
    assert "provided" not in failure_from_exception(error).message
    assert detail_of(error) == "Incorrect API key provided: sk-pr***wxyz."


def test_message_of_an_upstream_that_failed_is_kept() -> None:
    error = status_error(500, {"message": "model requires more system memory (8.4 GiB) than is available (5.6 GiB)"})
    message = (
        "The upstream failed (status 500): model requires more system memory (8.4 GiB) than is available (5.6 GiB)"
    )
    assert failure_from_exception(error).message == message
    assert detail_of(error) == ""
    assert failure_from_exception(status_error(502, "<html>")).message == "The upstream failed (status 502)."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("page not found", "page not found"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "model 'demo' not found"}, "model 'demo' not found"),
        (None, "The upstream responded with status 400."),
        ("<html>", "The upstream responded with status 400."),
    ],
)
def test_message_is_found_in_every_form_of_an_error(body: object, message: str) -> None:
    assert failure_from_exception(status_error(400, body)).message == message


def test_address_that_the_upstream_lacks_names_the_setting() -> None:
    response = httpx2.Response(404, request=REQUEST)
    error = openai.NotFoundError("404", response=response, body="<html>")
    assert failure_from_exception(error).message == (
        "The upstream has no such address (status 404). OPENAI_BASE_URL usually ends with /v1."
    )


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


def test_messages_and_codes_are_printable() -> None:
    text, shown = "\x1b[31mNo\r\nwa\x9by\u202e\x00\t.\x7f", "�[31mNo\nwa�y��\t.�"
    error = {"message": text, "code": text, "type": text, "param": text}
    expected = Failure(shown, shown, shown, shown)
    assert failure_from_json(error) == expected
    refused = failure_from_exception(status_error(400, error))
    assert (refused.message, refused.code, refused.type, refused.param) == (shown,) * 4
    assert shown in failure_from_exception(status_error(500, error)).message
    assert shown in failure_from_exception(status_error(429, error)).message
    assert shown in failure_from_exception(ValueError(text)).message
    assert failure_from_json(text).message == shown


@pytest.mark.parametrize(("error", "failure"), [
    ({"message": "Busy", "type": "overloaded", "code": "busy", "param": "model"},
     Failure("Busy", "busy", "overloaded", "model")),
    ({"message": "Busy", "type": "overloaded", "code": None}, Failure("Busy", "overloaded", "overloaded")),
    ({"message": "Busy", "code": 503}, Failure("Busy", "upstream_error", status=503)),
    ({"message": "Busy", "code": "503"}, Failure("Busy", "upstream_error", status=503)),
    ({"message": "No.", "type": "BadRequestError", "code": 400},
     Failure("No.", "BadRequestError", "BadRequestError", status=400)),
    ({"message": "No.", "code": 400}, Failure("No.", "upstream_refused", "invalid_request_error", status=400)),
    ({"message": "Slow down.", "code": 429},
     Failure("Slow down.", "upstream_rate_limited", "rate_limit_exceeded", status=429)),
    ({"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"},
     Failure("Slow down.", "upstream_rate_limited", "requests")),
    ({"message": "Pay.", "type": "insufficient_quota", "code": 429},
     Failure("Pay.", "insufficient_quota", "insufficient_quota", status=429)),
    ({"message": "Bad key sk-pr***wxyz", "code": 401},
     Failure("The upstream rejected the worker's credentials.", "upstream_auth", status=401)),
    ({"message": "Bad key sk-pr***wxyz", "type": "invalid_request_error", "code": "invalid_api_key"},
     Failure("The upstream rejected the worker's credentials.", "upstream_auth")),
    ("Busy", Failure("Busy", "upstream_error")),
    ({"code": 1}, Failure("The upstream failed.", "1")),
    (True, Failure("true", "upstream_error")),
    (["Busy"], Failure('["Busy"]', "upstream_error")),
    ({"message": {"detail": "Busy"}}, Failure('{"detail":"Busy"}', "upstream_error")),
    ({"message": "Busy", "param": 1}, Failure("Busy", "upstream_error")),
    ({"message": "Busy", "code": {"a": 1}, "type": ["b"]}, Failure("Busy", "upstream_error")),
    ({"message": "Busy", "type": 503}, Failure("Busy", "upstream_error", status=503)),
    ({"message": "Busy", "type": 1305}, Failure("Busy", "1305")),
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
        ({"retry-after": "inf"}, None), ({"retry-after": "1e9"}, 86_400),
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
    ("error", "retried"),
    [
        (status_error(400, None), False), (status_error(401, None), False), (status_error(402, None), False),
        (status_error(404, None), False), (status_error(422, None), False), (status_error(308, None), False),
        (status_error(408, None), True), (status_error(409, None), True), (status_error(425, None), True),
        (status_error(500, None), True), (status_error(503, None), True), (status_error(529, None), True),
        (openai.APIConnectionError(request=REQUEST), True), (openai.APITimeoutError(REQUEST), True),
        (TimeoutError(), False), (ValueError(), False), (Unreadable("is HTML"), False), (ConnectionLost(), True),
        (EmptyAnswer(), True), (aiohttp.ClientPayloadError(), False), (RuntimeError(), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("foreground", [True, False])
def test_error_is_retried_as_its_row_has_it(error: Exception, retried: bool, foreground: bool) -> None:
    assert is_retried(error, foreground=foreground) is retried


def test_rate_limit_is_retried_for_no_client_that_does_so_itself() -> None:
    error = status_error(429, {"message": "Slow down."})
    assert (is_retried(error, foreground=False), is_retried(error, foreground=True)) == (True, False)


@pytest.mark.parametrize("word", ["insufficient_quota", "billing_hard_limit_reached", "exceeded_current_quota_error"])
@pytest.mark.parametrize("field", ["code", "type"])
def test_spent_quota_is_not_retried_and_is_no_rate_limit(word: str, field: str) -> None:
    error = status_error(429, {"message": "You exceeded your current quota.", field: word})
    assert not is_retried(error, foreground=False)
    assert failure_from_exception(error) == Failure(
        "You exceeded your current quota.", "insufficient_quota", "insufficient_quota", status=429
    )


@pytest.mark.parametrize(
    ("status", "wish", "retried"), [(500, "false", False), (429, "false", False), (400, "true", True)]
)
def test_upstreams_wish_about_a_retry_counts(status: int, wish: str, retried: bool) -> None:
    response = httpx2.Response(status, headers={"x-should-retry": wish}, request=REQUEST)
    assert is_retried(openai.APIStatusError("x", response=response, body=None), foreground=False) is retried


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        ({"code": 502}, True), ({"code": "429"}, True), ({"status": 503, "code": "x"}, True), ({}, True),
        ({"type": "overloaded_error"}, True), ({"type": "InternalServerError"}, True),
        ({"code": "tripped", "type": "server_error"}, False), ({"code": "rate_limit_exceeded"}, True),
        ({"type": "server_error"}, True), ({"code": "tripped", "type": "rate_limit_error"}, True),
        ({"code": 400}, False), ({"code": "tripped"}, False), ({"code": "invalid_api_key"}, False),
        ({"code": 429, "type": "insufficient_quota"}, False), ({"type": "invalid_request_error"}, False),
        ({"code": 1214}, False),
    ],
)  # fmt: skip
def test_error_in_a_stream_is_retried_as_its_code_is(error: dict[str, object], retried: bool) -> None:
    reason = failure_from_json({"message": "No."} | error)
    assert is_retried(ErrorInStream(reason), foreground=False) is retried


@pytest.mark.parametrize(("status", "own"), [
    (400, True), (413, True), (422, True), (451, True), (401, False), (402, False), (404, False), (408, False),
    (409, False), (429, False), (500, False),
])  # fmt: skip
def test_request_is_the_fault_where_every_upstream_would_refuse_it(status: int, own: bool) -> None:
    assert is_fault_of_request(status_error(status, None)) is own


def test_every_condition_has_a_code_that_is_a_failures() -> None:
    codes = {row.code for row in CONDITIONS.values()} | {row.code for row in INTERRUPTIONS.values()}
    assert codes <= FAILURES.keys()
    assert set(STATUSES.values()) | WORDS.keys() <= CONDITIONS.keys()


def test_words_are_folded_and_have_one_row() -> None:
    words = [word for each in WORDS.values() for word in each]
    assert [folded(word) for word in words] == words
    assert len(set(words)) == len(words)


def test_redirect_names_the_setting_and_its_target_is_for_the_log() -> None:
    response = httpx2.Response(308, headers={"location": "https://elsewhere/v1"}, request=REQUEST)
    error = openai.APIStatusError("x", response=response, body=None)
    reason = failure_from_exception(error)
    assert (reason.code, "OPENAI_BASE_URL" in reason.message, "elsewhere" in reason.message) == (
        "upstream_unreadable", True, False,
    )  # fmt: skip
    assert detail_of(error) == "https://elsewhere/v1"


def test_further_fields_of_an_error_object_are_its_details() -> None:
    error = {"message": "No.", "code": "x", "param": None, "metadata": {"raw": "why"}, "n_ctx": 0, "user_id": None}
    assert failure_from_json(error).details == {"metadata": {"raw": "why"}, "n_ctx": 0}
    assert failure_from_json({"message": "No.", "metadata": {}}).details is None
    assert failure_from_json({"message": "No.", "raw": "x" * 20_000}).details is None
    assert failure_from_json({"message": "Bad key", "code": "invalid_api_key", "raw": "sk-1"}).details is None
