import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.frontend_harness import FrontendHarness
from support.hub_harness import Client, until
from support.logs import REQUEST, record
from support.named_logs import LOGS
from tailrace.errors import InvalidCursor
from tailrace.ids import EntryId
from tailrace.wire import WIRE_FORMATS, WireFormat
from tailrace_frontend.callers import OPEN_KEY
from tailrace_frontend.http import stream_endpoint
from tailrace_frontend.http.stream_endpoint import answer_events, parse_cursor, send_log, stream_headers

RECORD = record(owner="open")
ENTRIES = LOGS["text"](RECORD)
LOCATION = [(b"location", b"/v1/generations/x")]


@pytest.fixture
async def frontend() -> AsyncIterator[FrontendHarness]:
    frontend = FrontendHarness(max_readers=1)
    await frontend.create(RECORD, ENTRIES)
    yield frontend
    await frontend.close()


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
def test_cursor_of_the_header_precedes_that_of_the_query(
    header: list[str], query: str | None, cursor: EntryId | None
) -> None:
    assert parse_cursor(header, query) == cursor


@pytest.mark.parametrize(
    "given", [["1-2", "1-2"], ["1-2", ""], ["x"], ["-"], ["1-2-3"], [" 1-2"], ["1-2\x00"], ["٣-١"], [","]]
)
def test_cursor_that_is_malformed_or_given_twice_is_refused(given: list[str]) -> None:
    with pytest.raises(InvalidCursor):
        parse_cursor(given, None)


def test_stream_headers_are_the_media_type_the_formats_own_and_those_of_the_route() -> None:
    wire = WireFormat("text/event-stream", lambda *_: lambda _: b"", headers=((b"x-format", b"1"),))
    headers = stream_headers(wire, LOCATION)
    assert headers == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-format", b"1"),
        *LOCATION,
    ]


async def test_get_sends_the_log_in_the_accepted_format(frontend: FrontendHarness) -> None:
    for accept, wire in (("text/event-stream", "native"), ("application/x-ndjson", "ndjson"), ("text/plain", "text")):
        client = await frontend.get(RECORD.id, accept=accept)
        assert client.start["status"] == 200
        assert client.start["headers"] == stream_headers(WIRE_FORMATS[wire])
        assert client.completed
    assert frontend.count("streams_opened") == 3


async def test_stream_that_has_begun_keeps_the_method_of_its_request_alone(frontend: FrontendHarness) -> None:
    client = Client()
    scope = frontend.scope(client, headers={"accept": "text/plain"})
    headers = scope["headers"]
    await answer_events(frontend.services, RECORD.id, scope, client.send)
    assert client.completed
    assert (scope, headers) == ({"method": "POST"}, [])


async def test_key_that_was_withdrawn_while_its_reader_waited_is_refused(
    frontend: FrontendHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend.services.callers, "may_read", lambda _: False)
    client = await frontend.get(RECORD.id, accept="text/event-stream")
    assert client.start["status"] == 401
    assert frontend.hub.count == 0


async def test_get_from_a_cursor_sends_the_rest_and_at_the_end_204(frontend: FrontendHarness) -> None:
    resumed = await frontend.get(RECORD.id, last_event_id=str(ENTRIES[-2].id))
    assert resumed.kinds == ["done"]
    finished = await frontend.get(RECORD.id, query=f"last_event_id={ENTRIES[-1].id}")
    assert finished.start == {"type": "http.response.start", "status": 204, "headers": []}
    assert finished.body == b""
    assert frontend.count("resumes", outcome="continued") == frontend.count("resumes", outcome="ended") == 1


@pytest.mark.parametrize("epochs_later", [-1, 1])
async def test_get_from_a_cursor_of_another_epoch_is_no_end(frontend: FrontendHarness, epochs_later: int) -> None:
    newest = ENTRIES[-1].id
    client, scope = Client(), {"last_event_id": f"{newest.epoch + epochs_later}-{newest.seq}"}
    task = asyncio.create_task(
        answer_events(frontend.services, RECORD.id, frontend.scope(client, headers=scope), client.send)
    )
    await until(lambda: client.messages)
    assert client.start["status"] == 200
    client.disconnect()
    await task


@pytest.mark.parametrize(("accept", "status"), [("text/event-stream", 200), ("*/*", 429)])
async def test_get_beyond_the_limit_is_a_retry_hint_to_clients_of_event_streams(
    frontend: FrontendHarness, accept: str, status: int
) -> None:
    await frontend.append(RECORD, [])
    await frontend.redis.flushall()
    await frontend.create(RECORD, ENTRIES[:3])
    await frontend.connect(RECORD)
    client = await frontend.get(RECORD.id, accept=accept)
    assert client.start["status"] == status
    if status == 200:
        assert client.comments == ["Concurrent stream limit of this frontend reached (1)."]
        assert frontend.count("streams_deferred") == 1
    else:
        assert b"Concurrent stream limit" in client.body
        assert (b"retry-after", b"1") in client.start["headers"]


async def test_post_sends_the_log_from_its_beginning_with_its_headers(frontend: FrontendHarness) -> None:
    client = Client()
    state = await frontend.log.state(RECORD.id)
    await send_log(
        frontend.services, WIRE_FORMATS["native"], state, OPEN_KEY, LOCATION, frontend.scope(client), client.send
    )
    assert client.start["headers"] == stream_headers(WIRE_FORMATS["native"], LOCATION)
    assert client.kinds[0] == "created"
    assert client.completed


async def test_post_beyond_the_limit_is_a_retry_hint_with_its_headers(frontend: FrontendHarness) -> None:
    await frontend.redis.flushall()
    await frontend.create(RECORD, ENTRIES[:3])
    await frontend.connect(RECORD)
    client = Client()
    state = await frontend.log.state(RECORD.id)
    await send_log(
        frontend.services, WIRE_FORMATS["native"], state, OPEN_KEY, LOCATION, frontend.scope(client), client.send
    )
    assert client.start["status"] == 200
    assert LOCATION[0] in client.start["headers"]
    assert client.body.startswith(b"retry: ")
    assert client.completed


async def test_format_that_needs_the_request_gets_it(
    frontend: FrontendHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[object] = []
    bind = WIRE_FORMATS["native"].bind

    def recording(*arguments: Any) -> Any:
        requests.append(arguments[1])
        return bind(*arguments)

    for needs_request in (True, False):
        wire = WireFormat("text/event-stream", recording, needs_request=needs_request)
        monkeypatch.setattr(stream_endpoint, "native_format", lambda *_, wire=wire: wire)
        client = await frontend.get(RECORD.id)
        await until(lambda client=client: client.completed)  # type: ignore[misc]
    assert requests == [REQUEST, None]
