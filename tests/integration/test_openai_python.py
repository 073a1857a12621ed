"""The installed openai-python against running processes: a frontend, a worker and a scripted upstream.

Each case is run with the sync and the async client.
"""

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from support.api import Api, eventually
from support.proxy import proxy
from support.stack import Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
DONE: Step = {"done": True}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
MESSAGES: Any = [{"role": "user", "content": "Hello?"}]
WORDS = ["Hello", ",", " wörld ", "\u2028", "💧", "\n"]
TOOLS: Any = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}]


def delta(choice: int = 0, finish_reason: str | None = None, **fields: Any) -> Step:
    return {"delta": fields, "choice": choice, "finish_reason": finish_reason}


def texts(*words: str, choice: int = 0) -> list[Step]:
    return [delta(choice, content=word) for word in words]


def call(index: int, arguments: str, **named: Any) -> Step:
    function = {"arguments": arguments} | ({"name": named.pop("name")} if "name" in named else {})
    return delta(tool_calls=[{"index": index, "function": function} | named])


STOP = delta(0, "stop")
PLAIN = [*texts(*WORDS), STOP, {"usage": USAGE}, DONE]


class Weather(BaseModel):
    city: str
    degrees: int


class Caller:
    """One of the two clients, behind one interface."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self.client: Any = client

    async def __call__(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if isinstance(self.client, AsyncOpenAI):
            result = method(*arguments, **named)
            return await result if inspect.isawaitable(result) else result
        return await asyncio.to_thread(method, *arguments, **named)

    async def create(self, *steps: Step, **fields: Any) -> Any:
        return await self(self.client.chat.completions.create, **asked(*steps, **fields))

    async def chunks(self, *steps: Step, **fields: Any) -> list[Any]:
        return await self.all_of(await self.create(*steps, stream=True, **fields))

    async def all_of(self, stream: Any) -> list[Any]:
        if isinstance(self.client, AsyncOpenAI):
            return [each async for each in stream]
        return await asyncio.to_thread(list, stream)

    async def accumulated(self, *steps: Step, **fields: Any) -> Any:
        """The completion that the package's `stream()` adds up."""
        manager = self.client.chat.completions.stream(**asked(*steps, **fields))
        if isinstance(self.client, AsyncOpenAI):
            async with manager as stream:
                return await stream.get_final_completion()

        def add_up() -> Any:
            with manager as stream:
                return stream.get_final_completion()

        return await asyncio.to_thread(add_up)


def asked(*steps: Step, script_id: str = "", **fields: Any) -> dict[str, Any]:
    extra = {"script": list(steps), "script_id": script_id}
    return {"model": "scripted", "messages": MESSAGES, "extra_body": extra} | fields


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stack]:
    async with stack(workers=1, frontends=2, lease_s="1", upstream_retries="2", models="scripted,org/a:b") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sync", "async"])
async def caller(request: pytest.FixtureRequest, running: Stack) -> AsyncIterator[Caller]:
    how: Any = {"base_url": f"{running.url}/v1", "api_key": "none", "max_retries": 2}
    if request.param == "sync":
        with OpenAI(**how) as client:
            yield Caller(client)
    else:
        async with AsyncOpenAI(**how) as client:
            yield Caller(client)


@pytest.fixture
def script_id() -> str:
    return uuid.uuid4().hex


async def calls(running: Stack, script_id: str) -> Any:
    """The upstream's record of the calls under that id."""
    url = f"{running.upstream.removesuffix('/v1')}/calls"
    async with aiohttp.ClientSession() as http, http.get(url, params={"script_id": script_id}) as response:
        return await response.json()


# text, tools, structured output


async def test_create_returns_the_text_and_the_usage(caller: Caller) -> None:
    completion = await caller.create(*PLAIN)
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("".join(WORDS), "stop")
    assert completion.usage.total_tokens == 7
    assert completion.id.startswith("chatcmpl-")
    assert completion._request_id.startswith("req_")


async def test_create_streams_the_text_and_the_usage_if_it_is_asked_for(caller: Caller) -> None:
    chunks = await caller.chunks(*PLAIN)
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "".join(WORDS)
    assert all(each.usage is None for each in chunks)
    *_, last = await caller.chunks(*PLAIN, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens) == ([], 7)


async def test_stream_adds_up_to_the_same_completion(caller: Caller) -> None:
    completion = await caller.accumulated(*PLAIN)
    assert completion.choices[0].message.content == "".join(WORDS)
    assert completion.choices[0].message.role == "assistant"


