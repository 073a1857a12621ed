"""open_stream: the request that is sent, and where the answer ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from support.logs import record
from tailrace.events import Json
from tailrace.upstreams import DEFAULT_UPSTREAM, PROFILES
from tailrace_worker.upstream.chat.stream import open_stream
from tailrace_worker.upstream.client import UpstreamClient


class Body(httpx2.AsyncByteStream):
    def __init__(self, *reads: bytes) -> None:
        self._reads = reads

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for read in self._reads:
            yield read


class StubClient:
    """Stands in for UpstreamClient: keeps the body of the request, and answers with these reads of a socket."""

    def __init__(self, *reads: bytes) -> None:
        self.body: Json = {}
        self.config = DEFAULT_UPSTREAM
        self._reads = reads
        completions = SimpleNamespace(with_streaming_response=SimpleNamespace(create=self._create))
        self.sdk = SimpleNamespace(chat=SimpleNamespace(completions=completions))

    @asynccontextmanager
    async def _create(self, *, extra_body: Json, **_: Any) -> AsyncIterator[Any]:
        self.body = extra_body
        yield SimpleNamespace(http_response=httpx2.Response(200, stream=Body(*self._reads)))

    async def payloads(self, request: Json, **fields: Any) -> list[list[bytes]]:
        opened = open_stream(cast("UpstreamClient", self), record(**fields), request)
        return [payloads async for payloads in opened]


@pytest.mark.parametrize("options", [None, "x", {"include_usage": False}])
async def test_request_is_sent_as_it_came_as_a_stream_with_usage(options: object) -> None:
    client = StubClient()
    request = {"model": "m", "messages": [], "x_unknown": 1, "stream": False, "stream_options": options}
    assert await client.payloads(request) == []
    assert client.body == {**request, "stream": True, "stream_options": {"include_usage": True}}


async def test_request_of_the_responses_api_is_sent_as_a_chat_request() -> None:
    client = StubClient()
    asked = {"model": "m", "input": "Hello?", "max_output_tokens": 9, "stream": False, "store": True}
    await client.payloads(asked | {"stream_options": {"include_obfuscation": True}}, api="responses")
    assert client.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello?"}],
        "max_completion_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_other_stream_options_are_kept() -> None:
    client = StubClient()
    await client.payloads({"model": "m", "stream_options": {"include_obfuscation": False}})
    assert client.body["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_payloads_are_grouped_by_read_and_end_with_done() -> None:
    client = StubClient(
        b"data: 1\n\ndata: 2\n\n", b": ping\n\n", b"data: 3\n\ndata: [DONE]\n\ndata: 4\n\n", b"data: 5\n\n"
    )
    assert await client.payloads({"model": "m"}) == [[b"1", b"2"], [b"3", b"[DONE]"]]


async def test_payloads_of_a_stream_without_done_end_with_the_response() -> None:
    client = StubClient(b"data: 1\n\ndata: 2")
    assert await client.payloads({"model": "m"}) == [[b"1"], [b"2"]]


async def test_field_that_the_product_refuses_is_not_sent() -> None:
    client = StubClient(b"data: [DONE]\n\n")
    client.config = DEFAULT_UPSTREAM.model_copy(update={"profile": PROFILES["mistral"]})
    await client.payloads({"model": "m", "messages": [], "stream_options": {"include_usage": True}})
    assert client.body == {"model": "m", "messages": [], "stream": True}
