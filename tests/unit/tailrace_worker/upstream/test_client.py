"""What is told of an upstream's errors: its words about the request, never ours about ourselves."""

import httpx2
import openai
import pytest

from tailrace_worker.upstream.client import Empty, Lost, failure_of

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
        (status_error(500, {"message": "stack trace"}), "upstream_error"),
        (openai.APITimeoutError(REQUEST), "upstream_timeout"),
        (openai.APIConnectionError(request=REQUEST), "upstream_unreachable"),
        (Lost("ReadError"), "upstream_unreachable"),
        (Empty(), "upstream_empty"),
        (TimeoutError(), "upstream_timeout"),
        (ValueError("too large"), "upstream_unreadable"),
        (RuntimeError("sk-secret"), "internal_error"),
    ],
)
def test_every_error_has_a_code_and_no_secret(error: Exception, code: str) -> None:
    failure = failure_of(error)
    assert failure.code == code
    assert "sk-secret" not in failure.message


def test_what_the_upstream_says_of_the_request_is_told() -> None:
    body = {"message": "The context is too long.", "code": "context_length_exceeded", "type": "invalid_request_error"}
    failure = failure_of(status_error(400, body))
    assert (failure.message, failure.code) == (body["message"], body["code"])


@pytest.mark.parametrize("body", [None, "text", [], {"message": None}, {"message": {"odd": 1}}, {"message": "\ud83d"}])
def test_an_odd_body_is_still_a_message(body: object) -> None:
    failure = failure_of(status_error(400, body))
    assert failure.message.encode()
