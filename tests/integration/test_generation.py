"""What becomes of a generation: a real worker, a scripted upstream, two frontends."""

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
from support.sse import Event, said
from support.stack import Stack, stack
from tailrace import keys
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
        """What the upstream saw."""
        url = f"{self.stack.upstream.removesuffix('/v1')}/calls"
        async with self.http.get(url, params={"script_id": script_id}) as told:
            return await told.json()

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
    told = await product.api.wait_for_result(generation_id)
    stream = await product.other.read(generation_id)
    assert stream.kinds.count("done") == 1
    assert stream.kinds[-1] == "done"
    assert stream.events[-1].value["status"] == told["status"]
    return told, stream.events


def text_of(told: Any, choice: int = 0) -> str:
    """The spoken text of the output in a generation's JSON."""
    return "".join(
        each["text"] for each in told["output"] if each["type"] == "text" and each.get("choice", 0) == choice
    )


# what an upstream says


async def test_an_answer_is_told_as_the_upstream_said_it(product: Product, script_id: str) -> None:
    words = ["Hello", ",", " wörld ", "\u2028", "💧", "\n"]
    steps = [ROLE, *deltas(*words), finish(), {"usage": USAGE}, DONE]
    told, events = await ended(product, *steps, script_id=script_id)
    assert told["status"] == "completed"
    assert text_of(told) == said(events) == "".join(words)
    assert told["finish"] == [{"index": 0, "finish_reason": "stop"}]
    assert told["usage"] == events[-1].value["usage"] == USAGE
    assert told["error"] is None
    assert told["timings"].keys() >= {"queue", "first_token", "total"}
    assert 0 <= told["timings"]["queue"] <= told["timings"]["first_token"] <= told["timings"]["total"]
    assert [event.kind for event in events[:3]] == ["created", "started", "item_opened"]


async def test_the_upstream_gets_the_body_as_it_came_and_nothing_of_ours(product: Product, script_id: str) -> None:
    fields = {"temperature": 0.25, "x_vendor": {"deep": [1, None, {"ä": "\0"}]}, "stop": ["a"], "metadata": {"k": "v"}}
    steps = [*deltas("Hi"), finish(), DONE]
    sent = scripted(*steps, script_id=script_id, **fields)
    generation_id = (await product.api.post(sent | {"tailrace": FAIL})).value["id"]
    await product.api.wait_for_result(generation_id)
    calls = await product.calls(script_id)
    assert calls["last_request"] == sent | {"stream": True, "stream_options": {"include_usage": True}}
    assert calls["authorization_seen"]
    assert calls["started"] == 1


async def test_tool_calls_are_told_each_with_its_arguments(product: Product) -> None:
    def call(index: int, arguments: str, **named: Any) -> Step:
        function = {"arguments": arguments} | {name: value for name, value in named.items() if name == "name"}
        more = {name: value for name, value in named.items() if name != "name"}
        return {"delta": {"tool_calls": [{"index": index, "function": function} | more]}}

    told, events = await ended(
        product, ROLE,
        call(0, "", name="search", id="call_a", type="function"), call(0, '{"q":'), call(0, '"x"}'),
        call(1, "", name="open", id="call_b", type="function"), call(1, "{}"), finish("tool_calls"), DONE,
    )  # fmt: skip
    calls = [each for each in told["output"] if each["type"] == "call"]
    assert [(each["name"], each["id"], each["arguments"]) for each in calls] == [
        ("search", "call_a", '{"q":"x"}'),
        ("open", "call_b", "{}"),
    ]
    assert told["finish"][0]["finish_reason"] == "tool_calls"
    assert (
        "".join(e.value["text"] for e in events if e.kind == "tool_arguments" and e.value.get("call") == "call_a")
        == '{"q":"x"}'
    )