async def test_raw_response_has_the_headers(caller: Caller, running: Stack) -> None:
    raw = await caller(caller.client.chat.completions.with_raw_response.create, **asked(*PLAIN))
    parsed = raw.parse()
    generation_id = raw.headers["x-tailrace-generation"]
    assert parsed.id == "chatcmpl-" + generation_id.removeprefix("gen_")
    assert raw.request_id.startswith("req_")
    async with aiohttp.ClientSession() as http:
        assert (await Api(http, running.url).get(generation_id)).value["status"] == "completed"


async def test_parallel_calls_each_have_their_arguments(caller: Caller) -> None:
    steps = [
        call(0, "", name="search", id="call_a", type="function"), call(0, '{"q":'), call(0, '"x"}'),
        call(1, "", name="search", id="call_b", type="function"), call(1, "{}"), delta(0, "tool_calls"), DONE,
    ]  # fmt: skip
    for completion in (await caller.create(*steps, tools=TOOLS), await caller.accumulated(*steps, tools=TOOLS)):
        (choice,) = completion.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert [(each.id, each.function.name, each.function.arguments) for each in choice.message.tool_calls] == [
            ("call_a", "search", '{"q":"x"}'), ("call_b", "search", "{}"),
        ]  # fmt: skip


async def test_parse_returns_the_structured_answer(caller: Caller) -> None:
    steps = [*texts('{"city":', '"Bern","degrees":7}'), STOP, DONE]
    completion = await caller(caller.client.chat.completions.parse, **asked(*steps), response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(city="Bern", degrees=7)


async def test_choices_logprobs_and_fingerprint_are_kept(caller: Caller) -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    first = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "logprobs": {"content": [token]}}
    steps = [
        {"chunk": {"choices": [first], "system_fingerprint": "fp_1"}}, *texts("x", "y", choice=1), STOP,
        delta(1, "length"), DONE,
    ]  # fmt: skip
    completion = await caller.create(*steps, n=2, logprobs=True)
    assert [(each.index, each.message.content, each.finish_reason) for each in completion.choices] == [
        (0, "a", "stop"), (1, "xy", "length"),
    ]  # fmt: skip
    assert completion.choices[0].logprobs.content[0].token == "a"
    assert completion.choices[1].logprobs is None
    assert completion.system_fingerprint == "fp_1"


async def test_refusal_is_no_content(caller: Caller) -> None:
    completion = await caller.create(delta(refusal="I"), delta(refusal=" won't."), STOP, DONE)
    assert (completion.choices[0].message.refusal, completion.choices[0].message.content) == ("I won't.", None)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_reasoning_has_the_upstreams_name(caller: Caller, key: str) -> None:
    thoughts: list[Step] = [{"delta": {key: text}} for text in ("Let", " me see.")]
    steps = [*thoughts, *texts("Yes."), STOP, DONE]
    completion = await caller.create(*steps)
    assert completion.choices[0].message.to_dict()[key] == "Let me see."
    assert completion.choices[0].message.content == "Yes."


# failures


