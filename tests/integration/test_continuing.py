"""`on_interrupt: continue`: a worker that is killed, an upstream that breaks off, and readers that notice neither."""

import json
import signal
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import MESSAGES, Api, body, eventually, scripted
from support.sse import streamed_text
from support.stack import Process, Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
CONTINUE = {"on_interrupt": "continue"}
WORDS = ["Once", " upon", " a", " time"]
REST = [" there", " was", " a", " mill."]
WHOLE = "".join([*WORDS, *REST])


class Product:
    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = running
        self.http = http
        self.api = Api(http, running.url)
        self.worker: Process = running.workers[0]

    async def last_request(self, script_id: str) -> Any:
        url = f"{self.stack.upstream.removesuffix('/v1')}/calls"
        async with self.http.get(url, params={"script_id": script_id}) as response:
            return (await response.json())["last_request"]

    async def kill_worker(self) -> None:
        await self.worker.stop(signal.SIGKILL)
        self.worker = await self.stack.add_worker()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    settings: dict[str, Any] = {
        "lease_s": "1",
        "upstream_idle_timeout_s": "3",
        "upstream_retries": "0",
        "upstream_profile": "vllm",
    }
    async with stack(workers=1, frontends=1, **settings) as running, aiohttp.ClientSession() as http:
        yield Product(running, http)


@pytest.fixture
def script_id() -> str:
    return uuid.uuid4().hex


def deltas(*texts: str) -> list[Step]:
    return [{"delta": {"content": text}} for text in texts]


def text_in(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


END: list[Step] = [
    {"delta": {}, "finish_reason": "stop"},
    {"usage": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}},
    {"done": True},
]


def asked(*lost: Step, script_id: str, **fields: Any) -> Step:
    """A body for an answer that breaks off after `WORDS`, and whose rest is sent to any request for it."""
    more = {"continuation": [*deltas(*REST), *END], "tailrace": CONTINUE}
    return scripted(*deltas(*WORDS), *lost, script_id=script_id, **more, **fields)


@pytest.mark.parametrize("lost", [{"reset": True}, {"eof": True}, {"hang": True}])
async def test_answer_that_breaks_off_is_continued(product: Product, script_id: str, lost: Step) -> None:
    generation_id = (await product.api.post(asked(lost, script_id=script_id, max_tokens=100))).value["id"]
    result = await product.api.wait_for_result(generation_id)
    stream = await product.api.read(generation_id)
    assert streamed_text(stream.events) == result["output"][0]["text"] == WHOLE
    assert [kind for kind in stream.kinds if kind != "text"] == ["created", "started", "item_opened", "done"]
    assert stream.events[-1].value["continued"] == result["continued"] == 1
    assert result["usage"] == {
        "prompt_tokens": 16, "completion_tokens": 8, "total_tokens": 24, "estimated": True,
    }  # fmt: skip
    request = await product.last_request(script_id)
    assert request["messages"] == [*MESSAGES, {"role": "assistant", "content": "".join(WORDS)}]
    assert (request["continue_final_message"], request["add_generation_prompt"]) == (True, False)
    assert (request["max_tokens"], request["stream"]) == (96, True)


async def test_reader_of_a_killed_worker_sees_one_answer(product: Product, script_id: str) -> None:
    """The reader is connected all the time; the worker dies in the middle, with SIGKILL."""
    generation_id = (await product.api.post(asked({"hang": True}, script_id=script_id))).value["id"]
    stream = await product.api.stream(generation_id)
    await stream.until_text(WORDS[-1])
    await product.kill_worker()
    await stream.rest()
    assert streamed_text(stream.events) == WHOLE
    assert "restarted" not in stream.kinds
    assert [event.seq for event in stream.events] == sorted({event.seq for event in stream.events})
    assert stream.events[-1].value["status"] == "completed"


async def test_openai_stream_of_a_killed_worker_ends_like_any_other(product: Product, script_id: str) -> None:
    """Chat chunks have no event that takes back what was sent: without a continuation the stream would break off."""
    sent = asked({"hang": True}, script_id=script_id) | {"stream": True}
    chunks: list[Any] = []
    async with product.http.post(f"{product.api.url}/v1/chat/completions", json=sent) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                chunks.append(json.loads(line[6:]))
                if text_in(chunks[-1:]).endswith(WORDS[-1]):
                    await product.kill_worker()
        assert line.strip() in (b"data: [DONE]", b"")
    assert text_in(chunks) == WHOLE
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_answer_that_cannot_be_continued_starts_over(product: Product, script_id: str) -> None:
    sent = asked({"reset": True}, script_id=script_id, n=1, response_format={"type": "json_object"})
    sent["script"] = [*deltas("{"), {"reset": True}]
    generation_id = (await product.api.post(sent)).value["id"]
    stream = await product.api.read(generation_id)
    assert "restarted" in stream.kinds
    request = await product.last_request(script_id)
    assert request["messages"] == MESSAGES


async def test_profile_that_does_not_continue_is_refused_at_creation(product: Product) -> None:
    frontend = await product.stack.add_frontend(upstream_profile="openai")
    try:
        refused = await Api(product.http, frontend.url).post(body(tailrace=CONTINUE))
        assert refused.refusal == (400, "invalid_value")
        assert refused.error["param"] == "tailrace.on_interrupt"
        assert "TAILRACE_UPSTREAM_PROFILE" in refused.error["message"]
        accepted = await Api(product.http, frontend.url).post(body(tailrace={"on_interrupt": "restart"}))
        assert accepted.status == 202
    finally:
        await frontend.stop()


async def test_answer_whose_upstream_always_breaks_off_fails_with_its_text(product: Product, script_id: str) -> None:
    sent = asked({"reset": True}, script_id=script_id)
    sent["continuation"] = [*deltas(" again"), {"sleep": 0.2}, {"reset": True}]
    generation_id = (await product.api.post(sent)).value["id"]

    async def has_failed() -> bool:
        status: str = (await product.api.get(generation_id)).value["status"]
        return status not in ("queued", "running")

    await eventually(has_failed)
    result = (await product.api.get(generation_id)).value
    assert result["output"][0]["text"].startswith("Once upon a time again")
    assert (result["status"], result["continued"] >= 1) == ("failed", True)
