"""The routes of chats without Redis: what is refused, and by which name."""

from typing import Any

import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace import jsoncodec
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend, find_stream

MESSAGE = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "?"}]}
BODY: dict[str, Any] = {"id": "chat", "messages": [MESSAGE], "trigger": "submit-message", "model": "demo"}


@pytest.fixture(autouse=True)
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is unreachable is tried once."""
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


def frontend(**settings: Any) -> Frontend:
    """A frontend whose Redis is not there."""
    return Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings))


async def post(body: Any, **settings: Any) -> Response:
    return await ask(frontend(**settings), "POST", "/api/chat", body=jsoncodec.dumps(body))


def error_of(response: Response) -> tuple[int, str | None, str | None]:
    error = response.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return response.status, error["code"], error["param"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"id": None}, "id"),
        ({"id": 1}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"id": "a/b"}, "id"),
        ({"messages": []}, "messages"),
        ({"model": ""}, "model"),
        ({"model": 1}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": {"search": {}}}, "tools"),
        ({"tailrace": {"unknown": 1}}, "tailrace.unknown"),
    ],
)
async def test_field_of_the_wrong_form_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    assert error_of(await post(BODY | change)) == (400, "invalid_body", param)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([{"role": "user", "content": "?"}], "messages[0].parts"),
        ([MESSAGE | {"role": "tool"}], "messages[0].role"),
    ],
)
async def test_malformed_message_is_refused_by_its_place(messages: Any, param: str) -> None:
    assert error_of(await post(BODY | {"messages": messages})) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": [MESSAGE | {"parts": [{"type": "custom", "kind": "x.y"}]}]}, "messages[0].parts[0]"),
    ],
)
async def test_field_without_a_place_at_the_upstream_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    assert error_of(await post(BODY | change)) == (400, "unsupported_parameter", param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null"])
async def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert error_of(await ask(frontend(), "POST", "/api/chat", body=body)) == (400, "invalid_body", None)


async def test_body_that_is_too_large_is_refused() -> None:
    response = await ask(frontend(max_body_bytes=1024), "POST", "/api/chat", body=b"x" * 1025)
    assert error_of(response)[:2] == (413, "request_too_large")


async def test_model_of_the_body_must_be_allowed() -> None:
    assert error_of(await post(BODY, models="other")) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/chat"),
        ("GET", "/api/chat/chat/stream"),
        ("POST", "/api/chat/chat/stop"),
        ("GET", "/api/chat/chat/messages"),
    ],
)
async def test_every_route_needs_a_key_and_then_redis(method: str, path: str) -> None:
    keys = {"api_keys": SecretStr("anna:anna-key-1"), "ticket_secret": SecretStr("0123456789abcdef")}
    body = jsoncodec.dumps(BODY)
    assert error_of(await ask(frontend(**keys), method, path, body=body))[:2] == (401, "invalid_api_key")
    anna = {"authorization": "Bearer anna-key-1"}
    response = await ask(frontend(**keys), method, path, headers=anna, body=body)
    assert error_of(response)[:2] == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


async def test_stream_is_refused_while_the_frontend_stops() -> None:
    stopping = frontend()
    stopping.services.hub.draining = True
    response = await ask(stopping, "GET", "/api/chat/chat/stream", headers={"accept": "text/event-stream"})
    assert error_of(response)[:2] == (503, "unavailable"), "no retry hint: `useChat` would take it for a whole answer"


@pytest.mark.parametrize("chat_id", ["a", "x" * 5000, "é 💧", "gen_x", "..", "%2f"])
def test_stream_of_any_chat_id_is_answered_before_fastapi(chat_id: str) -> None:
    answer, found = find_stream({"type": "http", "method": "GET", "path": f"/api/chat/{chat_id}/stream"})
    assert answer is not None
    assert found == chat_id


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/chat", "POST"),
        ("/api/chat/c/stream", "GET"),
        ("/api/chat/c/stop", "POST"),
        ("/api/chat/c/messages", "GET, HEAD"),
    ],
)
async def test_method_that_a_path_lacks_is_refused_with_the_allowed_one(path: str, allowed: str) -> None:
    response = await ask(frontend(), "PUT", path)
    assert error_of(response)[:2] == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed


async def test_page_of_another_origin_may_send_what_the_sdk_sends() -> None:
    """The SDK sets `user-agent`, which some browsers ask for in a preflight request."""
    app = frontend(cors_origins="https://app.example.org")
    headers = {
        "origin": "https://app.example.org",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, user-agent",
    }
    response = await ask(app, "OPTIONS", "/api/chat", headers=headers)
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example.org"
