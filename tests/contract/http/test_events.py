"""`GET /v1/generations/{id}/events`: frames, cursors, wire formats."""

import json
import time

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.api import Api
from support.product import LEASE_S, Product, percent_encoded
from support.sse import Parser, streamed_text
from tailrace_frontend.client_limits import URL_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

CURSORS = [
    "x", "1", "-", "1-", "-1", "1-2-3", "1.5-2", " 1-2", "1-2 ", "0x1-2", "+1-2", "1--2", "9" * 16 + "-1",
    "1-" + "9" * 16,
    "9" * 5000 + "-1", "\u0661-\u0662", "$", "*", "(1-2", "1-*", "+", "null", "undefined", "1-2,3-4", "\x00",
    "1-2\x00", "%00",
    "1-2\r\n", "1-2\r\nX: y", "é", "💧", "' or 1=1",
]  # fmt: skip
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def test_finished_log_is_streamed_whole_with_headers_for_proxies(product: Product) -> None:
    generation_id = await product.completed("Hello", " there", "\u2028 €\n\r\n: x\ndata: y")
    response = await product.api.events(generation_id)
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "content-encoding" not in response.headers
    events = Parser().feed(response.body)
    assert [event.kind for event in events] == ["created", "started", "item_opened", "text", "done"]
    assert streamed_text(events) == "Hello there\u2028 €\n\r\n: x\ndata: y"
    assert "€".encode() in response.body
    assert b"\r" not in response.body
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert events[0].seq == 0
    assert events[-1].value["status"] == "completed"
    assert "output" not in events[-1].value


async def test_frame_is_id_event_and_data_in_this_order(product: Product) -> None:
    response = await product.api.events(await product.completed("Hello"))
    frames = response.body.decode().split("\n\n")
    assert frames.pop() == ""
    for frame in frames:
        names = [line.partition(": ")[0] for line in frame.split("\n")]
        assert [name for name in names if name != "retry"] == ["id", "event", "data"]
        assert ("retry" in names) == ("event: created" in frame)


async def test_live_log_is_streamed_as_it_grows(product: Product) -> None:
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    writer = await product.writer(generation_id)
    await stream.until("item_opened")
    for word in ("Hello", " there", "!"):
        await writer.write_text(word)
        await stream.until_text(word)
    await writer.end()
    await stream.rest()
    assert stream.kinds == ["created", "started", "item_opened", "text", "text", "text", "done"]
    assert [event.seq for event in stream.events] == [0, 1, 3, 4, 5, 6, stream.events[-1].seq]


async def test_every_cursor_resumes_with_exactly_the_rest(product: Product) -> None:
    generation_id = await product.api.create()
    whole = await product.api.stream(generation_id)
    writer = await product.writer(generation_id)
    for word in ("a", "b", "c", "d"):
        await writer.write_text(word)
        await whole.until_text(word)
    await writer.end()
    await whole.rest()
    for position, event in enumerate(whole.events[:-1]):
        for query, headers in (("", {"Last_Event_ID": str(event.id)}), (f"?last_event_id={event.id}", {})):
            response = await product.api.events(generation_id, query, **headers)
            rest = Parser().feed(response.body)
            assert streamed_text(whole.events[: position + 1]) + streamed_text(rest) == "abcd"
            assert all(each.seq > event.seq for each in rest)
            assert rest[-1].id == whole.events[-1].id


async def test_cursor_header_takes_precedence_over_the_query_and_may_be_empty(product: Product) -> None:
    generation_id = await product.completed("Hello")
    whole = await product.api.events(generation_id)
    last = Parser().feed(whole.body)[-1].id
    assert (await product.api.events(generation_id, f"?last_event_id={last}", Last_Event_ID="")).status == 204
    assert (await product.api.events(generation_id, "?last_event_id=nonsense", Last_Event_ID=str(last))).status == 204
    for query, headers in (("", {"Last_Event_ID": ""}), ("?last_event_id=", {})):
        assert (await product.api.events(generation_id, query, **headers)).body == whole.body


async def test_cursor_at_the_end_of_a_finished_log_gets_204(product: Product) -> None:
    generation_id = await product.completed("Hello")
    last = Parser().feed((await product.api.events(generation_id)).body)[-1].id
    for accept in ("text/event-stream", "application/x-ndjson", "text/plain", "*/*"):
        response = await product.api.events(generation_id, Last_Event_ID=str(last), Accept=accept)
        assert (response.status, response.body) == (204, b"")


