"""Chat Completions without Redis: what is refused before anything is stored."""

from typing import Any

import pytest

from support.asgi import Response, ask
from tailrace import jsoncodec
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

PATH = "/v1/chat/completions"
ID = "chatcmpl-abcdefghijklmnopqrstuvwxyz"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(autouse=True)
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is unreachable is tried once."""
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


async def asked(method: str, path: str, body: Any = None, query: str = "", **headers: str) -> Response:
    """The response of a frontend whose Redis is not there."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else jsoncodec.dumps(body)
    frontend = Frontend(Settings(redis_url="redis://127.0.0.1:1/0"))
    return await ask(frontend, method, path, headers=named, body=data, query=query)


def refusal(response: Response) -> tuple[int, str | None, str | None]:
    error = response.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if response.status >= 500 else "invalid_request_error")
    return response.status, error["code"], error["param"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_body", None),
        (b"[]", "invalid_body", None),
        ({"model": "demo"}, "missing_required_parameter", "messages"),
        ({"messages": []}, "missing_required_parameter", "model"),
        (BODY | {"messages": []}, "invalid_value", "messages"),
        (BODY | {"messages": [{"content": "?"}]}, "missing_required_parameter", "messages.0.role"),
        (BODY | {"n": 0}, "invalid_value", "n"),
        (BODY | {"temperature": "hot"}, "invalid_value", "temperature"),
        (BODY | {"stream": "yes"}, "invalid_value", "stream"),
        (BODY | {"tailrace": {"x": 1}}, "invalid_body", "tailrace.x"),
    ],
)
async def test_invalid_body_is_refused_with_openais_code_and_the_parameter(
    body: Any, code: str, param: str | None
) -> None:
    assert refusal(await asked("POST", PATH, body)) == (400, code, param)


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [("x_tailrace_on_disconnect", "stay", "invalid_value"), ("idempotency_key", "", None)],
)
async def test_invalid_header_is_refused_by_name(header: str, value: str, code: str | None) -> None:
    status, given, param = refusal(await asked("POST", PATH, BODY, **{header: value}))
    assert (status, given, (param or "").lower()) == (400, code, header.replace("_", "-"))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("given", ["x", "gen_" + ID[9:], "resp_" + ID[9:], "chatcmpl-", ID + "x", "%F0%9F%92%A7"])
async def test_malformed_id_is_not_found_in_openais_words(method: str, given: str) -> None:
    response = await asked(method, f"{PATH}/{given}")
    assert refusal(response) == (404, None, None)
    assert response.value["error"]["message"] == f"Chat completion with id '{given}' not found."


@pytest.mark.parametrize("query", ["stream=maybe", "stream=true&starting_after=x", "starting_after=1.5"])
async def test_query_of_the_wrong_type_is_refused(query: str) -> None:
    assert refusal(await asked("GET", f"{PATH}/{ID}", query=query))[0] == 400


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("GET", f"{PATH}/{ID}"), ("DELETE", f"{PATH}/{ID}")])
async def test_route_answers_503_with_retry_after_while_redis_is_unreachable(method: str, path: str) -> None:
    response = await asked(method, path, BODY)
    assert refusal(response) == (503, "unavailable", None)
    assert int(response.headers["retry-after"]) >= 1
    assert "x-should-retry" not in response.headers  # nothing was accepted


@pytest.mark.parametrize(("path", "allowed"), [(PATH, {"POST"}), (f"{PATH}/{ID}", {"GET", "DELETE"})])
async def test_method_that_a_path_lacks_is_refused_with_the_allowed_ones(path: str, allowed: set[str]) -> None:
    response = await asked("PUT", path)
    assert refusal(response)[:2] == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed
