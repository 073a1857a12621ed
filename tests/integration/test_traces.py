"""The traces of whole processes, as a collector receives them: the tree of a generation, whatever happens to it."""

import asyncio
import re
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from support.api import MESSAGES, Api, eventually
from support.collector import CollectedSpan, Collector, collecting
from support.stack import Process, Stack, stack
from tailrace_cli.embedded import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT: dict[str, Any] = {"delta": {"content": "canary-answer-88"}}
FINISH: dict[str, Any] = {"delta": {}, "finish_reason": "stop"}
USAGE: dict[str, Any] = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
ANSWER = [TEXT, FINISH, USAGE, {"done": True}]
HANG: dict[str, Any] = {"hang": True}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Product:
    def __init__(self, running: Stack, http: aiohttp.ClientSession, collector: Collector) -> None:
        self.stack = running
        self.http = http
        self.collector = collector
        self.api = Api(http, running.url)

    async def create(self, *steps: dict[str, Any], script_id: str = "", **headers: str) -> str:
        body = {"model": "scripted", "messages": MESSAGES, "script": list(steps), "script_id": script_id}
        return str((await self.api.post(body, **headers)).value["id"])

    async def spans(self, generation_id: str, name: str, count: int = 1) -> list[CollectedSpan]:
        """The first spans of this name, once there are so many."""

        async def found() -> list[CollectedSpan] | None:
            spans = self.collector.of(generation_id, name)
            return spans if len(spans) >= count else None

        spans: list[CollectedSpan] = await eventually(found)
        assert len(spans) == count
        return spans

    async def created(self, generation_id: str) -> CollectedSpan:
        (created,) = await self.spans(generation_id, "create")
        return created


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    async with (
        collecting() as collector,
        stack(
            workers=0, frontends=0, lease_s="1", drain_s="0", trace_upstreams="true", upstream_retries="2"
        ) as running,
        aiohttp.ClientSession() as http,
    ):
        running.environment |= collector.environment | {
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        }
        await running.add_frontend()
        await running.add_worker()
        yield Product(running, http, collector)


@asynccontextmanager
async def another_worker(product: Product, **settings: str) -> AsyncIterator[Process]:
    """A worker with these settings, in the place of the first one."""
    first = product.stack.workers[0]
    worker = await product.stack.add_worker(**settings)
    await first.stop()
    yield worker
    await first.start()
    await worker.stop()


def is_linked(span: CollectedSpan, created: CollectedSpan) -> bool:
    """Whether it has a trace of its own, and a link to the creation."""
    return span.links == (created.key,) and span.trace != created.trace and span.parent == ""


async def test_complete_answer_is_a_creation_an_attempt_and_a_call(product: Product) -> None:
    generation_id = await product.create(*ANSWER, traceparent=f"00-{TRACE}-{PARENT}-01")
    await product.api.wait_for_result(generation_id)
    created = await product.created(generation_id)
    assert (created.service, created.kind, created.name) == ("tailrace-frontend", "PRODUCER", "create tailrace")
    assert (created.trace, created.parent) == (TRACE, PARENT)
    (attempt,) = await product.spans(generation_id, "process")
    assert (attempt.service, attempt.kind, attempt.name) == ("tailrace-worker", "CONSUMER", "process tailrace")
    assert is_linked(attempt, created)
    assert (attempt.attributes["tailrace.attempt"], attempt.attributes["tailrace.outcome"]) == (1, "completed")
    (call,) = await product.spans(generation_id, "chat")
    assert (call.name, call.kind, call.key[0], call.parent) == ("chat scripted", "CLIENT", attempt.trace, attempt.id)
    assert call.attributes | {"server.port": 0, "gen_ai.response.time_to_first_chunk": 0, "gen_ai.response.id": ""} == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop"], "gen_ai.response.id": "",
        "gen_ai.response.model": "scripted", "gen_ai.response.time_to_first_chunk": 0,
        "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4,
        "server.address": "127.0.0.1", "server.port": 0, "tailrace.upstream": call.attributes["tailrace.upstream"],
    }  # fmt: skip
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] <= call.took_s
    assert {span.error for span in (created, attempt, call)} == {""}


