"""The Responses API through the installed openai package: real processes, a scripted upstream, two frontends."""

import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from support.api import eventually
from support.stack import Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}}
END: list[Step] = [{"delta": {}, "finish_reason": "stop"}, {"usage": USAGE}, {"done": True}]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
RUN: Any = {"type": "custom", "name": "run", "format": {"type": "grammar", "syntax": "regex", "definition": ".*"}}


class Client:
    """The package at two frontends, and what their upstream was asked."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self._upstream = running.upstream.removesuffix("/v1")
        self._http = http
        self.here, self.there = (
            AsyncOpenAI(base_url=f"{frontend.url}/v1", api_key="sk-test", max_retries=0, timeout=20.0)
            for frontend in running.frontends
        )
        self.script_id = ""

    def answered_by(self, *steps: Step, end: Iterable[Step] = END) -> dict[str, Any]:
        """Arguments of a request that the upstream answers with these steps."""
        self.script_id = uuid.uuid4().hex
        body = {"script": [*steps, *end], "script_id": self.script_id}
        return {"model": "scripted", "input": "Hello?", "extra_body": body}

    async def calls(self) -> Any:
        """The upstream's record of the calls of the last script."""
        async with self._http.get(f"{self._upstream}/calls", params={"script_id": self.script_id}) as response:
            return await response.json()

    async def asked(self) -> Any:
        """What the upstream received."""
        return (await self.calls())["last_request"]

    async def close(self) -> None:
        await self.here.close()
        await self.there.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with (
        stack(workers=1, frontends=2, lease_s="1", upstream_retries="0") as running,
        aiohttp.ClientSession() as http,
    ):
        client = Client(running, http)
        yield client
        await client.close()


def texts(*pieces: str) -> list[Step]:
    return [{"delta": {"role": "assistant", "content": piece}} for piece in pieces]


def call(index: int, name: str, *arguments: str) -> list[Step]:
    first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": piece}} for piece in arguments]
    return [{"delta": {"tool_calls": [fragment]}} for fragment in (first, *rest)]


def custom_call(name: str, *pieces: str) -> list[Step]:
    first = {"index": 0, "id": "call_0", "type": "custom", "custom": {"name": name, "input": ""}}
    rest = [{"index": 0, "custom": {"input": piece}} for piece in pieces]
    return [{"delta": {"tool_calls": [fragment]}} for fragment in (first, *rest)]


async def all_of(stream: Any) -> list[ResponseStreamEvent]:
    return [event async for event in stream]


# create


