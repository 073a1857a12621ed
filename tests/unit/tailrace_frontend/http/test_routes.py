from typing import Any

import pytest

from support.asgi import Response, ask
from tailrace import jsoncodec
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(autouse=True)
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is unreachable is tried once."""
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


def frontend(**settings: Any) -> Frontend:
    """A frontend whose Redis is not there."""
    return Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings))


def code_of(response: Response) -> tuple[int, str | None]:
    error = response.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return response.status, error["code"]


async def test_body_that_is_too_large_is_refused_without_redis() -> None:
    for body in (b"", b"{", b"[]", jsoncodec.dumps(BODY | {"n": 0})):
        assert code_of(await ask(frontend(), "POST", "/v1/generations", body=body)) == (400, "invalid_body")
    response = await ask(frontend(max_body_bytes=1024), "POST", "/v1/generations", body=b"x" * 1025)
    assert code_of(response) == (413, "request_too_large")


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_idempotency_key_of_the_wrong_length_is_refused_by_name(key: str) -> None:
    response = await ask(
        frontend(), "POST", "/v1/generations", headers={"idempotency-key": key}, body=jsoncodec.dumps(BODY)
    )
    assert code_of(response) == (400, None)
    assert response.value["error"]["param"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/generations"),
        ("GET", "/v1/generations"),
        ("GET", f"/v1/generations/{GENERATION}"),
        ("POST", f"/v1/generations/{GENERATION}/cancel"),
        ("DELETE", f"/v1/generations/{GENERATION}"),
        ("GET", "/readyz"),
    ],
)
async def test_every_route_answers_503_with_retry_after_while_redis_is_unreachable(method: str, path: str) -> None:
    response = await ask(frontend(), method, path, body=jsoncodec.dumps(BODY))
    assert code_of(response) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/generations", "limit=0", "limit"),
        ("/v1/generations", "limit=101", "limit"),
        ("/v1/generations", "limit=x", "limit"),
        ("/v1/generations", "limit=", "limit"),
        ("/v1/generations", "limit=1.5", "limit"),
        ("/v1/generations", "after=" + "x" * 65, "after"),
        (f"/v1/generations/{GENERATION}", "wait=-1", "wait"),
        (f"/v1/generations/{GENERATION}", "wait=61", "wait"),
        (f"/v1/generations/{GENERATION}", "wait=nan", "wait"),
        (f"/v1/generations/{GENERATION}", "wait=inf", "wait"),
        (f"/v1/generations/{GENERATION}", "wait=soon", "wait"),
    ],
)
async def test_query_that_is_out_of_range_is_refused_by_name(path: str, query: str, param: str) -> None:
    response = await ask(frontend(), "GET", path, query=query)
    assert code_of(response) == (400, None)
    assert response.value["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/generations", {"GET", "HEAD", "POST"}),
        (f"/v1/generations/{GENERATION}", {"GET", "HEAD", "DELETE"}),
        (f"/v1/generations/{GENERATION}/cancel", {"POST"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/", {"GET", "HEAD"}),
        (f"/v1/generations/{GENERATION}/events", {"GET"}),
        ("/api/chat/x/stream", {"GET"}),
    ],
)
async def test_method_that_a_path_lacks_is_refused_with_the_allowed_ones(path: str, allowed: set[str]) -> None:
    response = await ask(frontend(), "PUT", path)
    assert code_of(response) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


async def test_metrics_are_served_while_redis_is_unreachable() -> None:
    response = await ask(frontend(), "GET", "/metrics")
    assert response.status == 200
    assert b"tailrace_generations_waiting NaN" in response.body
    assert b'tailrace_readers{state="live"} 0.0' in response.body