async def test_cursor_at_the_end_of_a_live_log_waits_for_more(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    last_seq = f"{writer.epoch}-{writer.last_seq}"
    stream = await product.api.stream(generation_id, last_seq)
    await writer.write_text(" there")
    await writer.end()
    await stream.rest()
    assert stream.text == " there"


async def test_cursor_inside_an_entry_restarts_without_an_id(product: Product) -> None:
    generation_id = await product.completed("Hello")
    opened = next(e for e in Parser().feed((await product.api.events(generation_id)).body) if e.kind == "item_opened")
    assert opened.id is not None
    epoch, n = opened.id.split("-")
    stream = await product.api.read(generation_id, f"{epoch}-{int(n) - 1}")
    assert (stream.events[0].id, stream.events[0].kind, stream.events[0].data) == (
        None,
        "restarted",
        '{"reason":"log_changed"}',
    )
    assert stream.events[1].seq == 0
    assert stream.text == "Hello"


@pytest.mark.parametrize("live", [True, False])
async def test_cursor_ahead_of_the_log_restarts_after_a_lease(product: Product, live: bool) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    if not live:
        await writer.end()
    began = time.monotonic()
    stream = await product.api.stream(generation_id, f"{writer.epoch}-{writer.last_seq + 50}")
    first = await stream.until("restarted")
    assert time.monotonic() - began >= LEASE_S
    assert first.id is None
    assert stream.events[0] is first
    await stream.until_text("Hello")
    assert stream.events[1].seq == 0
    if live:
        await writer.end()
    await stream.rest()
    assert stream.text == "Hello"


@pytest.mark.parametrize("epoch", ["0", "1", "999999999999999"])
async def test_cursor_of_an_unknown_epoch_restarts(product: Product, epoch: str) -> None:
    generation_id = await product.completed("Hello", " there")
    newest = (await product.api.read(generation_id)).parser.last_id
    assert newest is not None
    for seq in ("4", newest.partition("-")[2]):
        stream = await product.api.read(generation_id, f"{epoch}-{seq}")
        assert (stream.events[0].id, stream.events[0].kind) == (None, "restarted")
        assert stream.text == "Hello there"


async def test_ndjson_has_one_line_an_event(product: Product) -> None:
    generation_id = await product.completed("Hello\u2028", " there")
    response = await product.api.events(generation_id, Accept="application/x-ndjson")
    assert response.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    lines = [json.loads(line) for line in response.body.decode().splitlines()]
    events = Parser().feed((await product.api.events(generation_id)).body)
    assert [(line["id"], line["event"], line["data"]) for line in lines] == [(e.id, e.kind, e.value) for e in events]


async def test_text_format_is_the_concatenated_text(product: Product) -> None:
    generation_id = await product.completed("Hello", " there €")
    response = await product.api.events(generation_id, Accept="text/plain")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.body.decode() == "Hello there €"


async def test_text_format_of_a_cancelled_generation_is_aborted(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    await product.api.cancel(generation_id)
    with pytest.raises(aiohttp.ClientPayloadError):
        await product.api.events(generation_id, Accept="text/plain")


async def test_idle_stream_is_kept_alive_by_comments(product: Product) -> None:
    async with product.frontend(keepalive_s="0.3") as frontend:
        generation_id = await product.api.create()
        stream = await Api(product.http, frontend.url).stream(generation_id)
        await stream.until_comment(2)
        assert set(stream.parser.comments) == {""}
        assert stream.kinds == ["created"]
        stream.cut()


async def test_log_has_the_same_bytes_on_another_frontend(product: Product) -> None:
    async with product.frontend() as frontend:
        generation_id = await product.completed("Hello", " there")
        other = Api(product.http, frontend.url)
        assert (await other.events(generation_id)).body == (await product.api.events(generation_id)).body


async def test_invalid_cursor_is_refused(product: Product) -> None:
    generation_id = await product.completed("Hello")
    async with product.nothing_stored():
        for cursor in CURSORS:
            query = f"?last_event_id={percent_encoded(cursor)}"
            refusal = (431, "head_too_large") if len(query) > URL_BYTES else (400, "invalid_cursor")
            assert (await product.api.events(generation_id, query)).refusal == refusal, cursor
            if cursor.isascii() and cursor.isprintable() and cursor == cursor.strip():
                response = await product.api.events(generation_id, Last_Event_ID=cursor)
                assert response.refusal == (400, "invalid_cursor"), cursor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def completed_id(product: Product) -> str:
    """One generation for every example."""
    return await product.completed("Hello")


@FUZZ
@given(
    cursor=st.text(max_size=20)
    | st.from_regex(r"[0-9]{1,17}-[0-9]{1,17}", fullmatch=True)
    | st.text("0123456789- ,", max_size=8)
)
async def test_arbitrary_cursor_is_accepted_or_refused_and_never_a_server_error(
    product: Product, completed_id: str, cursor: str
) -> None:
    path = f"/v1/generations/{completed_id}/events?last_event_id={percent_encoded(cursor)}"
    async with product.http.get(product.api.url + path) as response:
        assert response.status in (200, 204, 400)
        if response.status == 400:
            assert (await response.json())["error"]["code"] == "invalid_cursor"