async def test_reasoning_comes_before_the_text_and_apart_from_it(product: Product) -> None:
    thoughts = [{"delta": {"reasoning_content": text}} for text in ("Let", " me", " see.")]
    told, events = await ended(product, *thoughts, *deltas("It", " is."), finish(), DONE)
    assert [(each["type"], each["text"]) for each in told["output"]] == [
        ("reasoning", "Let me see."),
        ("text", "It is."),
    ]
    assert said(events) == "It is."


async def test_a_refusal_is_told_as_one(product: Product) -> None:
    told, _ = await ended(product, *({"delta": {"refusal": text}} for text in ("I", " won't.")), finish(), DONE)
    assert [(each["type"], each["text"]) for each in told["output"]] == [("refusal", "I won't.")]
    assert told["status"] == "completed"


async def test_of_several_choices_each_has_its_text_and_its_end(product: Product) -> None:
    steps = [*deltas("a", choice=0), *deltas("x", choice=1), *deltas("b", choice=0), *deltas("y", choice=1)]
    told, _ = await ended(product, *steps, finish(), finish("length", 1), DONE, n=2)
    assert (text_of(told, 0), text_of(told, 1)) == ("ab", "xy")
    assert [each["finish_reason"] for each in told["finish"]] == ["stop", "length"]


async def test_an_answer_at_its_token_limit_is_incomplete(product: Product) -> None:
    told, _ = await ended(product, *deltas("So far"), finish("length"), DONE)
    assert (told["status"], text_of(told), told["error"]) == ("incomplete", "So far", None)


async def test_an_answer_without_a_last_word_but_with_a_reason_is_complete(product: Product) -> None:
    told, _ = await ended(product, *deltas("Hi"), finish(), {"eof": True})
    assert told["status"] == "completed"


# what goes wrong with an upstream


async def test_a_refusal_for_now_is_asked_again_after_the_time_it_names(product: Product, script_id: str) -> None:
    began = time.monotonic()
    told, _ = await ended(
        product,
        {"statuses": [429], "headers": {"Retry-After": "1"}},
        *deltas("Hi"),
        finish(),
        DONE,
        script_id=script_id,
    )
    assert time.monotonic() - began >= 1
    assert (told["status"], text_of(told)) == ("completed", "Hi")
    assert (await product.calls(script_id))["started"] == 2


async def test_a_failing_upstream_is_asked_again(product: Product, script_id: str) -> None:
    told, events = await ended(product, {"statuses": [500, 503]}, *deltas("Hi"), finish(), DONE, script_id=script_id)
    assert (told["status"], text_of(told)) == ("completed", "Hi")
    assert (await product.calls(script_id))["started"] == 3
    assert "restarted" not in [event.kind for event in events]


@pytest.mark.parametrize(("status", "code"), [(429, "upstream_rate_limited"), (502, "upstream_error")])
async def test_an_upstream_that_goes_on_failing_ends_the_generation(
    product: Product, script_id: str, status: int, code: str
) -> None:
    told, _ = await ended(product, {"status": status, "headers": {"Retry-After-Ms": "20"}}, script_id=script_id)
    assert (told["status"], told["error"]["code"]) == ("failed", code)
    assert (await product.calls(script_id))["started"] == 3


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refusal_for_good_ends_it_at_once_with_the_upstreams_words(
    product: Product, script_id: str, status: int
) -> None:
    error = {
        "message": "No such model: scripted.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_gone",
    }
    told, events = await ended(product, {"status": status, "json": {"error": error}}, script_id=script_id)
    assert told["status"] == "failed"
    assert told["error"]["message"] == "No such model: scripted."
    assert told["error"]["code"] == "model_gone"
    assert events[-1].value["error"] == told["error"]
    assert (await product.calls(script_id))["started"] == 1


async def test_a_line_of_garbage_is_skipped(product: Product) -> None:
    garbage = [
        {"raw": "data: {not json\n\n"},
        {"raw": "data: 7\n\n"},
        {"raw": "nonsense\n\n"},
        {"raw_base64": "ZGF0YTog//4KCg=="},
    ]
    told, _ = await ended(product, *deltas("a"), *garbage, *deltas("b"), finish(), DONE)
    assert (told["status"], text_of(told)) == ("completed", "ab")


