from typing import Any

import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace.errors import Misconfigured
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend, find_stream
from tailrace_frontend.http import cors

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
PATH = f"/v1/generations/{GENERATION}/events"
KEYS = {"api_keys": SecretStr("anna:anna-key-1"), "ticket_secret": SecretStr("0123456789abcdef")}
ANNA = {"authorization": "Bearer anna-key-1"}
SSE = {"accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def _without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands fail at once."""
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


def frontend(**settings: Any) -> Frontend:
    """A frontend without a Redis: the responses tested here need none."""
    return Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings))


def is_error(response: Response, status: int, code: str | None) -> bool:
    error = response.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.body)
    return (response.status, error["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/generations/gen_a/b/events", "/v1/generations//events", f"{PATH}/", f"/x{PATH}"])
async def test_path_that_is_no_event_stream_goes_to_the_api(path: str) -> None:
    assert find_stream({"type": "http", "method": "GET", "path": path}) == (None, "")
    assert is_error(await ask(frontend(), "GET", path), 404, "not_found")


@pytest.mark.parametrize(
    "generation_id",
    ["x", "gen_", GENERATION + "a", GENERATION.upper(), "gen_" + "1" * 26, "é", "%00", "*", "a b", "\x00"],
)
async def test_malformed_generation_id_is_not_found_without_a_read(generation_id: str) -> None:
    assert is_error(await ask(frontend(), "GET", f"/v1/generations/{generation_id}/events"), 404, "not_found")
    assert is_error(await ask(frontend(), "GET", f"/v1/generations/{generation_id}"), 404, "not_found")


async def test_malformed_cursor_is_refused_also_while_redis_is_away() -> None:
    for headers, query in (({"last-event-id": "1"}, ""), ({}, "last_event_id=%0d%0a1-2"), (SSE, "last_event_id=1")):
        assert is_error(await ask(frontend(), "GET", PATH, headers=headers, query=query), 400, "invalid_cursor")


async def test_event_source_gets_a_retry_hint_while_redis_is_away() -> None:
    response = await ask(frontend(), "GET", PATH, headers=SSE | {"last-event-id": "1-2"})
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.body.startswith(b"retry: ")
    assert response.body.endswith(b"\n: Redis cannot be reached. Retry after a moment.\n\n")


@pytest.mark.parametrize("accept", ["*/*", "", "application/x-ndjson", "text/plain"])
async def test_other_clients_get_503_while_redis_is_away(accept: str) -> None:
    response = await ask(frontend(), "GET", PATH, headers={"accept": accept})
    assert is_error(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


async def test_draining_server_sends_streams_elsewhere_and_is_not_ready() -> None:
    stopping = frontend()
    stopping.services.hub.draining = True
    assert is_error(await ask(stopping, "GET", PATH), 503, "unavailable")
    assert b"stopping" in (await ask(stopping, "GET", PATH, headers=SSE)).body
    ready = await ask(stopping, "GET", "/readyz")
    assert is_error(ready, 503, "unavailable")
    assert "stopping" in ready.value["error"]["message"]
    assert (await ask(stopping, "GET", "/healthz")).status == 200


async def test_stream_needs_a_key_or_a_ticket_where_there_are_keys() -> None:
    guarded = frontend(**KEYS)
    assert is_error(await ask(guarded, "GET", PATH), 401, "invalid_api_key")
    assert is_error(await ask(guarded, "GET", PATH, query="ticket=anna~1~x"), 401, "invalid_api_key")
    ticket = guarded.services.callers.ticket(GENERATION, guarded.services.callers.identify(ANNA), 10**11)
    assert (await ask(guarded, "GET", PATH, query=f"ticket={ticket}")).status == 503
    assert (await ask(guarded, "GET", PATH, headers=ANNA)).status == 503
    assert (await ask(guarded, "GET", PATH, headers={"authorization": f"Ticket {ticket}"})).status == 503
    forged = await ask(guarded, "GET", PATH, headers={"authorization": "Ticket anna~1~x"}, query=f"ticket={ticket}")
    assert is_error(forged, 401, "invalid_api_key")
    wrong_key = await ask(guarded, "GET", PATH, headers={"authorization": "Bearer x"}, query=f"ticket={ticket}")
    assert is_error(wrong_key, 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/generations"),
        ("GET", "/v1/generations"),
        ("GET", f"/v1/generations/{GENERATION}"),
        ("POST", f"/v1/generations/{GENERATION}/cancel"),
        ("DELETE", f"/v1/generations/{GENERATION}"),
    ],
)
async def test_ticket_opens_no_other_route(method: str, path: str) -> None:
    """Of its generation it is known, and refused; elsewhere it is no credential."""
    guarded = frontend(**KEYS)
    refusal = (403, "insufficient_scope") if GENERATION in path else (401, "invalid_api_key")
    ticket = guarded.services.callers.ticket(GENERATION, guarded.services.callers.identify(ANNA), 10**11)
    assert is_error(await ask(guarded, method, path, query=f"ticket={ticket}"), *refusal)
    in_header = {"authorization": f"Ticket {ticket}"}
    assert is_error(await ask(guarded, method, path, headers=in_header), *refusal)


async def test_server_without_keys_refuses_other_hosts_and_origins() -> None:
    for path in (PATH, "/v1/generations"):
        response = await ask(frontend(), "GET", path, headers={"host": "example.org"})
        assert is_error(response, 421, "host_refused")
        response = await ask(frontend(), "GET", path, headers={"origin": "http://example.org"})
        assert is_error(response, 403, "origin_refused")
        response = await ask(frontend(), "GET", path, headers={"origin": "http://["})
        assert is_error(response, 403, "origin_refused")


async def test_stream_for_a_known_origin_has_cors_headers_also_when_refused() -> None:
    app = frontend(cors_origins="https://app.example.org")
    for headers, status in ((SSE, 200), ({}, 503), ({"last-event-id": "x"}, 400)):
        response = await ask(app, "GET", PATH, headers=headers | {"origin": "https://app.example.org"})
        assert response.status == status
        assert response.headers["access-control-allow-origin"] == "https://app.example.org"
        assert response.headers["vary"] == "Origin"
    response = await ask(app, "GET", PATH)
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin", "a cache must not keep it for a page of the other origin"


async def test_any_origin_may_call_every_route_where_any_is_allowed() -> None:
    app = frontend(cors_origins="*", **KEYS)
    for path in (PATH, "/v1/generations"):
        response = await ask(app, "GET", path, headers=ANNA | {"origin": "https://anywhere.example.org"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["access-control-expose-headers"] == ", ".join(cors.EXPOSED)
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "query",
    [
        "&",
        "=",
        "&&==&",
        "%",
        "%zz",
        "a=%ff%fe",
        "last_event_id",
        "\xff=\xff",
        "x=" + "y" * 10_000,
        "&".join(["a=b"] * 2000),
    ],
    ids=lambda query: query[:12],
)
async def test_malformed_query_is_ignored(query: str) -> None:
    assert (await ask(frontend(), "GET", PATH, query=query)).status == 503


async def test_stream_refuses_other_methods_and_names_the_allowed_one() -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        response = await ask(frontend(), method, PATH)
        assert response.status == 405
        assert response.headers["allow"] == "GET"


def test_frontend_does_not_start_open_to_strangers_or_with_forgeable_tickets() -> None:
    with pytest.raises(Misconfigured):
        frontend(host="0.0.0.0")
    with pytest.raises(Misconfigured):
        frontend(api_keys=SecretStr("anna:anna-key-1"))
