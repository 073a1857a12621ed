"""Generations from request to end: a real worker, a scripted upstream, two frontends."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import MESSAGES, Api, eventually, scripted
from support.sse import Event, streamed_text
from support.stack import Stack, stack
from tailrace import keys
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.log import Log
from tailrace.redis.server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
IDLE_S = 0.8
MAX_ATTEMPTS = 2
UPSTREAM_KEY = "sk-upstream-secret"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}}
FAIL = {"on_interrupt": "fail"}


class Product:
    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = running
        self.api, self.other = (Api(http, frontend.url) for frontend in running.frontends)
        self.http = http
        self.log = Log(RedisServer.connect(running.redis.url), 5000)

    async def calls(self, script_id: str) -> Any:
        """The upstream's record of the calls under that id."""
        url = f"{self.stack.upstream.removesuffix('/v1')}/calls"
        async with self.http.get(url, params={"script_id": script_id}) as response:
            return await response.json()

    async def closed(self, script_id: str) -> bool:
        calls = await self.calls(script_id)
        return bool(calls["closed_by_client"] == calls["started"] == 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    async with (
        stack(
            workers=1, frontends=2,
            lease_s="1", upstream_idle_timeout_s=str(IDLE_S), max_attempts=str(MAX_ATTEMPTS), upstream_retries="2",
        ) as running,
        aiohttp.ClientSession() as http,
    ):  # fmt: skip
        product = Product(running, http)
        yield product
        await product.log.server.close()


@pytest.fixture
def script_id() -> str:
    return uuid.uuid4().hex


def deltas(*texts: str, choice: int = 0) -> list[Step]:
    return [{"delta": {"content": text}, "choice": choice} for text in texts]


def finish(reason: str = "stop", choice: int = 0) -> Step:
    return {"delta": {}, "choice": choice, "finish_reason": reason}


ROLE: Step = {"delta": {"role": "assistant", "content": ""}}
DONE: Step = {"done": True}
HANG: Step = {"hang": True}


async def ended(product: Product, *steps: Step, **fields: Any) -> tuple[Any, list[Event]]:
    """The generation and its log, once it has ended."""
    generation_id = await product.api.create_scripted(*steps, **fields)
    result = await product.api.wait_for_result(generation_id)
    stream = await product.other.read(generation_id)
    assert stream.kinds.count("done") == 1
    assert stream.kinds[-1] == "done"
    assert stream.events[-1].value["status"] == result["status"]
    return result, stream.events


def text_of(result: Any, choice: int = 0) -> str:
    """The text of one choice in the output of a generation's JSON."""
    return "".join(
        each["text"] for each in result["output"] if each["type"] == "text" and each.get("choice", 0) == choice
    )


# answers


async def test_answer_has_the_text_finish_and_usage_of_the_upstream(product: Product, script_id: str) -> None:
    words = ["Hello", ",", " wörld ", "\u2028", "💧", "\n"]
    steps = [ROLE, *deltas(*words), finish(), {"usage": USAGE}, DONE]
    result, events = await ended(product, *steps, script_id=script_id)
    assert result["status"] == "completed"
    assert text_of(result) == streamed_text(events) == "".join(words)
    assert result["finish"] == [{"index": 0, "finish_reason": "stop"}]
    assert result["usage"] == events[-1].value["usage"] == USAGE
    assert result["error"] is None
    assert result["timings"].keys() >= {"queue", "first_token", "total"}
    assert 0 <= result["timings"]["queue"] <= result["timings"]["first_token"] <= result["timings"]["total"]
    assert [event.kind for event in events[:3]] == ["created", "started", "item_opened"]


async def test_upstream_receives_the_body_unchanged_and_without_our_options(product: Product, script_id: str) -> None:
    fields = {"temperature": 0.25, "x_vendor": {"deep": [1, None, {"ä": "\0"}]}, "stop": ["a"], "metadata": {"k": "v"}}
    steps = [*deltas("Hi"), finish(), DONE]
    sent = scripted(*steps, script_id=script_id, **fields)
    generation_id = (await product.api.post(sent | {"tailrace": FAIL})).value["id"]
    await product.api.wait_for_result(generation_id)
    calls = await product.calls(script_id)
    assert calls["last_request"] == sent | {"stream": True, "stream_options": {"include_usage": True}}
    assert calls["authorization_seen"]
    assert calls["started"] == 1


async def test_tool_calls_each_have_their_arguments(product: Product) -> None:
    def call(index: int, arguments: str, **named: Any) -> Step:
        function = {"arguments": arguments} | {name: value for name, value in named.items() if name == "name"}
        more = {name: value for name, value in named.items() if name != "name"}
        return {"delta": {"tool_calls": [{"index": index, "function": function} | more]}}

    result, events = await ended(
        product, ROLE,
        call(0, "", name="search", id="call_a", type="function"), call(0, '{"q":'), call(0, '"x"}'),
        call(1, "", name="open", id="call_b", type="function"), call(1, "{}"), finish("tool_calls"), DONE,
    )  # fmt: skip
    calls = [each for each in result["output"] if each["type"] == "call"]
    assert [(each["name"], each["id"], each["arguments"]) for each in calls] == [
        ("search", "call_a", '{"q":"x"}'),
        ("open", "call_b", "{}"),
    ]
    assert result["finish"][0]["finish_reason"] == "tool_calls"
    assert (
        "".join(e.value["text"] for e in events if e.kind == "tool_arguments" and e.value.get("call") == "call_a")
        == '{"q":"x"}'
    )


async def test_reasoning_is_an_item_of_its_own_before_the_text(product: Product) -> None:
    thoughts = [{"delta": {"reasoning_content": text}} for text in ("Let", " me", " see.")]
    result, events = await ended(product, *thoughts, *deltas("It", " is."), finish(), DONE)
    assert [(each["type"], each["text"]) for each in result["output"]] == [
        ("reasoning", "Let me see."),
        ("text", "It is."),
    ]
    assert streamed_text(events) == "It is."


async def test_refusal_is_an_item_of_its_own(product: Product) -> None:
    result, _ = await ended(product, *({"delta": {"refusal": text}} for text in ("I", " won't.")), finish(), DONE)
    assert [(each["type"], each["text"]) for each in result["output"]] == [("refusal", "I won't.")]
    assert result["status"] == "completed"


async def test_choices_each_have_their_text_and_finish_reason(product: Product) -> None:
    steps = [*deltas("a", choice=0), *deltas("x", choice=1), *deltas("b", choice=0), *deltas("y", choice=1)]
    result, _ = await ended(product, *steps, finish(), finish("length", 1), DONE, n=2)
    assert (text_of(result, 0), text_of(result, 1)) == ("ab", "xy")
    assert [each["finish_reason"] for each in result["finish"]] == ["stop", "length"]


async def test_answer_at_its_token_limit_is_incomplete(product: Product) -> None:
    result, _ = await ended(product, *deltas("So far"), finish("length"), DONE)
    assert (result["status"], text_of(result), result["error"]) == ("incomplete", "So far", None)


async def test_answer_with_a_finish_reason_and_without_done_marker_is_complete(product: Product) -> None:
    result, _ = await ended(product, *deltas("Hi"), finish(), {"eof": True})
    assert result["status"] == "completed"


# failures of the upstream


async def test_rate_limit_is_retried_after_the_time_it_names(product: Product, script_id: str) -> None:
    began = time.monotonic()
    result, _ = await ended(
        product,
        {"statuses": [429], "headers": {"Retry-After": "1"}},
        *deltas("Hi"),
        finish(),
        DONE,
        script_id=script_id,
    )
    assert time.monotonic() - began >= 1
    assert (result["status"], text_of(result)) == ("completed", "Hi")
    assert (await product.calls(script_id))["started"] == 2


async def test_server_error_of_the_upstream_is_retried(product: Product, script_id: str) -> None:
    result, events = await ended(product, {"statuses": [500, 503]}, *deltas("Hi"), finish(), DONE, script_id=script_id)
    assert (result["status"], text_of(result)) == ("completed", "Hi")
    assert (await product.calls(script_id))["started"] == 3
    assert "restarted" not in [event.kind for event in events]


@pytest.mark.parametrize(("status", "code"), [(429, "upstream_rate_limited"), (502, "upstream_error")])
async def test_upstream_that_fails_on_every_retry_fails_the_generation(
    product: Product, script_id: str, status: int, code: str
) -> None:
    result, _ = await ended(product, {"status": status, "headers": {"Retry-After-Ms": "20"}}, script_id=script_id)
    assert (result["status"], result["error"]["code"]) == ("failed", code)
    assert (await product.calls(script_id))["started"] == 3


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_rejection_by_the_upstream_fails_the_generation_with_its_message_and_code(
    product: Product, script_id: str, status: int
) -> None:
    error = {
        "message": "No such model: scripted.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_gone",
    }
    result, events = await ended(product, {"status": status, "json": {"error": error}}, script_id=script_id)
    assert result["status"] == "failed"
    assert result["error"]["message"] == "No such model: scripted."
    assert result["error"]["code"] == "model_gone"
    assert events[-1].value["error"] == result["error"]
    assert (await product.calls(script_id))["started"] == 1


async def test_malformed_lines_of_the_upstream_are_skipped(product: Product) -> None:
    malformed = [
        {"raw": "data: {not json\n\n"},
        {"raw": "data: 7\n\n"},
        {"raw": "nonsense\n\n"},
        {"raw_base64": "ZGF0YTog//4KCg=="},
    ]
    result, _ = await ended(product, *deltas("a"), *malformed, *deltas("b"), finish(), DONE)
    assert (result["status"], text_of(result)) == ("completed", "ab")


async def test_error_in_the_stream_fails_the_generation_and_keeps_its_text(product: Product, script_id: str) -> None:
    error = {"message": "The model tripped.", "type": "server_error", "param": None, "code": "tripped"}
    result, events = await ended(
        product, *deltas("So ", "far"), {"raw": f"data: {json.dumps({'error': error})}\n\n"}, HANG, script_id=script_id
    )
    assert (result["status"], text_of(result), streamed_text(events)) == ("failed", "So far", "So far")
    assert result["error"]["message"] == "The model tripped."
    assert result["error"]["code"] == "tripped"
    await eventually(lambda: product.closed(script_id))


async def test_truncated_answer_is_incomplete_if_it_may_not_restart(product: Product) -> None:
    result, _ = await ended(product, *deltas("So ", "far"), {"eof": True}, tailrace=FAIL)
    assert (result["status"], result["error"]["code"], text_of(result)) == (
        "incomplete",
        "upstream_truncated",
        "So far",
    )


async def test_connection_lost_in_the_middle_fails_the_generation_if_it_may_not_restart(
    product: Product, script_id: str
) -> None:
    result, _ = await ended(product, *deltas("So ", "far"), {"reset": True}, tailrace=FAIL, script_id=script_id)
    assert (result["status"], result["error"]["code"], text_of(result)) == ("failed", "upstream_unreachable", "So far")
    assert (await product.calls(script_id))["started"] == 1


@pytest.mark.parametrize("step", [{"eof": True}, {"reset": True}])
async def test_truncated_answer_restarts_until_its_attempts_are_spent(
    product: Product, script_id: str, step: Step
) -> None:
    pause: Step = {"sleep": 0.2}  # until the text is in the log: otherwise there is no `restarted`
    result, events = await ended(product, *deltas("So ", "far"), pause, step, script_id=script_id)
    assert (result["status"], result["error"]["code"]) == ("failed", "attempts_exhausted")
    restarts = [event for event in events if event.kind == "restarted"]
    assert [event.value["attempt"] for event in restarts] == list(range(2, MAX_ATTEMPTS + 1))
    assert streamed_text(events) == text_of(result) == "So far"
    assert (await product.calls(script_id))["started"] == MAX_ATTEMPTS
    assert [event.seq for event in events] == sorted(event.seq for event in events)


async def test_connection_lost_before_any_content_is_retried(product: Product, script_id: str) -> None:
    result, events = await ended(product, {"reset": True}, script_id=script_id)
    assert (result["status"], result["error"]["code"]) == ("failed", "upstream_unreachable")
    assert (await product.calls(script_id))["started"] == 3
    assert [event.kind for event in events] == ["created", "started", "done"]


# cancel, delete, time


async def test_cancel_closes_the_upstream_and_keeps_the_text(product: Product, script_id: str) -> None:
    generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until_text("So far")
    began = time.monotonic()
    result = (await product.other.cancel(generation_id)).value
    assert (result["status"], text_of(result)) == ("cancelled", "So far")
    assert result["usage"]["estimated"]
    await stream.rest()
    assert time.monotonic() - began < 1
    assert stream.kinds.count("done") == 1
    assert stream.events[-1].value["status"] == "cancelled"
    await eventually(lambda: product.closed(script_id), 2)
    again = (await product.api.cancel(generation_id)).value
    assert again == result
    assert (await product.other.read(generation_id)).kinds.count("done") == 1


async def test_concurrent_cancels_during_a_fast_answer_write_one_end(product: Product, script_id: str) -> None:
    generation_id = await product.api.create_scripted({"tokens": {"count": 100_000, "rate": 2000}}, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until("text", 5)
    answers = await asyncio.gather(*(api.cancel(generation_id) for api in (product.api, product.other) * 3))
    assert {answer.value["status"] for answer in answers} == {"cancelled"}
    await stream.rest()
    assert stream.kinds.count("done") == 1
    assert stream.text == text_of(answers[0].value)
    await eventually(lambda: product.closed(script_id), 2)
    assert (await product.other.read(generation_id)).text == stream.text


async def test_cancel_after_the_end_changes_nothing(product: Product) -> None:
    result, _ = await ended(product, *deltas("Hi"), finish(), DONE)
    again = await product.api.cancel(result["id"])
    assert (again.status, again.value) == (200, result)


async def test_cancel_before_any_worker_took_it_makes_no_upstream_call(product: Product, script_id: str) -> None:
    (worker,) = product.stack.workers
    await worker.stop()
    generation_id = await product.api.create_scripted(*deltas("Hi"), finish(), DONE, script_id=script_id)
    assert (await product.api.cancel(generation_id)).value["status"] == "cancelled"
    await worker.start()
    await ended(product, *deltas("Hi"), finish(), DONE)
    assert (await product.calls(script_id))["started"] == 0
    assert (await product.api.read(generation_id)).kinds == ["created", "done"]


async def test_delete_closes_the_upstream_and_leaves_only_a_tombstone(product: Product, script_id: str) -> None:
    generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until_text("So far")
    assert (await product.other.delete(generation_id)).status == 200
    await stream.rest()
    assert stream.kinds[-1] in ("done", "gone")
    await eventually(lambda: product.closed(script_id), 2)
    assert (await product.api.get(generation_id)).refusal == (410, "deleted")
    assert [key async for key in product.log.server.client.scan_iter(f"*{generation_id}*")] == [
        keys.tombstone(generation_id).encode()
    ]


async def test_idle_timeout_counts_content_and_not_comments(product: Product, script_id: str) -> None:
    pings: list[Step] = [{"comment": "ping"}, {"sleep": IDLE_S / 8}, {"chunk": {"choices": []}}]
    began = time.monotonic()
    result, _ = await ended(product, *deltas("So far"), *pings * 40, finish(), DONE, tailrace=FAIL, script_id=script_id)
    assert IDLE_S <= time.monotonic() - began < IDLE_S + 2
    assert (result["status"], result["error"]["code"], text_of(result)) == ("failed", "upstream_timeout", "So far")
    await eventually(lambda: product.closed(script_id))


async def test_idle_timeout_spares_a_slow_answer(product: Product) -> None:
    pause: Step = {"sleep": IDLE_S * 0.6}
    slow = [*deltas("b"), pause, *deltas("c"), pause, *deltas("d")]
    result, _ = await ended(product, *deltas("a"), *slow, finish(), DONE, tailrace=FAIL)
    assert result["status"] == "completed"


async def test_deadline_fails_the_generation_and_keeps_its_text(product: Product, script_id: str) -> None:
    began = time.monotonic()
    tokens = {"tokens": {"count": 1000, "rate": 20}}
    result, events = await ended(product, tokens, tailrace={"deadline_s": 1}, script_id=script_id)
    assert 0.9 <= time.monotonic() - began < 3
    assert (result["status"], result["error"]["code"]) == ("failed", "deadline_exceeded")
    assert streamed_text(events).startswith("t0 t1 t2 ")
    await eventually(lambda: product.closed(script_id))


# readers


CUTS = 3
ANSWERS = 8


async def test_answer_is_whole_after_three_cuts_and_resumes_on_the_other_frontend(product: Product) -> None:
    async def read(number: int) -> None:
        count = 90 + number
        generation_id = await product.api.create_scripted({"tokens": {"count": count, "rate": 60}}, finish(), DONE)
        events: list[Event] = []
        frontends = itertools.cycle((product.other, product.api))
        cursor = ""
        for cut in range(CUTS):
            stream = await next(frontends).stream(generation_id, cursor)
            await stream.until("text", 3 + cut + number % 3)
            stream.cut()
            cursor = stream.parser.last_id
            events += stream.events
        rest = await next(frontends).read(generation_id, cursor)
        events += rest.events
        text = "".join(f"t{n} " for n in range(count))
        assert streamed_text(events) == text
        assert text_of(await product.api.wait_for_result(generation_id)) == text
        log = [entry async for entry in product.log.read_all(generation_id)]
        ids = [event.id for event in events]
        assert ids == sorted(ids, key=lambda each: int(str(each).split("-")[1]))
        assert len(set(ids)) == len(ids)
        assert set(ids) <= {str(entry.id) for entry in log}
        assert ids[-1] == str(log[-1].id)
        assert "restarted" not in [event.kind for event in events]

    await asyncio.gather(*(read(number) for number in range(ANSWERS)))


# secrets


MESSAGE = f"Incorrect API key provided: {UPSTREAM_KEY}. Authorization: Bearer {UPSTREAM_KEY}"
ECHO = {"error": {"message": MESSAGE, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}}


@pytest.mark.parametrize(
    "steps",
    [
        [{"status": 401, "json": ECHO}],
        [{"status": 403, "json": ECHO}],
        [{"status": 500, "json": ECHO, "headers": {"Retry-After-Ms": "10"}}],
        [{"status": 400, "json": ECHO}],
        [{"status": 429, "json": ECHO, "headers": {"Retry-After-Ms": "10"}}],
        [*deltas("a"), {"raw": f"data: {json.dumps(ECHO)}\n\n"}],
        [*deltas("a"), {"raw": f"data: {json.dumps({'error': 'Unauthorized', 'message': MESSAGE})}\n\n"}],
        [{"raw": f"data: {json.dumps({'error': {'message': 'No.', 'code': 'x'}, 'debug': {'key': MESSAGE}})}\n\n"}],
    ],
    ids=["401", "403", "500", "400", "429", "in the stream", "beside a text", "beside the error"],
)
async def test_upstream_key_is_redacted_where_the_upstream_repeats_it(product: Product, steps: list[Step]) -> None:
    result, _ = await ended(product, *steps)
    assert result["status"] == "failed"
    assert UPSTREAM_KEY not in json.dumps({name: value for name, value in result.items() if name != "request"})
    assert UPSTREAM_KEY.encode() not in (await product.api.events(result["id"])).body


async def test_keys_are_in_no_process_log_in_no_redis_key_and_in_no_response(product: Product) -> None:
    anna, ticket_secret = "anna-key-1", "0123456789abcdef"
    frontend = await product.stack.add_frontend(api_keys=f"anna:{anna}", ticket_secret=ticket_secret)
    api = Api(product.http, frontend.url, anna)
    generation_id = await api.create_scripted(*deltas("Hi"), finish(), DONE)
    seen = [json.dumps(await api.wait_for_result(generation_id)), json.dumps((await api.list()).value)]
    url = (await api.get(generation_id)).value["events_url"]
    ticket = url.partition("ticket=")[2]
    assert (await Api(product.http, frontend.url).request("GET", url)).status == 200
    answers = (
        await Api(product.http, frontend.url, anna[:-1]).get(generation_id),
        await Api(product.http, frontend.url).request("GET", url.replace("~", "~9")),
        await api.post({"model": 1, "messages": MESSAGES}),
        await api.request("GET", "/metrics"),
        await api.request("GET", "/readyz"),
        await api.events(generation_id),
    )
    seen += [answer.body.decode() + str(answer.headers) for answer in answers]
    for process in (*product.stack.frontends, *product.stack.workers):
        seen.append(process.output)
        assert "Traceback" not in process.output
        assert ticket not in process.output
    redis = product.log.server.client
    kept = b"".join([str(await redis.dump(key)).encode() async for key in redis.scan_iter(f"*{generation_id}*")])
    seen.append(kept.decode())
    for key in (anna, ticket_secret, UPSTREAM_KEY):
        assert not any(key in each for each in seen), key


async def test_log_that_redis_lost_is_restored_while_the_upstream_is_silent(script_id: str) -> None:
    async with stack(workers=1, frontends=2, lease_s="1") as running, aiohttp.ClientSession() as http:
        product = Product(running, http)
        generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
        stream = await product.api.stream(generation_id)
        await stream.until_text("So far")
        await product.log.server.client.delete(*keys.of_generation(generation_id))
        await eventually(lambda: product.log.server.client.exists(keys.state(generation_id)))
        await product.other.cancel(generation_id)
        await stream.rest()
        assert (stream.text, stream.kinds[-1], stream.kinds.count("restarted")) == ("So far", "done", 0)
        assert (await product.other.read(generation_id)).text == "So far"
        await product.log.server.close()


@pytest.mark.parametrize("retention_s", [1, 2])
async def test_expired_generation_stays_expired_and_leaves_no_task(retention_s: int) -> None:
    """The observation is longer than CONFIRM_S, so a worker that restored the log would be seen. A worker that stops
    waits up to DRAIN_S for its tasks: it stops earlier only if none is left."""
    observed_s, drain_s = CONFIRM_S + 2.5, 20
    running_stack = stack(workers=1, frontends=2, lease_s="1", retention_s=str(retention_s), drain_s=str(drain_s))
    async with running_stack as running, aiohttp.ClientSession() as http:
        product = Product(running, http)
        generation_id = await product.api.create_scripted(*deltas("Hi"), finish(), DONE)
        assert (await product.api.wait_for_result(generation_id))["status"] == "completed"
        await eventually(lambda: is_expired(product.api, generation_id))
        until = time.monotonic() + observed_s
        while time.monotonic() < until:
            assert await is_expired(product.other, generation_id)
            await asyncio.sleep(0.05)
        stopping = time.monotonic()
        await running.workers[0].stop()
        assert time.monotonic() - stopping < drain_s / 2
        await product.log.server.close()


async def is_expired(api: Api, generation_id: str) -> bool:
    return (await api.get(generation_id)).status == 410
