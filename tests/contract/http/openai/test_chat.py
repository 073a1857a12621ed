"""`/v1/chat/completions` on the real server: answers, their statuses, and reading them again."""

import asyncio
import json
import signal
from typing import Any

import aiohttp
import msgspec
import pytest

from support.api import Api, body, eventually
from support.chat_api import PATH, answered, ask, asking, chunks_in, fail, kept_alive, newest, text_in
from support.product import UNKNOWN_ID, Product, has_metric
from tailrace.events import Failure
from tailrace.failures import FailureCode, failure
from tailrace_frontend.http.openai.storage_fields import UNSTORED_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "chatcmpl-" + UNKNOWN_ID.removeprefix("gen_")
TOO_LONG = Failure("Too long.", "context_length_exceeded", "invalid_request_error", "messages", 400)
LIMITED = Failure("Slow down.", "upstream_rate_limited", "rate_limit_exceeded", None, 429, 7)


# answers


async def test_object_is_the_answer_at_the_end(product: Product) -> None:
    async with asking(product) as (request, generation_id):
        writer = await product.writer(generation_id)
        await writer.write_text("Hello", " there \u2028💧")
        await asyncio.sleep(0.1)
        assert not request.done()
        await writer.end()
        response = await request
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-tailrace-generation"] == generation_id
    assert response.headers["x-request-id"].startswith("req_")
    value = response.value
    assert value["id"] == "chatcmpl-" + generation_id.removeprefix("gen_")
    assert (value["object"], value["model"]) == ("chat.completion", "demo")
    (choice,) = value["choices"]
    assert choice["message"] == {
        "role": "assistant", "content": "Hello there \u2028💧", "refusal": None, "annotations": [],
    }  # fmt: skip
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)


async def test_object_of_megabytes_is_whole(product: Product) -> None:
    completion_id = await answered(product, *["x" * 100_000] * 30)
    response = await product.api.request("GET", f"{PATH}/{completion_id}")
    assert response.value["choices"][0]["message"]["content"] == "x" * 3_000_000


async def test_stream_has_chunks_and_done_and_nothing_that_sdks_do_not_know(product: Product) -> None:
    url = product.api.url + PATH
    known = await newest(product.api)
    request = asyncio.create_task(product.http.post(url, json=body(stream=True)))

    async def created() -> str | None:
        found = await newest(product.api)
        return found if found != known else None

    writer = await product.writer(await eventually(created))
    async with await request as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-tailrace-generation"] == writer.generation_id
        assert response.headers["x-request-id"].startswith("req_")
        await writer.write_text("Hello", " there")
        await writer.end()
        sent = await response.read()
    assert text_in(sent) == "Hello there"
    assert sent.endswith(b"\n\ndata: [DONE]\n\n")
    lines = sent.decode().split("\n")
    assert {line.partition(": ")[0] for line in lines if line} == {"data"}
    chunks = chunks_in(sent)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-" + writer.generation_id.removeprefix("gen_")}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "status", "headers"),
    [
        (TOO_LONG, 400, {"x-should-retry": "false"}),
        (LIMITED, 429, {"Retry-After": "7"}),
        (failure("upstream_auth"), 502, {"x-should-retry": "false"}),
        (failure("upstream_timeout"), 504, {"x-should-retry": "false"}),
        (failure("upstream_unreachable"), 503, {"x-should-retry": "false"}),
    ],
)
async def test_failure_before_any_output_is_a_true_status(
    product: Product, stream: bool, reason: Failure, status: int, headers: dict[str, str]
) -> None:
    async with asking(product, stream=stream) as (request, generation_id):
        await fail(product, generation_id, reason)
        response = await request
    assert response.refusal == (status, reason.code)
    assert response.error["message"] == reason.message
    assert response.error["param"] == reason.param
    assert response.headers["x-tailrace-generation"] == generation_id
    given = {name: response.headers.get(name) for name in ("x-should-retry", "Retry-After")}
    assert given == {"x-should-retry": None, "Retry-After": None} | headers