async def test_an_error_in_the_middle_is_the_end_and_what_was_said_is_kept(product: Product, script_id: str) -> None:
    error = {"message": "The model tripped.", "type": "server_error", "param": None, "code": "tripped"}
    told, events = await ended(
        product, *deltas("So ", "far"), {"raw": f"data: {json.dumps({'error': error})}\n\n"}, HANG, script_id=script_id
    )
    assert (told["status"], text_of(told), said(events)) == ("failed", "So far", "So far")
    assert told["error"]["message"] == "The model tripped."
    assert told["error"]["code"] == "tripped"
    await eventually(lambda: product.closed(script_id))


async def test_an_answer_that_breaks_off_is_incomplete_where_it_may_not_be_told_anew(product: Product) -> None:
    told, _ = await ended(product, *deltas("So ", "far"), {"eof": True}, tailrace=FAIL)
    assert (told["status"], told["error"]["code"], text_of(told)) == ("incomplete", "upstream_truncated", "So far")


async def test_a_connection_lost_in_the_middle_fails_where_it_may_not_be_told_anew(
    product: Product, script_id: str
) -> None:
    told, _ = await ended(product, *deltas("So ", "far"), {"reset": True}, tailrace=FAIL, script_id=script_id)
    assert (told["status"], told["error"]["code"], text_of(told)) == ("failed", "upstream_unreachable", "So far")
    assert (await product.calls(script_id))["started"] == 1


@pytest.mark.parametrize("step", [{"eof": True}, {"reset": True}])
async def test_what_breaks_off_is_told_anew_and_after_the_last_attempt_it_has_failed(
    product: Product, script_id: str, step: Step
) -> None:
    a_moment: Step = {"sleep": 0.2}  # what never reached the log need not be taken back
    told, events = await ended(product, *deltas("So ", "far"), a_moment, step, script_id=script_id)
    assert (told["status"], told["error"]["code"]) == ("failed", "attempts_exhausted")
    restarts = [event for event in events if event.kind == "restarted"]
    assert [event.value["attempt"] for event in restarts] == list(range(2, MAX_ATTEMPTS + 1))
    assert said(events) == text_of(told) == "So far"
    assert (await product.calls(script_id))["started"] == MAX_ATTEMPTS
    assert [event.seq for event in events] == sorted(event.seq for event in events)


async def test_a_connection_lost_before_anything_was_said_is_asked_again(product: Product, script_id: str) -> None:
    told, events = await ended(product, {"reset": True}, script_id=script_id)
    assert (told["status"], told["error"]["code"]) == ("failed", "upstream_unreachable")
    assert (await product.calls(script_id))["started"] == 3
    assert [event.kind for event in events] == ["created", "started", "done"]


# cancel, delete, time


async def test_cancelled_while_it_runs_it_lets_go_of_the_upstream_and_keeps_what_was_said(
    product: Product, script_id: str
) -> None:
    generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until_said("So far")
    began = time.monotonic()
    told = (await product.other.cancel(generation_id)).value
    assert (told["status"], text_of(told)) == ("cancelled", "So far")
    assert told["usage"]["estimated"]
    await stream.rest()
    assert time.monotonic() - began < 1
    assert stream.kinds.count("done") == 1
    assert stream.events[-1].value["status"] == "cancelled"
    await eventually(lambda: product.closed(script_id), 2)
    again = (await product.api.cancel(generation_id)).value
    assert again == told
    assert (await product.other.read(generation_id)).kinds.count("done") == 1


