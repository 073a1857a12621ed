import asyncio
import base64
import logging
import time
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

CHAT = "/v1/chat/completions"


def scripted(*script: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "stream": True, "script": list(script), **fields}


async def play(http: httpx2.AsyncClient, *script: Any, **fields: Any) -> httpx2.Response:
    return await http.post(CHAT, json=scripted(*script, **fields))


async def texts(openai: AsyncOpenAI, *script: Any) -> list[str]:
    stream = await openai.chat.completions.create(
        model="scripted", messages=[], stream=True, extra_body={"script": list(script)}
    )
    return [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]


async def test_tokens_are_unique_and_in_order(openai: AsyncOpenAI) -> None:
    tokens = await texts(openai, {"tokens": {"count": 200, "prefix": 'w"', "start": 5}}, {"done": True})
    assert tokens == [f'w"{k} ' for k in range(5, 205)]


async def test_stamped_token_contains_its_time_of_sending(openai: AsyncOpenAI) -> None:
    before = time.time()
    tokens = await texts(openai, {"tokens": {"count": 3, "rate": 100, "stamp": True}}, {"done": True})
    sent = [int(token.split("@")[1]) / 1e6 for token in tokens]
    assert [token.split("@")[0] for token in tokens] == ["t0", "t1", "t2"]
    assert before <= sent[0] < sent[1] < sent[2] <= time.time()


async def test_rate_follows_the_clock(openai: AsyncOpenAI) -> None:
    began = time.monotonic()
    await texts(openai, {"tokens": {"count": 51, "rate": 200}}, {"done": True})
    assert time.monotonic() - began >= 0.25


async def test_chunk_gets_its_missing_fields_and_is_otherwise_unchanged(http: httpx2.AsyncClient) -> None:
    chunk = {"id": "mine", "choices": [], "citations": ["https://example.com"]}
    response = await play(http, {"chunk": chunk})
    assert response.text.startswith('data: {"id":"mine","object":"chat.completion.chunk","created":')
    assert response.text.endswith('"model":"scripted","choices":[],"citations":["https://example.com"]}\n\n')


async def test_delta_is_a_chunk_with_one_choice(http: httpx2.AsyncClient) -> None:
    response = await play(http, {"delta": {"refusal": "no"}, "choice": 1, "finish_reason": "stop"})
    assert '"choices":[{"index":1,"delta":{"refusal":"no"},"finish_reason":"stop"}]' in response.text


@pytest.mark.parametrize("stream", [True, False])
async def test_head_replaces_headers(http: httpx2.AsyncClient, stream: bool) -> None:
    head = {"content-type": "text/html", "X-Own": "1"}
    response = await play(http, {"head": head}, {"delta": {"content": "Hi"}}, {"done": True}, stream=stream)
    assert (response.status_code, response.headers["content-type"], response.headers["x-own"]) == (
        200,
        "text/html",
        "1",
    )
    assert "Hi" in response.text


async def test_script_is_played_on_the_path_of_responses_as_well(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/responses", json=scripted({"raw": "data: {}\n\n"}, script_id="r", input="Hello?"))
    assert (response.status_code, response.text) == (200, "data: {}\n\n")
    assert (await http.get("/calls", params={"script_id": "r"})).json()["started"] == 1
    assert (await http.post("/v1/responses", json={"model": "gpt", "input": "Hello?"})).status_code == 404


async def test_comment_usage_and_done_are_separate_frames(http: httpx2.AsyncClient) -> None:
    response = await play(http, {"comment": "ping"}, {"usage": {"total_tokens": 3}}, {"done": True})
    comment, usage, done, rest = response.text.split("\n\n")
    assert comment == ": ping"
    assert usage.endswith('"choices":[],"usage":{"total_tokens":3}}')
    assert (done, rest) == ("data: [DONE]", "")


async def test_raw_bytes_arrive_in_the_writes_of_the_script(base_url: str, http: httpx2.AsyncClient) -> None:
    frame = 'data: {"text":"Mühle"}\n\n'.encode()
    cut = frame.index("ü".encode()) + 1
    halves = [frame[:cut], frame[cut:]]
    script = [{"raw_base64": base64.b64encode(half).decode()} for half in halves]
    chunks: list[bytes] = []
    async with http.stream("POST", CHAT, json=scripted(script[0], {"sleep": 0.05}, script[1])) as response:
        chunks = [chunk async for chunk in response.aiter_raw()]
    assert chunks == halves


async def test_hold_sends_nothing_until_it_is_released(http: httpx2.AsyncClient) -> None:
    script = [{"comment": "before"}, {"hold": "held"}, {"comment": "after"}]
    async with http.stream("POST", CHAT, json=scripted(*script)) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b": before\n\n"
        rest = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0.05)
        assert not rest.done()
        assert (await http.post("/release", params={"hold": "held"})).status_code == 204
        assert await rest == b": after\n\n"
    assert (await play(http, *script)).status_code == 200  # it stays released


async def test_status_step_sets_status_headers_and_body(http: httpx2.AsyncClient) -> None:
    step = {"status": 429, "headers": {"Retry-After": "7"}, "json": {"error": {"message": "slow down"}}}
    response = await play(http, step)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json() == {"error": {"message": "slow down"}}


async def test_statuses_are_used_in_turn_before_the_script_plays(http: httpx2.AsyncClient) -> None:
    script = [{"statuses": [429, 500], "headers": {"Retry-After": "1"}}, {"done": True}]
    codes = [(await play(http, *script, script_id="turns")).status_code for _ in range(4)]
    assert codes == [429, 500, 200, 200]
    assert (await play(http, *script, script_id="another")).status_code == 429


async def test_eof_ends_the_response_cleanly_and_without_done(http: httpx2.AsyncClient) -> None:
    response = await play(http, {"tokens": {"count": 2}}, {"eof": True}, {"done": True})
    assert response.text.count("data: ") == 2
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("stream", [True, False])
async def test_reset_is_an_error_for_the_client(http: httpx2.AsyncClient, stream: bool) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await play(http, {"tokens": {"count": 2}}, {"reset": True}, stream=stream)


@pytest.mark.parametrize("stream", [True, False])
async def test_reset_is_no_error_of_the_server(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await play(http, {"tokens": {"count": 2}}, {"reset": True}, stream=stream)
    assert (await http.get("/v1/models")).status_code == 200  # by now the server has ended the first request
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_reset_follows_all_preceding_tokens(openai: AsyncOpenAI) -> None:
    script = [{"tokens": {"count": 500}}, {"reset": True}]
    stream = await openai.chat.completions.create(
        model="scripted", messages=[], stream=True, extra_body={"script": script}
    )
    received: list[str | None] = []
    with pytest.raises(APIConnectionError):
        await collect(stream, received)
    assert received == [f"t{k} " for k in range(500)]


async def collect(stream: AsyncStream[ChatCompletionChunk], received: list[str | None]) -> None:
    async for chunk in stream:
        received.append(chunk.choices[0].delta.content)  # noqa: PERF401  (the list must survive the error)


async def test_reset_omits_the_last_chunk(base_url: str) -> None:
    url = httpx2.URL(base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    body = b'{"model":"scripted","stream":true,"script":[{"comment":"ping"},{"reset":true}]}'
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body)
    response = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    assert response.endswith(b"\r\n8\r\n: ping\n\n\r\n")


async def test_response_head_is_sent_with_the_first_byte(http: httpx2.AsyncClient) -> None:
    began = time.monotonic()
    async with http.stream("POST", CHAT, json=scripted({"sleep": 0.2}, {"done": True}, {"sleep": 0.2})):
        assert 0.2 <= time.monotonic() - began < 0.35


async def test_script_is_folded_without_stream(http: httpx2.AsyncClient) -> None:
    steps = [{"delta": {"content": "a"}, "choice": 1}, {"tokens": {"count": 2}}, {"usage": {"total_tokens": 3}}]
    value = (await play(http, *steps, {"delta": {}, "finish_reason": "stop"}, stream=False)).json()
    assert [choice["message"]["content"] for choice in value["choices"]] == ["t0 t1 ", "a"]
    assert value["choices"][0]["finish_reason"] == "stop"
    assert value["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"tokns": {"count": 1}}, 'script[1] is not a step: {"tokns":{"count":1}} (expected one of chunk, delta,'),
        ("done", 'script[1] is not a step: "done"'),
        ({"done": True, "eof": True}, "script[1] is not a step"),
        ({"tokens": {"count": "many"}}, "script[1] (tokens): Expected `int`, got `str` - at `$.tokens.count`"),
        ({"tokens": {"count": 1, "rat": 5}}, "script[1] (tokens): Object contains unknown field `rat`"),
        ({"sleep": -1}, "script[1] (sleep): Expected `float` >= 0"),
        ({"raw_base64": "???"}, "script[1] (raw_base64): Invalid base64"),
        ({"status": 429}, "script[1]: status can only be the first step"),
    ],
)
async def test_invalid_step_is_rejected_by_position(http: httpx2.AsyncClient, step: Any, message: str) -> None:
    response = await play(http, {"comment": "first"}, step)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


async def test_malformed_request_is_rejected(http: httpx2.AsyncClient) -> None:
    for content in (b"{", b"[]", b'{"n": "two"}', b'{"model": "scripted"}', b'{"tokens_per_second": 0}'):
        response = await http.post(CHAT, content=content)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_unknown_route_is_rejected_in_json(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/nothing")).json()["error"]["message"] == "Not Found: GET /v1/nothing"
    assert (await http.get(CHAT)).status_code == 405
