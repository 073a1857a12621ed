"""`POST /v1/generations`: responses, idempotency keys, invalid bodies."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.api import Api, body, eventually
from support.product import Product, has_metric
from support.sse import Parser, streamed_text

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_create_returns_202_with_the_generation_and_its_location(product: Product) -> None:
    response = await product.api.post(body(temperature=0.5))
    assert response.status == 202
    assert response.headers["content-type"] == "application/json"
    generation = response.value
    assert response.headers["location"] == f"/v1/generations/{generation['id']}"
    assert generation["object"] == "generation"
    assert generation["status"] == "queued"
    assert generation["model"] == "demo"
    assert generation["request"] == body(temperature=0.5)
    assert generation["output"] == []
    assert generation["queue_position"] >= 1
    assert generation["worker_running"] is False
    assert generation["events_url"] == f"/v1/generations/{generation['id']}/events"
    assert abs(generation["created_at"] - time.time()) < 5


async def test_create_that_accepts_event_streams_returns_the_stream(product: Product) -> None:
    headers = {"Accept": "text/event-stream"}
    url = f"{product.api.url}/v1/generations"
    async with product.http.post(url, json=body(), headers=headers) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        generation_id = response.headers["location"].removeprefix("/v1/generations/")
        parser = Parser()
        (created,) = parser.feed(await response.content.readany())
        assert (created.kind, created.seq, created.value["id"]) == ("created", 0, generation_id)
        writer = await product.writer(generation_id)
        await writer.write_text("Hello", " there")
        await writer.end()
        events = [event async for data in response.content.iter_any() for event in parser.feed(data)]
    assert streamed_text(events) == "Hello there"
    assert events[-1].kind == "done"


async def test_idempotency_key_with_the_same_body_returns_the_same_generation(product: Product) -> None:
    key = "once-and-again"
    first = await product.api.post(body(), Idempotency_Key=key)
    async with product.nothing_stored():
        again = await product.api.post(body(), Idempotency_Key=key)
    assert (first.status, again.status) == (202, 202)
    answers = [first.value, again.value]
    for answer in answers:
        assert answer.pop("queue_position") >= 1  # falls when the sweeper removes jobs of earlier tests
    assert answers[0] == answers[1]
    assert again.headers["location"] == first.headers["location"]


async def test_idempotency_key_ignores_spacing_and_order_of_the_body(product: Product) -> None:
    first = await product.api.post(
        b'{"model":"m","messages":[{"role":"user","content":"x"}]}', Idempotency_Key="spaces"
    )
    again = await product.api.post(
        b'{ "messages" : [ {"content":"\\u0078","role" : "user"} ],\n"model":"m"}', Idempotency_Key="spaces"
    )
    assert again.value["id"] == first.value["id"]


async def test_idempotency_key_with_another_body_is_refused(product: Product) -> None:
    await product.api.post(body(), Idempotency_Key="one-body")
    async with product.nothing_stored():
        response = await product.api.post(body(n=2), Idempotency_Key="one-body")
    assert response.refusal == (400, "idempotency_key_reused")


async def test_idempotency_key_used_concurrently_creates_one_generation(product: Product) -> None:
    responses = await asyncio.gather(*(product.api.post(body(), Idempotency_Key="all-at-once") for _ in range(20)))
    assert {response.status for response in responses} == {202}
    assert len({response.value["id"] for response in responses}) == 1


async def test_idempotency_keys_of_two_callers_do_not_collide(product: Product) -> None:
    ids = {(await caller.post(body(), Idempotency_Key="ours")).value["id"] for caller in (product.anna, product.ben)}
    assert len(ids) == 2


async def test_idempotency_key_of_a_deleted_generation_stays_used(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="gone")).value["id"]
    assert (await product.api.delete(generation_id)).status == 200
    response = await product.api.post(body(), Idempotency_Key="gone")
    assert response.status == 410
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_idempotency_key_used_again_returns_the_current_status(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="ended")).value["id"]
    await product.api.cancel(generation_id)
    response = await product.api.post(body(), Idempotency_Key="ended")
    assert (response.status, response.value["id"], response.value["status"]) == (202, generation_id, "cancelled")


BAD_FIELDS: list[tuple[str, Any]] = [
    ("model", None), ("model", 1), ("model", ""), ("model", []), ("messages", None), ("messages", []),
    ("messages", "x"),
    ("messages", [1]), ("messages", [{}]), ("messages", [{"role": 1}]), ("messages", [{"role": "user", "content": 1}]),
    ("temperature", "hot"), ("top_p", []), ("n", 0), ("n", 1.5), ("n", "1"), ("max_tokens", 0),
    ("max_completion_tokens", "x"),
    ("presence_penalty", "x"), ("frequency_penalty", {}), ("logprobs", 1), ("top_logprobs", "x"), ("logit_bias", []),
    ("seed", "x"), ("stop", 1), ("stream", "yes"), ("stream_options", 1), ("tools", {}), ("tools", [1]),
    ("tool_choice", 1),
    ("parallel_tool_calls", 1), ("response_format", "x"), ("reasoning_effort", 1), ("metadata", 1), ("user", 1),
    ("tailrace", 1), ("tailrace", {"unknown": 1}), ("tailrace", {"on_interrupt": "resume"}),
    ("tailrace", {"on_disconnect": 1}),
    ("tailrace", {"deadline_s": 0}), ("tailrace", {"deadline_s": 10**9}), ("tailrace", {"retention_s": "1"}),
]  # fmt: skip


async def test_field_of_the_wrong_type_is_named_in_the_refusal_and_nothing_is_stored(product: Product) -> None:
    async with product.nothing_stored():
        for field, value in BAD_FIELDS:
            response = await product.api.post(body(**{field: value}))
            assert response.refusal == (400, "invalid_body"), field
            assert (response.error["param"] or "").split(".")[0] == field


def nested(depth: int) -> bytes:
    return b'{"model":"demo","messages":[{"role":"user"}],"x":' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\x00", b"\xff", b"NaN",
    b'{"model":"demo","messages":[{"role":"user"}],"x":NaN}',
    b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"demo","messages":[{"role":"user"}],"x":1e999}',
    b'{"model":"demo","messages":[{"role":"user","content":"\xff"}]}', nested(100), nested(500), nested(950),
    nested(980),
    nested(1500), nested(1_000_000), b"model=demo&messages=x", json.dumps(body()).encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("sent", BAD_BODIES, ids=lambda sent: repr(sent[:24]))
async def test_invalid_body_is_refused_and_nothing_is_stored(product: Product, sent: bytes) -> None:
    async with product.nothing_stored():
        assert (await product.api.post(sent)).refusal == (400, "invalid_body")


@pytest.mark.parametrize(
    "sent",
    [
        nested(99),
        b'{"model":"demo","messages":[{"role":"user","content":"a\\u0000b"}],"\\u0000":"\\u0000"}',
        b'{"model":"x","messages":[{"role":"user"}],"model":"demo"}',
        b'{"model":"demo","messages":[{"role":"user"}],"seed":123456789012345678901234567890,"x":-1e308}',
        json.dumps(body(x="\U0001f4a7\u2028\x85", y={"": [None]})).encode(),
    ],
    ids=lambda sent: repr(sent[:24]),
)
async def test_unusual_valid_body_is_stored_as_sent(product: Product, sent: bytes) -> None:
    response = await product.api.post(sent)
    assert response.status == 202
    again = await product.api.get(response.value["id"])
    assert again.value["request"] == json.loads(sent)
    assert (await product.api.cancel(response.value["id"])).value["status"] == "cancelled"


async def test_body_of_ten_megabytes_is_refused_with_and_without_content_length(product: Product) -> None:
    large = json.dumps(body(x="y" * 10_000_000)).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    async with product.nothing_stored():
        assert (await product.api.post(large)).refusal == (413, "request_too_large")
        response = await product.api.request("POST", "/v1/generations", data=in_pieces())
        assert response.refusal == (413, "request_too_large")


async def test_body_just_below_the_limit_is_accepted(product: Product) -> None:
    generation_id = await product.api.create(x="y" * 8_000_000)
    assert len((await product.api.get(generation_id)).value["request"]["x"]) == 8_000_000
    await product.api.delete(generation_id)


async def test_client_that_disconnects_inside_its_body_leaves_nothing_behind(product: Product) -> None:
    async with product.frontend() as frontend:
        async with product.nothing_stored():
            _, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
            writer.write(b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await eventually(lambda: has_metric(Api(product.http, frontend.url), "tailrace_readers", 0))
            writer.close()
            await writer.wait_closed()
            assert (await Api(product.http, frontend.url).list("?limit=1")).status == 200
        assert "Traceback" not in frontend.output


TEXT = st.text('a\0ä€💧\u2028"\\', max_size=6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


FIELDS = st.sampled_from([*{field for field, _ in BAD_FIELDS}, "x", "script"])


BODIES = st.dictionaries(FIELDS, JSON, max_size=4).map(lambda fields: json.dumps(body(**fields)).encode())


FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(sent=BODIES | st.binary(max_size=60) | BODIES.map(lambda sent: sent[:-3]))
async def test_arbitrary_body_is_accepted_or_refused_and_never_a_server_error(product: Product, sent: bytes) -> None:
    before = await product.stored()
    response = await product.api.post(sent)
    if response.status == 202:
        assert (await product.api.delete(response.value["id"])).status == 200
    else:
        assert response.refusal == (400, "invalid_body")
        assert await product.stored() <= before
