"""Responses without Redis: what is refused before anything is stored."""

from typing import Any

import pytest

from support.asgi import Response, ask
from tailrace import jsoncodec
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

PATH = "/v1/responses"
ID = "resp_abcdefghijklmnopqrstuvwxyz"
BODY = {"model": "demo", "input": "?"}


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
    return response.status, error["code"], error["param"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_body", None),
        (b"[]", "invalid_body", None),
        ({"input": "?"}, "missing_required_parameter", "model"),
        ({"model": "demo"}, "missing_required_parameter", "input"),
        (BODY | {"temperature": "hot"}, "invalid_value", "temperature"),
        (BODY | {"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        (BODY | {"tailrace": {"x": 1}}, "invalid_body", "tailrace.x"),
        (BODY | {"previous_response_id": "x"}, "previous_response_not_found", "previous_response_id"),
    ],
)
async def test_invalid_body_is_refused_with_openais_code_and_the_parameter(
    body: Any, code: str, param: str | None
) -> None:
    assert refusal(await asked("POST", PATH, body)) == (400, code, param)


ROUTES = [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]


@pytest.mark.parametrize(("method", "tail"), ROUTES)
@pytest.mark.parametrize("given", ["x", "gen_" + ID[5:], "chatcmpl-" + ID[5:], "resp_", ID + "x", "%F0%9F%92%A7"])
async def test_malformed_id_is_not_found_in_openais_words(method: str, tail: str, given: str) -> None:
    response = await asked(method, f"{PATH}/{given}{tail}")
    assert refusal(response) == (404, None, None)
    assert response.value["error"]["message"] == f"Response with id '{given}' not found."


@pytest.mark.parametrize(
    ("tail", "query"),
    [
        ("", "stream=maybe"),
        ("", "stream=true&starting_after=x"),
        ("", "include_obfuscation=perhaps"),
        ("", "include[]=everything"),
        ("/input_items", "limit=0"),
        ("/input_items", "order=up"),
        ("/input_items", "include=everything"),
    ],
)
async def test_query_that_is_malformed_is_refused(tail: str, query: str) -> None:
    assert refusal(await asked("GET", f"{PATH}/{ID}{tail}", query=query))[0] == 400


@pytest.mark.parametrize(
    ("method", "path"), [("POST", PATH), *((method, f"{PATH}/{ID}{tail}") for method, tail in ROUTES)]
)
async def test_route_answers_503_with_retry_after_while_redis_is_unreachable(method: str, path: str) -> None:
    response = await asked(method, path, BODY)
    assert refusal(response) == (503, "unavailable", None)
    assert int(response.headers["retry-after"]) >= 1


async def test_size_of_a_prompt_needs_no_redis() -> None:
    response = await asked("POST", f"{PATH}/input_tokens", {"input": "Hello?"})
    assert response.value == {"object": "response.input_tokens", "input_tokens": 2, "estimated": True}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (PATH, {"POST"}),
        (f"{PATH}/{ID}", {"GET", "HEAD", "DELETE"}),
        (f"{PATH}/{ID}/cancel", {"POST"}),
        (f"{PATH}/{ID}/input_items", {"GET", "HEAD"}),
    ],
)
async def test_method_that_a_path_lacks_is_refused_with_the_allowed_ones(path: str, allowed: set[str]) -> None:
    response = await asked("PUT", path)
    assert refusal(response)[:2] == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed
