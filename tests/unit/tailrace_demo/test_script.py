import asyncio
import base64
import time
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

CHAT = "/v1/chat/completions"


def scripted(*script: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "stream": True, "script": list(script), **fields}


async def played(http: httpx2.AsyncClient, *script: Any, **fields: Any) -> httpx2.Response:
    return await http.post(CHAT, json=scripted(*script, **fields))


async def texts(openai: AsyncOpenAI, *script: Any) -> list[str]:
    stream = await openai.chat.completions.create(
        model="scripted", messages=[], stream=True, extra_body={"script": list(script)}
    )
    return [told.delta.content or "" async for chunk in stream for told in chunk.choices]


async def test_every_token_is_unique_and_in_order(openai: AsyncOpenAI) -> None:
    tokens = await texts(openai, {"tokens": {"count": 200, "prefix": 'w"', "start": 5}}, {"done": True})
    assert tokens == [f'w"{k} ' for k in range(5, 205)]


async def test_a_stamped_token_says_when_it_was_sent(openai: AsyncOpenAI) -> None:
    before = time.time()
    tokens = await texts(openai, {"tokens": {"count": 3, "rate": 100, "stamp": True}}, {"done": True})
    sent = [int(token.split("@")[1]) / 1e6 for token in tokens]
    assert [token.split("@")[0] for token in tokens] == ["t0", "t1", "t2"]
    assert before <= sent[0] < sent[1] < sent[2] <= time.time()


async def test_a_rate_is_kept_by_the_clock(openai: AsyncOpenAI) -> None:
    began = time.monotonic()
    await texts(openai, {"tokens": {"count": 51, "rate": 200}}, {"done": True})
    assert 0.25 <= time.monotonic() - began < 0.6


async def test_a_chunk_is_filled_in_and_otherwise_left_alone(http: httpx2.AsyncClient) -> None:
    chunk = {"id": "mine", "choices": [], "citations": ["https://example.com"]}
    told = await played(http, {"chunk": chunk})
    assert told.text.startswith('data: {"id":"mine","object":"chat.completion.chunk","created":')
    assert told.text.endswith('"model":"scripted","choices":[],"citations":["https://example.com"]}\n\n')


async def test_a_delta_is_a_chunk_with_one_choice(http: httpx2.AsyncClient) -> None:
    told = await played(http, {"delta": {"refusal": "no"}, "choice": 1, "finish_reason": "stop"})
    assert '"choices":[{"index":1,"delta":{"refusal":"no"},"finish_reason":"stop"}]' in told.text


async def test_comment_usage_and_done_are_frames_of_their_own(http: httpx2.AsyncClient) -> None:
    told = await played(http, {"comment": "ping"}, {"usage": {"total_tokens": 3}}, {"done": True})
    comment, usage, done, rest = told.text.split("\n\n")
    assert comment == ": ping"
    assert usage.endswith('"choices":[],"usage":{"total_tokens":3}}')
    assert (done, rest) == ("data: [DONE]", "")


async def test_raw_bytes_arrive_as_they_were_written(base_url: str, http: httpx2.AsyncClient) -> None:
    frame = 'data: {"text":"Mühle"}\n\n'.encode()
    cut = frame.index("ü".encode()) + 1
    halves = [frame[:cut], frame[cut:]]
    script = [{"raw_base64": base64.b64encode(half).decode()} for half in halves]
    chunks: list[bytes] = []
    async with http.stream("POST", CHAT, json=scripted(script[0], {"sleep": 0.05}, script[1])) as told:
        chunks = [chunk async for chunk in told.aiter_raw()]
    assert chunks == halves


async def test_a_status_is_answered_with_its_headers_and_body(http: httpx2.AsyncClient) -> None:
    step = {"status": 429, "headers": {"Retry-After": "7"}, "json": {"error": {"message": "slow down"}}}
    told = await played(http, step)
    assert (told.status_code, told.headers["retry-after"]) == (429, "7")
    assert told.json() == {"error": {"message": "slow down"}}