async def test_rejection_by_the_upstream_is_raised_as_it_is(caller: Caller, running: Stack, script_id: str) -> None:
    error = {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "too_long"}
    steps = [{"status": 400, "json": {"error": error}}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await caller.create(*steps, stream=stream, script_id=script_id)
        assert raised.value.body == error
    assert (await calls(running, script_id))["started"] == 2


async def test_rate_limit_of_the_upstream_is_repeated_by_the_sdk_and_not_by_the_worker(
    caller: Caller, running: Stack, script_id: str
) -> None:
    steps = [{"statuses": [429, 429], "headers": {"Retry-After": "1"}}, *texts("Hi"), STOP, DONE]
    for stream in (False, True):
        name = f"{script_id} {stream}"
        answer = await caller.create(*steps, stream=stream, script_id=name)
        if stream:
            chunks = await caller.all_of(answer)
            assert "".join(each.choices[0].delta.content or "" for each in chunks) == "Hi"
        else:
            assert answer.choices[0].message.content == "Hi"
        assert (await calls(running, name))["started"] == 3


async def test_rate_limit_that_persists_is_raised_at_once_for_each_attempt(caller: Caller, script_id: str) -> None:
    steps = [{"statuses": [429] * 9, "headers": {"Retry-After": "1"}}]
    with pytest.raises(openai.RateLimitError) as raised:
        await caller.create(*steps, script_id=script_id)
    assert raised.value.response.headers["retry-after"] == "1"


async def test_error_of_the_upstream_is_retried_by_the_worker_and_raised_once(
    caller: Caller, running: Stack, script_id: str
) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        await caller.create({"status": 500}, script_id=script_id)
    assert raised.value.status_code == 502
    assert (await calls(running, script_id))["started"] == 3  # the worker's own retries


async def test_failure_in_the_middle_is_raised_after_the_text(caller: Caller) -> None:
    steps = [*texts("So ", "far"), {"raw": 'data: {"error":{"message":"Tripped.","code":"tripped"}}\n\n'}]
    seen: list[str] = []

    async def read() -> None:
        stream = await caller.create(*steps, stream=True)
        iterator = aiter(stream) if isinstance(caller.client, AsyncOpenAI) else iter(stream)
        while True:
            each = await anext(iterator) if hasattr(iterator, "__anext__") else await asyncio.to_thread(next, iterator)
            seen.append(each.choices[0].delta.content or "")

    with pytest.raises(openai.APIError, match="Tripped"):
        await read()
    assert "".join(seen) == "So far"
    with pytest.raises(openai.APIStatusError, match="Tripped"):
        await caller.create(*steps)


async def test_invalid_request_is_raised_with_its_parameter(caller: Caller) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await caller.create(*PLAIN, temperature="hot")
    assert (raised.value.code, raised.value.param) == ("invalid_value", "temperature")
    with pytest.raises(openai.NotFoundError) as missing:
        await caller(caller.client.chat.completions.create, model="unknown", messages=MESSAGES)
    assert missing.value.code == "model_not_found"


# stored answers, models


async def test_answer_is_retrieved_and_deleted(caller: Caller) -> None:
    completion = await caller.create(*PLAIN)
    again = await caller(caller.client.chat.completions.retrieve, completion.id)
    assert again.to_dict() == completion.to_dict()
    deleted = await caller(caller.client.chat.completions.delete, completion.id)
    assert (deleted.id, deleted.deleted) == (completion.id, True)
    with pytest.raises(openai.NotFoundError, match="not found"):
        await caller(caller.client.chat.completions.retrieve, completion.id)


async def test_models_are_listed_and_retrieved(caller: Caller) -> None:
    models = await caller(caller.client.models.list)
    assert [each.id for each in models.data] == ["scripted", "org/a:b"]
    assert (await caller(caller.client.models.retrieve, "org/a:b")).id == "org/a:b"
    with pytest.raises(openai.NotFoundError):
        await caller(caller.client.models.retrieve, "unknown")


# repetitions and clients that leave


async def test_requests_whose_replies_are_cut_cost_one_call_of_the_upstream_each(
    running: Stack, script_id: str
) -> None:
    """The first connection of each client is cut once the upstream was called, the second one before the request."""
    steps = [{"sleep": 2.0}, *texts("Hi"), STOP, DONE]

    async def ask(number: int) -> None:
        name = f"{script_id} {number}"

        async def is_called() -> bool:
            return bool((await calls(running, name))["started"])

        async with (
            proxy(running.frontends[number % 2].port) as through,
            AsyncOpenAI(base_url=f"{through.url}/v1", api_key="none", max_retries=2) as client,
        ):
            request = asyncio.create_task(client.chat.completions.create(**asked(*steps, script_id=name)))
            await eventually(is_called)
            through.set_mode("cut")
            await through.wait_for_refusals(1)
            through.set_mode("pass")
            assert (await request).choices[0].message.content == "Hi"
        assert (await calls(running, name))["started"] == 1

    await asyncio.gather(*(ask(number) for number in range(10)))


async def test_generation_goes_on_without_its_client_where_that_asked_for_it(running: Stack, script_id: str) -> None:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        steps = [*texts("Hi"), {"sleep": 3}, STOP, DONE]
        headers = {"x-tailrace-on-disconnect": "continue"}
        raw = await client.chat.completions.with_raw_response.create(
            **asked(*steps, script_id=script_id), stream=True, extra_headers=headers
        )
        generation_id = raw.headers["x-tailrace-generation"]
        await raw.http_response.aclose()
    async with aiohttp.ClientSession() as http:
        result = await Api(http, running.url).wait_for_result(generation_id)
    assert (result["status"], (await calls(running, script_id))["closed_by_client"]) == ("completed", 0)


async def test_stream_that_was_lost_is_read_on_with_the_sdk(caller: Caller, running: Stack) -> None:
    chunks = await caller.chunks({"tokens": {"count": 30}}, STOP, DONE)
    completion_id, middle = chunks[0].id, chunks[len(chunks) // 2]
    query = {"stream": "true", "starting_after": str(middle.sequence_number)}
    stream_cls = openai.AsyncStream if isinstance(caller.client, AsyncOpenAI) else openai.Stream
    rest = await caller.all_of(
        await caller(
            caller.client.get, f"/chat/completions/{completion_id}", cast_to=object,
            options={"params": query}, stream=True, stream_cls=stream_cls[object],
        )
    )  # fmt: skip
    text = [each.choices[0].delta.content or "" for each in chunks[: len(chunks) // 2 + 1]]
    text += [each["choices"][0]["delta"].get("content", "") for each in rest]
    assert "".join(text) == "".join(f"t{n} " for n in range(30))