async def test_failure_after_output_is_an_error_in_the_stream_and_a_true_status_of_an_object(product: Product) -> None:
    for stream in (True, False):
        async with asking(product, stream=stream) as (request, generation_id):
            writer = await product.writer(generation_id)
            await writer.write_text("So far")
            await writer.end("failed", failure("upstream_error"))
            response = await request
        if stream:
            assert response.status == 200
            *_, last = chunks_in(response.body)
            assert last["error"]["code"] == "upstream_error"
            assert b"[DONE]" not in response.body
        else:
            assert response.refusal == (502, "upstream_error")


@pytest.mark.parametrize(("code", "status"), [("log_limit", 500), ("upstream_truncated", 502)])
async def test_object_of_a_cut_answer_is_an_error_and_the_response_has_its_text(
    product: Product, code: FailureCode, status: int
) -> None:
    async with asking(product) as (request, generation_id):
        writer = await product.writer(generation_id)
        await writer.write_text("So far")
        await writer.end("incomplete", failure(code))
        response = await request
    assert response.refusal == (status, code)
    read = await product.api.request("GET", f"/v1/responses/resp_{generation_id.removeprefix('gen_')}")
    assert (read.status, read.value["status"]) == (200, "incomplete")
    assert read.value["output"][0]["content"][0]["text"] == "So far"


async def test_generation_that_another_request_cancels_is_an_error(product: Product) -> None:
    async with asking(product) as (request, generation_id):
        assert (await product.api.cancel(generation_id)).status == 200
        response = await request
    assert response.refusal == (400, "cancelled")


@pytest.mark.parametrize("stream", [False, True])
async def test_quiet_answer_is_kept_alive(product: Product, stream: bool) -> None:
    async with kept_alive(product, b": ping\n\n" if stream else b" ", stream=stream) as (response, generation_id):
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        await writer.end()
        answer = await response.read()
    assert response.status == 200
    if stream:
        assert text_in(answer) == "Hello"
    else:
        assert json.loads(answer)["choices"][0]["message"]["content"] == "Hello"


async def test_failure_after_the_status_is_an_error_body(product: Product) -> None:
    async with kept_alive(product, b" ") as (response, generation_id):
        await fail(product, generation_id, LIMITED)
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (200, "upstream_rate_limited")


@pytest.mark.parametrize("repeats", [{"X-Stainless-Retry-Count": "0"}, {"Idempotency-Key": "late failure"}])
async def test_failure_after_the_status_is_a_true_error_for_a_client_that_repeats(
    product: Product, repeats: dict[str, str]
) -> None:
    """An SDK takes an `error` body with the status 200 for an answer, and repeats a request whose connection broke."""
    async with kept_alive(product, b" ", headers=repeats) as (response, generation_id):
        await fail(product, generation_id, failure("upstream_timeout"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    again = await ask(product.api, {name: value.replace("0", "1") for name, value in repeats.items()})
    assert again.refusal == (504, "upstream_timeout")
    assert again.headers["x-tailrace-generation"] == generation_id
    assert again.headers["x-should-retry"] == "false"


# what is stored


async def test_answer_that_is_not_stored_is_kept_shortly_and_cannot_be_continued(product: Product) -> None:
    async with asking(product, store=False) as (request, generation_id):
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        await writer.end()
        completion_id = (await request).value["id"]
    assert (await product.api.request("GET", f"{PATH}/{completion_id}")).status == 200
    assert (await product.log.state(generation_id)).record.options.retention_s == UNSTORED_S
    further = {"model": "demo", "input": "And?", "previous_response_id": generation_id.replace("gen_", "resp_")}
    response = await product.api.request("POST", "/v1/responses", json=further)
    assert response.refusal == (400, "previous_response_not_found")


async def test_store_is_true_or_false(product: Product) -> None:
    """The text "false" would be stored, if it were taken for anything else."""
    response = await ask(product.api, store="false")
    assert (response.refusal, response.error["param"]) == ((400, "invalid_value"), "store")


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({str(number): "x" for number in range(17)}, "metadata"),
        ({"key": "x" * 513}, "metadata.key"),
        ({"key": 1}, "metadata.key"),
    ],
)
async def test_metadata_have_limits(product: Product, metadata: dict[str, Any], param: str) -> None:
    response = await ask(product.api, metadata=metadata)
    assert (response.refusal, response.error["param"]) == ((400, "invalid_value"), param)