async def test_each_request_of_an_attempt_is_a_call(product: Product) -> None:
    steps = [{"statuses": [503]}, *ANSWER]
    generation_id = await product.create(*steps, script_id=uuid.uuid4().hex)
    await product.api.wait_for_result(generation_id)
    (attempt,) = await product.spans(generation_id, "process")
    failed, answered = sorted(
        await product.spans(generation_id, "chat", 2), key=lambda span: span.attributes.get("tailrace.retry", 0)
    )
    assert failed.parent == answered.parent == attempt.id
    assert failed.error == failed.attributes["error.type"] != ""
    assert (answered.error, answered.attributes["tailrace.retry"], attempt.error) == ("", 1, "")


async def test_fallback_is_a_call_of_each_upstream(product: Product, tmp_path: Path) -> None:
    config = tmp_path / "tailrace.toml"
    places = {"first": f"http://127.0.0.1:{free_port()}/v1", "second": product.stack.upstream}
    config.write_text("".join(f'[[upstreams]]\nname = "{name}"\nbase_url = "{url}"\n' for name, url in places.items()))
    async with another_worker(product, config=str(config)):
        generation_id = await product.create(*ANSWER)
        await product.api.wait_for_result(generation_id)
    (attempt,) = await product.spans(generation_id, "process")
    calls = {call.attributes["tailrace.upstream"]: call for call in await product.spans(generation_id, "chat", 2)}
    assert [calls[name].error != "" for name in ("first", "second")] == [True, False]
    assert {call.parent for call in calls.values()} == {attempt.id}
    assert attempt.error == ""


@pytest.mark.parametrize("is_sent", [True, False])
async def test_upstream_is_sent_the_trace_where_that_is_configured(product: Product, is_sent: bool) -> None:
    received: list[str | None] = []

    async def refuse(request: web.Request) -> web.Response:
        received.append(request.headers.get("traceparent"))
        return web.json_response({"error": {"message": "no"}}, status=400)

    application = web.Application()
    application.router.add_post("/v1/chat/completions", refuse)
    async with TestServer(application) as upstream:
        product.stack.environment["OPENAI_BASE_URL"] = str(upstream.make_url("/v1"))
        async with another_worker(product, trace_upstreams=str(int(is_sent))):
            generation_id = await product.create()
            await product.api.wait_for_result(generation_id)
    product.stack.environment["OPENAI_BASE_URL"] = product.stack.upstream
    (call,) = await product.spans(generation_id, "chat")
    assert [each and each.split("-")[1:3] for each in received] == [[call.trace, call.id] if is_sent else None]


async def test_failed_answer_is_an_error_by_its_code(product: Product) -> None:
    generation_id = await product.create({"status": 400, "json": {"error": {"message": "canary-error-12"}}})
    result = await product.api.wait_for_result(generation_id)
    (attempt,) = await product.spans(generation_id, "process")
    (call,) = await product.spans(generation_id, "chat")
    assert attempt.error == call.error == result["error"]["code"]
    assert attempt.attributes["tailrace.outcome"] == "failed"


async def test_attempt_after_a_kill_is_linked_as_the_first_one_was(product: Product) -> None:
    generation_id = await product.create(TEXT, HANG)
    stream = await product.api.stream(generation_id)
    await stream.until("text")
    created = await product.created(generation_id)
    worker = product.stack.workers[0]
    worker.send(signal.SIGKILL)
    await worker.wait()
    await worker.start()
    await stream.until("restarted")
    await product.api.cancel(generation_id)
    (attempt,) = await product.spans(generation_id, "process")  # of the first one nothing is left
    assert is_linked(attempt, created)
    assert (attempt.attributes["tailrace.attempt"], attempt.attributes["tailrace.restart.reason"]) == (2, "worker_lost")


async def test_cancel_ends_the_attempt_and_its_call_without_an_error(product: Product) -> None:
    generation_id = await product.create(TEXT, HANG)
    stream = await product.api.stream(generation_id)
    await stream.until("text")
    await product.api.cancel(generation_id)
    (attempt,) = await product.spans(generation_id, "process")
    (call,) = await product.spans(generation_id, "chat")
    assert (attempt.attributes["tailrace.outcome"], attempt.error) == ("stopped", "")
    assert (call.attributes["tailrace.outcome"], call.error, call.parent) == ("cancelled", "", attempt.id)


async def test_handover_is_an_attempt_of_its_own(product: Product) -> None:
    generation_id = await product.create(TEXT, HANG)
    stream = await product.api.stream(generation_id)
    await stream.until("text")
    worker = product.stack.workers[0]
    await worker.stop()
    await worker.start()
    await stream.until("restarted")
    await product.api.cancel(generation_id)
    attempts = await product.spans(generation_id, "process", 2)
    created = await product.created(generation_id)
    assert all(is_linked(attempt, created) for attempt in attempts)
    assert sorted(attempt.attributes["tailrace.outcome"] for attempt in attempts) == ["handed_over", "stopped"]


async def test_subscription_ends_when_the_replay_is_out_and_no_token_has_a_span(product: Product) -> None:
    generation_id = await product.create(*(200 * [TEXT]), HANG)
    stream = await product.api.stream(generation_id)
    await stream.until("text")
    (subscription,) = await product.spans(generation_id, "subscribe")  # the stream is open
    assert (subscription.kind, subscription.links) == ("SERVER", ((await product.created(generation_id)).key,))
    assert subscription.attributes["tailrace.outcome"] == "following"
    assert subscription.attributes["tailrace.resumed"] is False
    await product.api.cancel(generation_id)
    await stream.rest()
    await product.spans(generation_id, "process")
    assert sorted(span.name for span in product.collector.of(generation_id)) == [
        "chat scripted", "create tailrace", "process tailrace", "subscribe tailrace"
    ]  # fmt: skip


async def test_no_span_has_content(product: Product) -> None:
    """After the tests above."""
    assert len(product.collector.spans) > 10
    names = {span.name for span in product.collector.spans}
    assert names == {"create tailrace", "process tailrace", "subscribe tailrace", "chat scripted"}
    assert not re.search(r"canary|Hello|sk-upstream", str(product.collector.spans))


async def test_log_has_the_ids_of_the_span(product: Product) -> None:
    async with another_worker(product, log_format="json") as worker:
        generation_id = await product.create(*ANSWER)
        await product.api.wait_for_result(generation_id)
        (attempt,) = await product.spans(generation_id, "process")
        await worker.wait_for_log(f'"trace_id":"{attempt.trace}","span_id":"{attempt.id}"')


async def test_first_attempt_may_be_a_child_and_content_captured(product: Product) -> None:
    product.stack.environment["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    async with another_worker(product, trace_first_attempt="child"):
        generation_id = await product.create(*ANSWER)
        await product.api.wait_for_result(generation_id)
    created = await product.created(generation_id)
    (attempt,) = await product.spans(generation_id, "process")
    (call,) = await product.spans(generation_id, "chat")
    assert (attempt.trace, attempt.parent, attempt.links) == (created.trace, created.id, ())
    assert (call.trace, call.parent) == (created.trace, attempt.id)
    assert '"content":"Hello?"' in call.attributes["gen_ai.input.messages"]
    assert '"content":"canary-answer-88"' in call.attributes["gen_ai.output.messages"]
    del product.stack.environment["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"]


async def test_dead_collector_fails_nothing(product: Product) -> None:
    product.stack.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    async with another_worker(product) as worker:
        for _ in range(5):
            generation_id = await product.create(*ANSWER)
            assert (await product.api.wait_for_result(generation_id))["status"] == "completed"
        async with asyncio.timeout(15):
            assert await worker.stop() == 0
    assert "Traceback" not in worker.output
    assert worker.output.count("traces are not taken by the collector") <= 1