async def test_cancelled_while_words_pour_in_it_ends_once_and_the_log_stands_still(
    product: Product, script_id: str
) -> None:
    generation_id = await product.api.create_scripted({"tokens": {"count": 100_000, "rate": 2000}}, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until("text", 5)
    told = await asyncio.gather(*(api.cancel(generation_id) for api in (product.api, product.other) * 3))
    assert {answer.value["status"] for answer in told} == {"cancelled"}
    await stream.rest()
    assert stream.kinds.count("done") == 1
    assert stream.text == text_of(told[0].value)
    await eventually(lambda: product.closed(script_id), 2)
    assert (await product.other.read(generation_id)).text == stream.text


async def test_cancelled_after_its_end_it_is_as_it_was(product: Product) -> None:
    told, _ = await ended(product, *deltas("Hi"), finish(), DONE)
    again = await product.api.cancel(told["id"])
    assert (again.status, again.value) == (200, told)


async def test_cancelled_before_any_worker_had_it_it_is_never_asked_of_the_upstream(
    product: Product, script_id: str
) -> None:
    (worker,) = product.stack.workers
    await worker.stop()
    generation_id = await product.api.create_scripted(*deltas("Hi"), finish(), DONE, script_id=script_id)
    assert (await product.api.cancel(generation_id)).value["status"] == "cancelled"
    await worker.start()
    await ended(product, *deltas("Hi"), finish(), DONE)
    assert (await product.calls(script_id))["started"] == 0
    assert (await product.api.read(generation_id)).kinds == ["created", "done"]


async def test_deleted_while_it_runs_it_lets_go_of_the_upstream_and_is_gone(product: Product, script_id: str) -> None:
    generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
    stream = await product.api.stream(generation_id)
    await stream.until_said("So far")
    assert (await product.other.delete(generation_id)).status == 200
    await stream.rest()
    assert stream.kinds[-1] in ("done", "gone")
    await eventually(lambda: product.closed(script_id), 2)
    assert (await product.api.get(generation_id)).refusal == (410, "deleted")
    assert [key async for key in product.log.server.client.scan_iter(f"*{generation_id}*")] == [
        keys.tombstone(generation_id).encode()
    ]


async def test_silence_is_counted_by_content_and_comments_are_none(product: Product, script_id: str) -> None:
    pings: list[Step] = [{"comment": "ping"}, {"sleep": IDLE_S / 8}, {"chunk": {"choices": []}}]
    began = time.monotonic()
    told, _ = await ended(product, *deltas("So far"), *pings * 40, finish(), DONE, tailrace=FAIL, script_id=script_id)
    assert IDLE_S <= time.monotonic() - began < IDLE_S + 2
    assert (told["status"], told["error"]["code"], text_of(told)) == ("failed", "upstream_timeout", "So far")
    await eventually(lambda: product.closed(script_id))


async def test_a_slow_answer_is_no_silent_one(product: Product) -> None:
    pause: Step = {"sleep": IDLE_S * 0.6}
    slow = [*deltas("b"), pause, *deltas("c"), pause, *deltas("d")]
    told, _ = await ended(product, *deltas("a"), *slow, finish(), DONE, tailrace=FAIL)
    assert told["status"] == "completed"


async def test_at_its_deadline_it_ends_as_failed_with_what_was_said(product: Product, script_id: str) -> None:
    began = time.monotonic()
    talk = {"tokens": {"count": 1000, "rate": 20}}
    told, events = await ended(product, talk, tailrace={"deadline_s": 1}, script_id=script_id)
    assert 0.9 <= time.monotonic() - began < 3
    assert (told["status"], told["error"]["code"]) == ("failed", "deadline_exceeded")
    assert said(events).startswith("t0 t1 t2 ")
    await eventually(lambda: product.closed(script_id))


# readers that come and go


CUTS = 3
ANSWERS = 8


async def test_cut_three_times_and_resumed_on_the_other_node_an_answer_is_whole(product: Product) -> None:
    async def read(number: int) -> None:
        count = 90 + number
        generation_id = await product.api.create_scripted({"tokens": {"count": count, "rate": 60}}, finish(), DONE)
        events: list[Event] = []
        nodes = itertools.cycle((product.other, product.api))
        cursor = ""
        for cut in range(CUTS):
            stream = await next(nodes).stream(generation_id, cursor)
            await stream.until("text", 3 + cut + number % 3)
            stream.cut()
            cursor = stream.parser.last_id
            events += stream.events
        rest = await next(nodes).read(generation_id, cursor)
        events += rest.events
        text = "".join(f"t{n} " for n in range(count))
        assert said(events) == text
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


WORDS = f"Incorrect API key provided: {UPSTREAM_KEY}. Authorization: Bearer {UPSTREAM_KEY}"
ECHO = {"error": {"message": WORDS, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}}


@pytest.mark.parametrize(
    "steps",
    [
        [{"status": 401, "json": ECHO}],
        [{"status": 403, "json": ECHO}],
        [{"status": 500, "json": ECHO, "headers": {"Retry-After-Ms": "10"}}],
        [{"status": 400, "json": ECHO}],
        [{"status": 429, "json": ECHO, "headers": {"Retry-After-Ms": "10"}}],
        [*deltas("a"), {"raw": f"data: {json.dumps(ECHO)}\n\n"}],
    ],
    ids=["401", "403", "500", "400", "429", "in the stream"],
)
async def test_the_upstreams_key_is_told_to_nobody_though_the_upstream_repeats_it(
    product: Product, steps: list[Step]
) -> None:
    told, _ = await ended(product, *steps)
    assert told["status"] == "failed"
    assert UPSTREAM_KEY not in json.dumps({name: value for name, value in told.items() if name != "request"})
    assert UPSTREAM_KEY.encode() not in (await product.api.events(told["id"])).body


async def test_no_key_stands_in_a_log_of_ours_in_redis_or_in_any_answer(product: Product) -> None:
    anna, ticket_secret = "anna-key-1", "0123456789abcdef"
    node = await product.stack.add_frontend(api_keys=f"anna:{anna}", ticket_secret=ticket_secret)
    api = Api(product.http, node.url, anna)
    generation_id = await api.create_scripted(*deltas("Hi"), finish(), DONE)
    told = [json.dumps(await api.wait_for_result(generation_id)), json.dumps((await api.list()).value)]
    url = (await api.get(generation_id)).value["events_url"]
    ticket = url.partition("ticket=")[2]
    assert (await Api(product.http, node.url).request("GET", url)).status == 200
    answers = (
        await Api(product.http, node.url, anna[:-1]).get(generation_id),
        await Api(product.http, node.url).request("GET", url.replace("~", "~9")),
        await api.post({"model": 1, "messages": MESSAGES}),
        await api.request("GET", "/metrics"),
        await api.request("GET", "/readyz"),
        await api.events(generation_id),
    )
    told += [answer.body.decode() + str(answer.headers) for answer in answers]
    for process in (*product.stack.frontends, *product.stack.workers):
        told.append(process.output)
        assert "Traceback" not in process.output
        assert ticket not in process.output
    redis = product.log.server.client
    kept = b"".join([str(await redis.dump(key)).encode() async for key in redis.scan_iter(f"*{generation_id}*")])
    told.append(kept.decode())
    for key in (anna, ticket_secret, UPSTREAM_KEY):
        assert not any(key in each for each in told), key


async def test_a_log_that_its_server_lost_comes_back_though_the_upstream_is_silent(script_id: str) -> None:
    async with stack(workers=1, frontends=2, lease_s="1") as running, aiohttp.ClientSession() as http:
        product = Product(running, http)
        generation_id = await product.api.create_scripted(*deltas("So ", "far"), HANG, script_id=script_id)
        stream = await product.api.stream(generation_id)
        await stream.until_said("So far")
        await product.log.server.client.delete(*keys.of_generation(generation_id))
        await eventually(lambda: product.log.server.client.exists(keys.state(generation_id)))
        await product.other.cancel(generation_id)
        await stream.rest()
        assert (stream.text, stream.kinds[-1], stream.kinds.count("restarted")) == ("So far", "done", 0)
        assert (await product.other.read(generation_id)).text == "So far"
        await product.log.server.close()