# the generation behind it


async def test_generation_is_the_same_on_the_native_routes(product: Product) -> None:
    async with asking(product, temperature=0.5, tailrace={"on_interrupt": "fail"}) as (request, generation_id):
        generation = (await product.api.get(generation_id)).value
        assert generation["request"] == body(temperature=0.5)
        state = await product.log.state(generation_id)
        assert (state.record.foreground, state.record.options.on_interrupt) == (True, "fail")
        assert state.record.options.on_disconnect == "cancel"
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        await writer.end()
        await request
    assert (await product.api.get(generation_id)).value["output"] == [{"item": 0, "type": "text", "text": "Hello"}]


async def test_client_decides_what_happens_when_it_leaves(product: Product) -> None:
    options: Any
    for options, headers, expected in (
        ({}, {}, "cancel"),
        ({"tailrace": {"on_disconnect": "continue"}}, {}, "continue"),
        ({}, {"x-tailrace-on-disconnect": "continue"}, "continue"),
        ({"tailrace": {"on_disconnect": "continue"}}, {"x-tailrace-on-disconnect": "cancel"}, "cancel"),
    ):
        async with asking(product, headers=headers, **options) as (_, generation_id):
            assert (await product.log.state(generation_id)).record.options.on_disconnect == expected
        await product.api.delete(generation_id)


async def test_client_that_leaves_gives_its_place_back(product: Product) -> None:
    for stream in (False, True):
        async with asking(product, stream=stream) as (_, generation_id):
            await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
        await eventually(lambda: has_metric(product.api, "tailrace_readers", 0), timeout_s=2)
        await product.api.delete(generation_id)


# reading again


async def test_answer_is_read_again_as_it_was_sent(product: Product) -> None:
    async with asking(product) as (request, generation_id):
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        await writer.end()
        first = await request
    completion_id = first.value["id"]
    again = await product.api.request("GET", f"{PATH}/{completion_id}")
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["x-tailrace-generation"] == generation_id


