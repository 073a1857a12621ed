from typing import Any

import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace.errors import InvalidCursor, Misconfigured
from tailrace.ids import EntryId
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace.wire import WIRES
from tailrace_frontend.app import EVENTS, Frontend, _cursor, wire_for

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
PATH = f"/v1/generations/{GENERATION}/events"
KEYS = {"api_keys": SecretStr("anna:anna-key-1"), "ticket_secret": SecretStr("0123456789abcdef")}
ANNA = {"authorization": "Bearer anna-key-1"}
SSE = {"accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is away is not asked again."""
    monkeypatch.setattr(connection, "RETRIES", 0)


def frontend(**settings: Any) -> Frontend:
    """A frontend whose Redis is not there: what is answered here needs none."""
    return Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings))


def is_error(told: Response, status: int, code: str | None) -> bool:
    error = told.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert told.headers["content-type"] == "application/json"
    assert int(told.headers["content-length"]) == len(told.body)
    return (told.status, error["code"]) == (status, code)


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", "native"),
        ("*/*", "native"),
        ("text/event-stream", "native"),
        ("application/x-ndjson", "ndjson"),
        ("Application/X-NDJSON; q=0.5", "ndjson"),
        ("application/x-ndjson, application/x-ndjson;q=0.1", "ndjson"),
        ("text/plain", "text"),
        ("text/plain;charset=utf-8", "text"),
        ("text/plain, */*", "native"),
        ("text/plain, application/x-ndjson", "native"),
        ("application/x-ndjson, text/event-stream", "native"),
        ("application/json", "native"),
        (",,,", "native"),
    ],
)
def test_it_is_sse_unless_another_wire_is_asked_for_alone(accept: str, name: str) -> None:
    assert wire_for(accept) is WIRES[name]


@pytest.mark.parametrize(
    ("header", "query", "cursor"),
    [
        ([], None, None),
        ([""], None, None),
        ([], "", None),
        ([], "12-3", EntryId(12, 3)),
        (["12-3"], None, EntryId(12, 3)),
        (["12-3"], "99-9", EntryId(12, 3)),
        ([""], "12-3", EntryId(12, 3)),
        (["12-3"], "nonsense", EntryId(12, 3)),
        (["0-0"], None, EntryId(0, 0)),
    ],
)
def test_the_header_comes_before_the_query_and_an_empty_cursor_is_none(
    header: list[str], query: str | None, cursor: EntryId | None
) -> None:
    assert _cursor(header, query) == cursor


@pytest.mark.parametrize(
    "given", [["1-2", "1-2"], ["1-2", ""], ["x"], ["-"], ["1-2-3"], [" 1-2"], ["1-2\x00"], ["٣-١"], [","]]
)
def test_two_cursors_or_none_at_all_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidCursor):
        _cursor(given, None)


@pytest.mark.parametrize("path", ["/v1/generations/gen_a/b/events", "/v1/generations//events", f"{PATH}/", f"/x{PATH}"])
async def test_other_paths_are_no_event_streams(path: str) -> None:
    assert not EVENTS.fullmatch(path)
    assert is_error(await ask(frontend(), "GET", path), 404, "not_found")


@pytest.mark.parametrize(
    "generation_id",
    ["x", "gen_", GENERATION + "a", GENERATION.upper(), "gen_" + "1" * 26, "é", "%00", "*", "a b", "\x00"],
)
async def test_what_is_no_id_is_not_found_without_asking_redis(generation_id: str) -> None:
    assert is_error(await ask(frontend(), "GET", f"/v1/generations/{generation_id}/events"), 404, "not_found")
    assert is_error(await ask(frontend(), "GET", f"/v1/generations/{generation_id}"), 404, "not_found")


async def test_a_malformed_cursor_is_refused_also_while_redis_is_away() -> None:
    for headers, query in (({"last-event-id": "1"}, ""), ({}, "last_event_id=%0d%0a1-2"), (SSE, "last_event_id=1")):
        assert is_error(await ask(frontend(), "GET", PATH, headers=headers, query=query), 400, "invalid_cursor")


async def test_while_redis_is_away_an_event_source_is_told_to_come_again() -> None:
    told = await ask(frontend(), "GET", PATH, headers=SSE | {"last-event-id": "1-2"})
    assert told.status == 200
    assert told.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert told.headers["cache-control"] == "no-cache, no-transform"
    assert told.body.startswith(b"retry: ")
    assert told.body.endswith(b"\n: Redis cannot be reached. Retry after a moment.\n\n")


