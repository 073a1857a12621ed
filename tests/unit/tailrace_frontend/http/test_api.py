"""Errors that are none of ours, in the one shape of all errors."""

from contextlib import suppress
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from support.asgi import Response, ask
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.http.api import _as_tailrace_error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HTTPException(401), "Unauthorized"),  # of a file that this process may not read
        (HTTPException(400, "There was an error parsing the body"), "There was an error parsing the body"),
    ],
)
def test_refusal_by_the_framework_is_an_invalid_request(error: HTTPException, message: str) -> None:
    shown = _as_tailrace_error(error)
    assert (shown.status, shown.type, shown.message) == (400, "invalid_request_error", message)


async def test_defect_is_answered_without_its_text_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = Frontend(Settings(redis_url="redis://127.0.0.1:1/0"))

    def fail() -> bytes:
        raise ZeroDivisionError("a secret")

    async def app(*arguments: Any) -> None:
        with suppress(ZeroDivisionError):  # the server logs it
            await frontend(*arguments)

    with monkeypatch.context() as failing:
        failing.setattr(frontend.services.metrics, "text", fail)
        response: Response = await ask(app, "GET", "/metrics")
    assert (response.status, response.value["error"]["type"]) == (500, "server_error")
    assert b"secret" not in response.body
    assert b'status="500"} 1.0' in (await ask(frontend, "GET", "/metrics")).body
