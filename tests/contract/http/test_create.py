"""`POST /v1/generations`: what it answers and stores, idempotency keys, and bodies that it refuses."""

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
from support.sse import Parser, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_create_answers_202_with_the_generation_and_its_location(product: Product) -> None:
    told = await product.api.post(body(temperature=0.5))
    assert told.status == 202
    assert told.headers["content-type"] == "application/json"
    generation = told.value
    assert told.headers["location"] == f"/v1/generations/{generation['id']}"
    assert generation["object"] == "generation"
    assert generation["status"] == "queued"
    assert generation["model"] == "demo"
    assert generation["request"] == body(temperature=0.5)
    assert generation["output"] == []
    assert generation["queue_position"] >= 1
    assert generation["worker_running"] is False
    assert generation["events_url"] == f"/v1/generations/{generation['id']}/events"
    assert abs(generation["created_at"] - time.time()) < 5


async def test_create_answers_the_log_itself_where_accept_names_event_streams(product: Product) -> None:
    headers = {"Accept": "text/event-stream"}
    url = f"{product.api.url}/v1/generations"
    async with product.http.post(url, json=body(), headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        generation_id = answer.headers["location"].removeprefix("/v1/generations/")
        parser = Parser()
        (created,) = parser.feed(await answer.content.readany())
        assert (created.kind, created.seq, created.value["id"]) == ("created", 0, generation_id)
        writer = await product.writer(generation_id)
        await writer.write_text("Hello", " there")
        await writer.end()
        events = [event async for data in answer.content.iter_any() for event in parser.feed(data)]
    assert said(events) == "Hello there"
    assert events[-1].kind == "done"


async def test_the_same_key_and_body_is_the_same_generation(product: Product) -> None:
    key = "once-and-again"
    first = await product.api.post(body(), Idempotency_Key=key)
    async with product.nothing_stored():
        again = await product.api.post(body(), Idempotency_Key=key)
    assert (first.status, again.status) == (202, 202)
    assert again.value == first.value
    assert again.headers["location"] == first.headers["location"]


async def test_spacing_and_order_of_a_body_do_not_make_it_another(product: Product) -> None:
    first = await product.api.post(
        b'{"model":"m","messages":[{"role":"user","content":"x"}]}', Idempotency_Key="spaces"
    )
    again = await product.api.post(
        b'{ "messages" : [ {"content":"\\u0078","role" : "user"} ],\n"model":"m"}', Idempotency_Key="spaces"
    )
    assert again.value["id"] == first.value["id"]


async def test_the_same_key_with_another_body_is_refused(product: Product) -> None:
    await product.api.post(body(), Idempotency_Key="one-body")
    async with product.nothing_stored():
        told = await product.api.post(body(n=2), Idempotency_Key="one-body")
    assert told.refusal == (400, "idempotency_key_reused")


async def test_a_key_asked_for_many_times_at_once_is_one_generation(product: Product) -> None:
    told = await asyncio.gather(*(product.api.post(body(), Idempotency_Key="all-at-once") for _ in range(20)))
    assert {answer.status for answer in told} == {202}
    assert len({answer.value["id"] for answer in told}) == 1


async def test_another_callers_same_key_is_a_generation_of_their_own(product: Product) -> None:
    ids = {(await caller.post(body(), Idempotency_Key="ours")).value["id"] for caller in (product.anna, product.ben)}
    assert len(ids) == 2


async def test_a_key_whose_generation_is_gone_stays_used(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="gone")).value["id"]
    assert (await product.api.delete(generation_id)).status == 200
    told = await product.api.post(body(), Idempotency_Key="gone")
    assert told.status == 410
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_a_repeat_is_told_as_it_is_by_now(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="ended")).value["id"]
    await product.api.cancel(generation_id)
    told = await product.api.post(body(), Idempotency_Key="ended")
    assert (told.status, told.value["id"], told.value["status"]) == (202, generation_id, "cancelled")


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
    ("tailrace", 1), ("tailrace", {"unknown": 1}), ("tailrace", {"on_interrupt": "continue"}),
    ("tailrace", {"on_disconnect": 1}),
    ("tailrace", {"deadline_s": 0}), ("tailrace", {"deadline_s": 10**9}), ("tailrace", {"retention_s": "1"}),
]  # fmt: skip


async def test_a_field_of_the_wrong_type_is_refused_by_name_and_nothing_is_enqueued(product: Product) -> None:
    async with product.nothing_stored():
        for field, value in BAD_FIELDS:
            told = await product.api.post(body(**{field: value}))
            assert told.refusal == (400, "invalid_body"), field
            assert (told.error["param"] or "").split(".")[0] == field


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
async def test_what_is_no_body_of_ours_is_refused_and_nothing_is_enqueued(product: Product, sent: bytes) -> None:
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
async def test_what_is_odd_and_allowed_is_taken_as_it_is(product: Product, sent: bytes) -> None:
    told = await product.api.post(sent)
    assert told.status == 202
    again = await product.api.get(told.value["id"])
    assert again.value["request"] == json.loads(sent)
    assert (await product.api.cancel(told.value["id"])).value["status"] == "cancelled"


async def test_a_body_of_ten_megabytes_is_refused_with_a_length_and_without(product: Product) -> None:
    large = json.dumps(body(x="y" * 10_000_000)).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    async with product.nothing_stored():
        assert (await product.api.post(large)).refusal == (413, "request_too_large")
        told = await product.api.request("POST", "/v1/generations", data=in_pieces())
        assert told.refusal == (413, "request_too_large")


async def test_a_body_just_below_the_limit_is_taken(product: Product) -> None:
    generation_id = await product.api.create(x="y" * 8_000_000)
    assert len((await product.api.get(generation_id)).value["request"]["x"]) == 8_000_000
    await product.api.delete(generation_id)


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(product: Product) -> None:
    async with product.frontend() as node:
        async with product.nothing_stored():
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await eventually(lambda: has_metric(Api(product.http, node.url), "tailrace_readers", 0))
            writer.close()
            await writer.wait_closed()
            assert (await Api(product.http, node.url).list("?limit=1")).status == 200
        assert "Traceback" not in node.output


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
async def test_any_body_is_taken_or_refused_and_never_an_error_of_ours(product: Product, sent: bytes) -> None:
    before = await product.stored()
    told = await product.api.post(sent)
    if told.status == 202:
        assert (await product.api.delete(told.value["id"])).status == 200
    else:
        assert told.refusal == (400, "invalid_body")
        assert await product.stored() <= before