async def test_statuses_are_answered_in_turn_and_then_the_script_plays(http: httpx2.AsyncClient) -> None:
    script = [{"statuses": [429, 500], "headers": {"Retry-After": "1"}}, {"done": True}]
    codes = [(await played(http, *script, script_id="turns")).status_code for _ in range(4)]
    assert codes == [429, 500, 200, 200]
    assert (await played(http, *script, script_id="another")).status_code == 429


async def test_eof_ends_the_response_cleanly_and_without_done(http: httpx2.AsyncClient) -> None:
    told = await played(http, {"tokens": {"count": 2}}, {"eof": True}, {"done": True})
    assert told.text.count("data: ") == 2
    assert "[DONE]" not in told.text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_is_an_error_to_the_client(http: httpx2.AsyncClient, stream: bool) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await played(http, {"tokens": {"count": 2}}, {"reset": True}, stream=stream)


async def test_a_reset_comes_after_all_that_was_said(openai: AsyncOpenAI) -> None:
    script = [{"tokens": {"count": 500}}, {"reset": True}]
    stream = await openai.chat.completions.create(
        model="scripted", messages=[], stream=True, extra_body={"script": script}
    )
    heard: list[str | None] = []
    with pytest.raises(APIConnectionError):
        await listen(stream, heard)
    assert heard == [f"t{k} " for k in range(500)]


async def listen(stream: AsyncStream[ChatCompletionChunk], heard: list[str | None]) -> None:
    async for chunk in stream:
        heard.append(chunk.choices[0].delta.content)  # noqa: PERF401  (what was heard must outlive the error)


async def test_a_reset_leaves_the_last_chunk_out(base_url: str) -> None:
    url = httpx2.URL(base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    body = b'{"model":"scripted","stream":true,"script":[{"comment":"ping"},{"reset":true}]}'
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body)
    told = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    assert told.endswith(b"\r\n8\r\n: ping\n\n\r\n")


async def test_the_head_goes_out_with_the_first_byte(http: httpx2.AsyncClient) -> None:
    began = time.monotonic()
    async with http.stream("POST", CHAT, json=scripted({"sleep": 0.2}, {"done": True}, {"sleep": 0.2})):
        assert 0.2 <= time.monotonic() - began < 0.35


async def test_without_stream_a_script_is_folded(http: httpx2.AsyncClient) -> None:
    steps = [{"delta": {"content": "a"}, "choice": 1}, {"tokens": {"count": 2}}, {"usage": {"total_tokens": 3}}]
    told = (await played(http, *steps, {"delta": {}, "finish_reason": "stop"}, stream=False)).json()
    assert [choice["message"]["content"] for choice in told["choices"]] == ["t0 t1 ", "a"]
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"tokns": {"count": 1}}, 'script[1] is no step: {"tokns":{"count":1}} (one of chunk, delta,'),
        ("done", 'script[1] is no step: "done"'),
        ({"done": True, "eof": True}, "script[1] is no step"),
        ({"tokens": {"count": "many"}}, "script[1] (tokens): Expected `int`, got `str` - at `$.tokens.count`"),
        ({"tokens": {"count": 1, "rat": 5}}, "script[1] (tokens): Object contains unknown field `rat`"),
        ({"sleep": -1}, "script[1] (sleep): Expected `float` >= 0"),
        ({"raw_base64": "???"}, "script[1] (raw_base64): Invalid base64"),
        ({"status": 429}, "script[1]: status can only be the first step"),
    ],
)
async def test_what_is_no_step_is_refused_with_its_place(http: httpx2.AsyncClient, step: Any, says: str) -> None:
    told = await played(http, {"comment": "first"}, step)
    assert told.status_code == 400
    assert told.json()["error"]["message"].startswith(says)


async def test_a_request_that_is_no_chat_is_refused(http: httpx2.AsyncClient) -> None:
    for content in (b"{", b"[]", b'{"n": "two"}', b'{"model": "scripted"}', b'{"tokens_per_second": 0}'):
        told = await http.post(CHAT, content=content)
        assert told.status_code == 400
        assert told.json()["error"]["type"] == "invalid_request_error"


async def test_an_unknown_route_is_refused_in_json(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/nothing")).json()["error"]["message"] == "Not Found: GET /v1/nothing"
    assert (await http.get(CHAT)).status_code == 405