async def test_create_returns_the_text_and_the_usage(client: Client) -> None:
    response = await client.here.responses.create(
        **client.answered_by(*texts("Blåbær\u2028", " 🜁")), instructions="Be.", max_output_tokens=9, temperature=0
    )
    assert (response.status, response.output_text) == ("completed", "Blåbær\u2028 🜁")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (3, 4, 7)
    assert response.usage.input_tokens_details.cached_tokens == 1
    assert response.completed_at is not None
    asked = await client.asked()
    messages = [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hello?"}]
    assert asked.items() >= {"messages": messages, "max_completion_tokens": 9, "temperature": 0}.items()
    assert not asked.keys() & {"input", "instructions", "max_output_tokens", "store", "metadata"}


async def test_create_with_raw_response_has_the_ids(client: Client) -> None:
    raw = await client.here.responses.with_raw_response.create(**client.answered_by(*texts("Hi")))
    response = raw.parse()
    assert raw.headers["x-tailrace-generation"] == response.id.replace("resp_", "gen_")
    assert response._request_id == raw.headers["x-request-id"]


async def test_create_streams_every_event_in_order(client: Client) -> None:
    stream = await client.here.responses.create(**client.answered_by(*texts("Hello", " there")), stream=True)
    events = await all_of(stream)
    assert [event.type for event in events if not event.type.endswith(".delta")] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_stream_helper_adds_the_answer_up(client: Client) -> None:
    async with client.here.responses.stream(**client.answered_by(*texts("Hello", " there"))) as stream:
        await all_of(stream)
        response = await stream.get_final_response()
    assert response.output_text == "Hello there"


class Weather(BaseModel):
    city: str
    degrees: int


async def test_parse_returns_the_structured_answer(client: Client) -> None:
    asked = client.answered_by(*texts('{"city":"Oslo",', '"degrees":-3}'))
    response = await client.here.responses.parse(**asked, text_format=Weather)
    assert response.output_parsed == Weather(city="Oslo", degrees=-3)
    form = (await client.asked())["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["name"] == "Weather"
    assert form["json_schema"]["strict"] is True


async def test_parallel_calls_are_answered_in_the_next_turn(client: Client) -> None:
    steps = [*call(0, "weather", '{"q":', "1}"), *call(1, "weather", '{"q":2}')]
    asked = client.answered_by(*steps, end=[{"delta": {}, "finish_reason": "tool_calls"}, {"done": True}])
    response = await client.here.responses.create(**asked, tools=[WEATHER], tool_choice="required")
    calls: Any = response.output
    assert [(each.type, each.call_id, each.arguments) for each in calls] == [
        ("function_call", "call_0", '{"q":1}'), ("function_call", "call_1", '{"q":2}'),
    ]  # fmt: skip
    outputs = [{"type": "function_call_output", "call_id": each.call_id, "output": "rain"} for each in calls]
    await client.there.responses.create(
        **client.answered_by(*texts("Rain.")) | {"input": outputs}, previous_response_id=response.id
    )
    user, assistant, *tools = (await client.asked())["messages"]
    assert user == {"role": "user", "content": "Hello?"}
    assert [each["function"]["arguments"] for each in assistant["tool_calls"]] == ['{"q":1}', '{"q":2}']
    assert [each["tool_call_id"] for each in tools] == ["call_0", "call_1"]


async def test_custom_call_streams_its_input(client: Client) -> None:
    asked = client.answered_by(*custom_call("run", "ls", " -l"), end=END)
    async with client.here.responses.stream(**asked, tools=[RUN]) as stream:
        events = await all_of(stream)
        response = await stream.get_final_response()
    deltas: Any = [event for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(event.delta for event in deltas) == "ls -l"
    item: Any = response.output[0]
    assert (item.type, item.name, item.input, item.call_id) == ("custom_tool_call", "run", "ls -l", "call_0")
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": ".*"}}
    assert (await client.asked())["tools"] == [{"type": "custom", "custom": {"name": "run", "format": grammar}}]


@pytest.mark.parametrize("summary", [None, "auto"])
async def test_reasoning_is_an_item_and_goes_on_within_the_turn(client: Client, summary: Any) -> None:
    thought = [{"delta": {"reasoning_content": piece}} for piece in ("Hm", "m.")]
    asked = client.answered_by(*thought, *call(0, "weather", "{}"))
    response = await client.here.responses.create(**asked, tools=[WEATHER], reasoning={"summary": summary})
    item: Any = response.output[0]
    assert item.type == "reasoning"
    assert (item.summary or item.content)[0].text == "Hmm."
    assert bool(item.summary) is bool(summary)
    answer = {"type": "function_call_output", "call_id": "call_0", "output": "rain"}
    await client.here.responses.create(
        **client.answered_by(*texts("Rain.")) | {"input": [answer]}, previous_response_id=response.id
    )
    assert (await client.asked())["messages"][1]["reasoning_content"] == "Hmm."


async def test_refusal_is_a_part(client: Client) -> None:
    steps = [{"delta": {"role": "assistant", "refusal": piece}} for piece in ("I can", "not.")]
    response = await client.here.responses.create(**client.answered_by(*steps))
    item: Any = response.output[0]
    assert (response.status, item.content[0].type, item.content[0].refusal) == ("completed", "refusal", "I cannot.")


@pytest.mark.parametrize(("reason", "details"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_answer_that_was_cut_is_incomplete(client: Client, reason: str, details: str) -> None:
    end: list[Step] = [{"delta": {}, "finish_reason": reason}, {"done": True}]
    response = await client.here.responses.create(**client.answered_by(*texts("Once"), end=end))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == details


async def test_logprobs_are_included_where_they_are_asked_for(client: Client) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": None}]}
    asked = client.answered_by({"chunk": chunk})
    response = await client.here.responses.create(**asked, include=["message.output_text.logprobs"], top_logprobs=0)
    item: Any = response.output[0]
    assert [each.token for each in item.content[0].logprobs] == ["Hi"]
    assert (await client.asked())["logprobs"] is True


# errors


async def test_parameter_that_cannot_be_carried_is_a_bad_request(client: Client) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.here.responses.create(model="demo", input="Hello?", truncation="auto")
    assert (refusal.value.code, refusal.value.param) == ("unsupported_parameter", "truncation")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (401, openai.InternalServerError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_status_of_the_upstream_is_a_true_status(client: Client, status: int, kind: Any, stream: bool) -> None:
    with pytest.raises(kind):
        await client.here.responses.create(**client.answered_by({"status": status}, end=[]), stream=stream)


async def test_failure_in_the_middle_is_an_error_of_the_stream(client: Client) -> None:
    broken = [{"chunk": {"error": {"message": "Out of luck.", "type": "server_error", "code": None}}}]
    asked = client.answered_by(*texts("Once"), end=broken)
    stream = await client.here.responses.create(**asked, stream=True)
    with pytest.raises(openai.APIError, match="Out of luck"):
        await all_of(stream)


async def test_unknown_ids_are_not_found(client: Client) -> None:
    unknown = "resp_" + "a" * 26
    responses = client.here.responses
    for answer in (
        responses.retrieve(unknown), responses.cancel(unknown), responses.delete(unknown),
        responses.input_items.list(unknown),
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{unknown}' not found"):
            await answer


# background


async def test_background_response_is_polled(client: Client) -> None:
    asked = client.answered_by({"sleep": 0.3}, *texts("Hello"))
    response = await client.here.responses.create(**asked, background=True)
    assert response.status in ("queued", "in_progress")

    async def ended() -> Any:
        found = await client.there.responses.retrieve(response.id)
        return found if found.status not in ("queued", "in_progress") else None

    assert (await eventually(ended)).output_text == "Hello"


async def test_background_stream_goes_on_after_its_client_has_left(client: Client) -> None:
    asked = client.answered_by(*texts("a", "b"), {"sleep": 0.5}, *texts("c", "d"))
    seen: list[Any] = []
    stream = await client.here.responses.create(**asked, background=True, stream=True)
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    response_id = seen[0].response.id
    rest = await client.there.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    seen += await all_of(rest)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == "abcd"
    assert seen[1].type == "response.queued"
    assert seen[-1].response.output_text == "abcd"
    assert (await client.calls())["started"] == 1


async def test_stream_helper_resumes_a_background_response(client: Client) -> None:
    asked = client.answered_by(*texts("Hello", " there"))
    response = await client.here.responses.create(**asked, background=True)
    async with client.there.responses.stream(response_id=response.id, starting_after=3) as stream:
        events = await all_of(stream)
        final = await stream.get_final_response()
    assert events[0].sequence_number == 4
    assert final.output_text == "Hello there"


async def test_cancel_ends_the_call_of_the_upstream(client: Client) -> None:
    asked = client.answered_by(*texts("Once"), end=[{"hang": True}])
    response = await client.here.responses.create(**asked, background=True)

    async def has_begun() -> bool:
        return (await client.there.responses.retrieve(response.id)).output_text == "Once"

    await eventually(has_begun)
    cancelled = await client.there.responses.cancel(response.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Once")
    assert (await client.here.responses.cancel(response.id)).status == "cancelled"

    async def is_closed() -> bool:
        return bool((await client.calls())["closed_by_client"] == 1)

    await eventually(is_closed)


# what is stored


async def test_items_of_the_input_are_listed(client: Client) -> None:
    response = await client.here.responses.create(**client.answered_by(*texts("Hi")) | {
        "input": [{"role": "user", "content": f"{number}"} for number in range(5)]
    })  # fmt: skip
    items: list[Any] = [item async for item in client.there.responses.input_items.list(response.id, limit=2)]
    assert [item.content[0].text for item in items] == ["4", "3", "2", "1", "0"]


async def test_input_tokens_are_counted(client: Client) -> None:
    counted = await client.here.responses.input_tokens.count(model="demo", input="Hello? " * 40)
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 70)


async def test_deleted_response_is_not_found(client: Client) -> None:
    response = await client.here.responses.create(**client.answered_by(*texts("Hi")))
    await client.there.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.here.responses.retrieve(response.id)


async def test_second_turn_refers_to_the_items_of_the_first(client: Client) -> None:
    first = await client.here.responses.create(**client.answered_by(*texts("Hi.")))
    asked = client.answered_by(*texts("Well."))
    asked["input"] = [
        {"role": "user", "content": "Hello?"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "How are you?"},
    ]
    await client.there.responses.create(**asked)
    assert [message["content"] for message in (await client.asked())["messages"]] == ["Hello?", "Hi.", "How are you?"]