async def test_answer_under_way_is_awaited_by_a_client_that_reads_again(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    path = f"{PATH}/chatcmpl-{generation_id.removeprefix('gen_')}"
    request = asyncio.create_task(product.api.request("GET", path))
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    await writer.write_text("Hello")
    await writer.end()
    assert (await request).value["choices"][0]["message"]["content"] == "Hello"


async def test_failed_answer_is_an_error_that_no_sdk_repeats(product: Product) -> None:
    async with asking(product) as (request, generation_id):
        await fail(product, generation_id, LIMITED)
        await request
    path = f"{PATH}/chatcmpl-{generation_id.removeprefix('gen_')}"
    for query in ("", "?stream=true"):
        response = await product.api.request("GET", path + query)
        assert response.refusal == (429, "upstream_rate_limited")
        assert response.headers["x-should-retry"] == "false"


async def test_stream_is_read_on_after_every_number_on_another_frontend(product: Product) -> None:
    completion_id = await answered(product, "Hello", " there", "!", stream_options={"include_usage": True})
    path = f"{PATH}/{completion_id}?stream=true"
    whole = await product.api.request("GET", path)
    numbers = [chunk["sequence_number"] for chunk in chunks_in(whole.body) if "sequence_number" in chunk]
    assert numbers == sorted(set(numbers))
    async with product.frontend() as frontend:
        other = Api(product.http, frontend.url)
        assert (await other.request("GET", path)).body == whole.body
        for query in ("&starting_after=-1", "&starting_after="):
            assert (await other.request("GET", path + query)).status in (200, 400)
        for number in numbers:
            rest = await other.request("GET", f"{path}&starting_after={number}")
            marker = b'"sequence_number":%d}\n\n' % number
            assert rest.body == whole.body.partition(marker)[2]
        beyond = await other.request("GET", f"{path}&starting_after=1000000")
        assert beyond.body == b"data: [DONE]\n\n"


async def test_stream_is_read_on_while_it_is_written(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    path = f"{PATH}/chatcmpl-{generation_id.removeprefix('gen_')}?stream=true&starting_after={writer.last_seq}"
    request = asyncio.create_task(product.api.request("GET", path))
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    await writer.write_text(" there")
    await writer.end()
    assert text_in((await request).body) == " there"


async def test_stream_is_not_read_on_without_stream(product: Product) -> None:
    completion_id = await answered(product, "Hello")
    response = await product.api.request("GET", f"{PATH}/{completion_id}?starting_after=3")
    assert response.value["object"] == "chat.completion"


async def test_deleted_answer_is_gone_for_good(product: Product) -> None:
    completion_id = await answered(product, "Hello")
    response = await product.api.request("DELETE", f"{PATH}/{completion_id}")
    assert response.value == {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}
    for method, query in (("GET", ""), ("GET", "?stream=true"), ("DELETE", "")):
        assert (await product.api.request(method, f"{PATH}/{completion_id}{query}")).refusal == (404, None)


async def test_answer_under_way_is_cancelled_where_it_is_deleted(product: Product) -> None:
    async with asking(product) as (request, generation_id):
        path = f"{PATH}/chatcmpl-{generation_id.removeprefix('gen_')}"
        assert (await product.api.request("DELETE", path)).status == 200
        response = await request
    assert response.status in (400, 404, 410)


async def test_answer_of_another_caller_is_indistinguishable_from_an_unknown_one(product: Product) -> None:
    hers = await answered(product, "Hello", api=product.anna)
    for method, query in (
        ("GET", ""),
        ("GET", "?stream=true"),
        ("GET", "?stream=true&starting_after=1"),
        ("DELETE", ""),
    ):
        foreign = await product.ben.request(method, f"{PATH}/{hers}{query}")
        unknown = await product.ben.request(method, f"{PATH}/{UNKNOWN}{query}")
        assert foreign.refusal == unknown.refusal == (404, None)
        assert foreign.body.replace(hers.encode(), b"") == unknown.body.replace(UNKNOWN.encode(), b"")
        assert set(map(str.lower, foreign.headers)) == set(map(str.lower, unknown.headers))
    assert (await product.anna.request("GET", f"{PATH}/{hers}")).status == 200


# refusals


async def test_request_without_a_key_is_unauthorized(product: Product) -> None:
    assert (await ask(product.stranger)).refusal == (401, "invalid_api_key")
    assert (await product.stranger.request("GET", "/v1/models")).refusal == (401, "invalid_api_key")


async def test_request_beyond_the_limit_of_readers_stores_nothing(product: Product) -> None:
    async with product.frontend(max_readers="1") as frontend:
        api = Api(product.http, frontend.url)
        async with asking(product, api) as (_, generation_id):
            await eventually(lambda: has_metric(api, "tailrace_readers", 1))
            async with product.nothing_stored():
                response = await ask(api)
        assert response.refusal == (429, "rate_limit_exceeded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        await product.api.delete(generation_id)


async def test_every_answer_has_a_request_id_of_its_own(product: Product) -> None:
    responses = [
        await product.api.request("GET", path)
        for path in ("/healthz", "/v1/models", f"/v1/generations/{UNKNOWN_ID}", f"{PATH}/{UNKNOWN}", "/nowhere", "/")
    ]
    ids = [response.headers["x-request-id"] for response in responses]
    assert len(set(ids)) == len(ids)


async def test_pages_of_a_known_origin_may_use_the_sdk(product: Product) -> None:
    origin = "https://app.example.org"
    requested = {
        "Origin": origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-retry-count, x-stainless-lang, "
        "x-stainless-os, x-stainless-arch, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout, "
        "x-stainless-package-version, x-tailrace-on-disconnect",
    }  # fmt: skip
    assert (await product.api.request("OPTIONS", PATH, headers=requested)).status == 200
    response = await product.api.request("GET", f"{PATH}/{UNKNOWN}", headers={"Origin": origin})
    exposed = response.headers["access-control-expose-headers"]
    assert {"x-request-id", "x-should-retry", "x-tailrace-generation"} <= set(exposed.split(", "))


# repetitions


async def test_request_that_was_cut_and_repeated_is_one_generation(product: Product) -> None:
    for stream in (False, True):
        async with asking(product, headers={"x-stainless-retry-count": "0"}, n=1, stream=stream) as (_, generation_id):
            pass  # the client leaves
        repeated = asyncio.create_task(ask(product.api, {"x-stainless-retry-count": "1"}, n=1, stream=stream))
        await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        await writer.end()
        response = await repeated
        assert response.headers["x-tailrace-generation"] == generation_id
        third = await ask(product.api, {"x-stainless-retry-count": "2"}, n=1, stream=stream)
        assert third.headers["x-tailrace-generation"] == generation_id
        assert await newest(product.api) == generation_id
        content = text_in(third.body) if stream else third.value["choices"][0]["message"]["content"]
        assert content == "Hello"


async def test_idempotency_key_with_another_body_is_a_400_that_no_sdk_repeats(product: Product) -> None:
    async with asking(product, headers={"Idempotency-Key": "chat"}) as (_, generation_id):
        response = await ask(product.api, {"Idempotency-Key": "chat"}, n=2)
    assert response.refusal == (400, "idempotency_key_reused")
    await product.api.delete(generation_id)


async def test_failure_is_final_under_its_idempotency_key(product: Product) -> None:
    async with asking(product, headers={"Idempotency-Key": "final"}) as (request, generation_id):
        await fail(product, generation_id, failure("upstream_error"))
        await request
    repeated = await ask(product.api, {"Idempotency-Key": "final"})
    assert repeated.refusal == (502, "upstream_error")
    assert repeated.headers["x-tailrace-generation"] == generation_id


async def test_repetition_after_a_rate_limit_of_the_upstream_is_another_generation(product: Product) -> None:
    async with asking(product, headers={"x-stainless-retry-count": "0"}, n=3) as (request, first):
        await fail(product, first, LIMITED)
        assert (await request).status == 429
    async with asking(product, headers={"x-stainless-retry-count": "1"}, n=3) as (request, second):
        assert second != first
        writer = await product.writer(second)
        await writer.write_text("Hello")
        await writer.end()
        assert (await request).headers["x-tailrace-generation"] == second


@pytest.mark.parametrize("stream", [False, True])
async def test_request_to_a_process_that_stops_is_cut_and_served_elsewhere(product: Product, stream: bool) -> None:
    asked = {"user": f"stopping {stream}", "stream": stream}
    async with product.frontend() as frontend:
        api = Api(product.http, frontend.url)
        async with asking(product, api, {"x-stainless-retry-count": "0"}, **asked) as (request, generation_id):
            await eventually(lambda: has_metric(api, "tailrace_readers", 1))
            frontend.send(signal.SIGTERM)
            with pytest.raises(aiohttp.ClientError):
                await request
        await frontend.wait()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    await writer.end()
    response = await ask(product.api, {"x-stainless-retry-count": "1"}, **asked)
    assert response.headers["x-tailrace-generation"] == generation_id


async def test_failure_that_was_stored_by_an_earlier_version_has_no_status(product: Product) -> None:
    generation_id = await product.api.create()
    await fail(product, generation_id, msgspec.structs.replace(LIMITED, status=None, retry_after=None))
    response = await product.api.request("GET", f"{PATH}/chatcmpl-{generation_id.removeprefix('gen_')}")
    assert response.refusal == (429, "upstream_rate_limited")
    assert json.loads(response.body)["error"]["type"] == "rate_limit_exceeded"