@pytest.mark.parametrize("accept", ["*/*", "", "application/x-ndjson", "text/plain"])
async def test_while_redis_is_away_everybody_else_is_told_503(accept: str) -> None:
    told = await ask(frontend(), "GET", PATH, headers={"accept": accept})
    assert is_error(told, 503, "unavailable")
    assert int(told.headers["retry-after"]) >= 1


async def test_a_server_that_drains_sends_streams_elsewhere_and_is_not_ready() -> None:
    stopping = frontend()
    stopping.services.hub.draining = True
    assert is_error(await ask(stopping, "GET", PATH), 503, "unavailable")
    assert b"stopping" in (await ask(stopping, "GET", PATH, headers=SSE)).body
    ready = await ask(stopping, "GET", "/readyz")
    assert is_error(ready, 503, "unavailable")
    assert "stopping" in ready.value["error"]["message"]
    assert (await ask(stopping, "GET", "/healthz")).status == 200


async def test_with_keys_a_stream_needs_one_or_a_ticket() -> None:
    guarded = frontend(**KEYS)
    assert is_error(await ask(guarded, "GET", PATH), 401, "invalid_api_key")
    assert is_error(await ask(guarded, "GET", PATH, query="ticket=anna~1~x"), 401, "invalid_api_key")
    ticket = guarded.services.callers.ticket(GENERATION, "anna", 10**11)
    assert (await ask(guarded, "GET", PATH, query=f"ticket={ticket}")).status == 503
    assert (await ask(guarded, "GET", PATH, headers=ANNA)).status == 503
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
async def test_a_ticket_opens_no_other_route(method: str, path: str) -> None:
    guarded = frontend(**KEYS)
    ticket = guarded.services.callers.ticket(GENERATION, "anna", 10**11)
    assert is_error(await ask(guarded, method, path, query=f"ticket={ticket}"), 401, "invalid_api_key")


async def test_without_keys_another_hosts_name_and_another_sites_page_are_refused() -> None:
    for path in (PATH, "/v1/generations"):
        told = await ask(frontend(), "GET", path, headers={"host": "example.org"})
        assert is_error(told, 421, "host_refused")
        told = await ask(frontend(), "GET", path, headers={"origin": "http://example.org"})
        assert is_error(told, 403, "origin_refused")
        told = await ask(frontend(), "GET", path, headers={"origin": "http://["})
        assert is_error(told, 403, "origin_refused")


async def test_an_event_stream_of_a_known_origin_carries_its_headers_also_when_refused() -> None:
    app = frontend(cors_origins="https://app.example.org")
    for headers, status in ((SSE, 200), ({}, 503), ({"last-event-id": "x"}, 400)):
        told = await ask(app, "GET", PATH, headers=headers | {"origin": "https://app.example.org"})
        assert told.status == status
        assert told.headers["access-control-allow-origin"] == "https://app.example.org"
        assert told.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in (await ask(app, "GET", PATH)).headers


async def test_any_origin_may_call_where_any_was_allowed_streams_as_all_the_rest() -> None:
    app = frontend(cors_origins="*", **KEYS)
    for path in (PATH, "/v1/generations"):
        told = await ask(app, "GET", path, headers=ANNA | {"origin": "https://anywhere.example.org"})
        assert told.headers["access-control-allow-origin"] == "*"
        assert told.headers["access-control-expose-headers"] == "location, retry-after"
        assert "access-control-allow-credentials" not in told.headers


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
async def test_junk_in_the_query_is_ignored(query: str) -> None:
    assert (await ask(frontend(), "GET", PATH, query=query)).status == 503


async def test_every_other_method_on_a_stream_is_refused_with_what_is_allowed() -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        told = await ask(frontend(), method, PATH)
        assert told.status == 405
        assert told.headers["allow"] == "GET"


def test_no_frontend_starts_open_to_strangers_or_with_tickets_that_can_be_forged() -> None:
    with pytest.raises(Misconfigured):
        frontend(host="0.0.0.0")
    with pytest.raises(Misconfigured):
        frontend(api_keys=SecretStr("anna:anna-key-1"))
