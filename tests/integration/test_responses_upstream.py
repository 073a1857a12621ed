"""A Responses upstream behind real processes, read by every kind of client: the installed openai package and HTTP."""

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from itertools import groupby
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from support.api import Api, eventually
from support.responses_fold import comparable, end_of, lacks
from support.responses_streams import ENCRYPTED, EXACT, STREAMS, Json
from support.stack import Stack, stack
from support.ui_message_reader import UiMessageReader

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = (
    "text", "two_parts", "text_then_refusal", "encrypted_summary", "calls", "custom_call", "annotations", "logprobs",
    "web_search", "hosted_tools", "phases", "unknown_fields",
)  # fmt: skip
SEARCH: Json = {"type": "web_search", "search_context_size": "low"}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Client:
    """Clients of one frontend, and what their upstream was asked."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.upstream = running.upstream
        self.http = http
        self.api = Api(http, running.url)
        self.sdk = AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-test", max_retries=0, timeout=20.0)
        self.script_id = ""

    def script(self, *steps: Json) -> Json:
        """Fields of a request that the upstream answers with these steps."""
        self.script_id = uuid.uuid4().hex
        return {"script": list(steps), "script_id": self.script_id}

    def answered_by(self, events: Iterable[Json], **fields: Any) -> dict[str, Any]:
        """Arguments of a request that the upstream answers with these events."""
        return {"model": "scripted", "input": "Hello?", "extra_body": self.script({"events": list(events)})} | fields

    async def calls(self) -> Any:
        url = f"{self.upstream.removesuffix('/v1')}/calls"
        async with self.http.get(url, params={"script_id": self.script_id}) as response:
            return await response.json()

    async def asked(self) -> Any:
        """What the upstream received, without its script."""
        request = (await self.calls())["last_request"]
        return {name: value for name, value in request.items() if not name.startswith("script")}

    async def upstream_status(self, response_id: str) -> Any:
        async with self.http.get(f"{self.upstream}/responses/{response_id}") as response:
            return (await response.json()).get("status")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async for each in _client():
        yield each


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def background() -> AsyncIterator[Client]:
    """The same where the upstream keeps answers."""
    async for each in _client(upstream_background="true"):
        yield each


async def _client(**settings: str) -> AsyncGenerator[Client]:
    given: Any = {"upstream_dialect": "responses", "lease_s": "1", "upstream_retries": "1", **settings}
    async with stack(workers=1, frontends=1, **given) as running, aiohttp.ClientSession() as http:
        client = Client(running, http)
        yield client
        await client.sdk.close()


# ── Responses ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SHOWN)
async def test_sdk_streams_what_the_upstream_sends(client: Client, name: str) -> None:
    include: Any = ["message.output_text.logprobs"]
    async with client.sdk.responses.stream(**client.answered_by(EXACT[name]), include=include) as stream:
        events = [event.to_dict(warnings=False) async for event in stream]
        final = await stream.get_final_response()
    sent = end_of(EXACT[name])
    assert sent is not None
    assert types_of(events) == types_of(EXACT[name])
    assert lacks(comparable(final.to_dict(warnings=False)["output"]), comparable(sent["output"])) == []
    assert (await client.asked())["include"] == include


async def test_whole_response_is_that_of_the_stream(client: Client) -> None:
    created = await client.sdk.responses.create(**client.answered_by(EXACT["hosted_tools"]))
    stored = await client.sdk.responses.retrieve(created.id)
    sent = end_of(EXACT["hosted_tools"])
    assert sent is not None
    assert lacks(comparable(created.to_dict()["output"]), comparable(sent["output"])) == []
    assert stored.to_dict() == created.to_dict()
    assert stored.to_dict()["prompt_cache_retention"] == "24h"


async def test_request_goes_out_as_it_was_sent(client: Client) -> None:
    given: Any = {
        "instructions": "Be brief.",
        "tools": [SEARCH, {"type": "function", "name": "f", "parameters": {}, "strict": True}],
        "reasoning": {"effort": "low", "summary": "auto"},
        "truncation": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "metadata": {"a": "b"},
        "max_tool_calls": 3,
    }
    await client.sdk.responses.create(**client.answered_by(EXACT["text"]), **given)
    asked = await client.asked()
    assert asked == {**given, "model": "scripted", "input": "Hello?", "stream": True, "store": False}


async def test_conversation_has_encrypted_reasoning_under_its_own_id(client: Client) -> None:
    first = await client.sdk.responses.create(**client.answered_by(EXACT["encrypted_summary"]))
    again = client.answered_by(EXACT["text"], input="And ten?", previous_response_id=first.id)
    await client.sdk.responses.create(**again)
    reasoning, message, question = (await client.asked())["input"][1:]
    assert (reasoning["id"], reasoning["encrypted_content"]) == ("rs_68af00", ENCRYPTED)
    assert [part["text"] for part in reasoning["summary"]] == ["Hm.", "So."]
    assert ("id" in message, message["content"][0]["text"]) == (False, "Nine.")
    assert question["content"] == "And ten?" or question["content"][0]["text"] == "And ten?"


async def test_reference_to_encrypted_reasoning_is_resolved(client: Client) -> None:
    first = await client.sdk.responses.create(**client.answered_by(EXACT["encrypted"]))
    reference: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "And ten?"}]
    await client.sdk.responses.create(**client.answered_by(EXACT["text"], input=reference))
    asked = (await client.asked())["input"][0]
    assert (asked["id"], asked["encrypted_content"]) == ("rs_68af00", ENCRYPTED)


@pytest.mark.parametrize("name", ["failed", "error_object"])
async def test_error_of_the_upstream_ends_the_stream(client: Client, name: str) -> None:
    events = await client.sdk.responses.create(**client.answered_by(STREAMS[name]), stream=True)
    types: list[str] = []
    with pytest.raises(openai.APIError, match="The server had an error"):
        await read_types(events, types)
    assert "response.output_text.delta" in types


async def read_types(events: AsyncIterator[Any], types: list[str]) -> None:
    """Add the types of the events to the list, as far as they come."""
    async for event in events:
        types += [event.type]


# ── other clients ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_chat_client_gets_reasoning_text_and_calls(client: Client) -> None:
    extra = client.script({"events": EXACT["summary"]})
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Nine or eight?"}]
    answer = await client.sdk.chat.completions.create(
        model="scripted", messages=messages, tools=[WEATHER], max_completion_tokens=50, reasoning_effort="low",
        extra_body=extra,
    )  # fmt: skip
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == ("Nine.", "stop")
    assert message.to_dict()["reasoning_content"] == "**Looking** at it\n\n**Deciding**"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 12
    asked = await client.asked()
    assert asked == {
        "model": "scripted",
        "input": [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Nine or eight?"}]},
        ],
        "tools": [{"type": "function", **WEATHER["function"], "strict": False}],
        "max_output_tokens": 50,
        "reasoning": {"effort": "low"},
        "stream": True,
        "store": False,
    }


async def test_chat_stream_has_the_calls(client: Client) -> None:
    extra = client.script({"events": EXACT["calls"]})
    messages: Any = [{"role": "user", "content": "Look."}]
    stream = await client.sdk.chat.completions.create(
        model="scripted", messages=messages, stream=True, extra_body=extra
    )
    calls: dict[int, Json] = {}
    async for chunk in stream:
        for fragment in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += fragment.id or ""
            assert fragment.function is not None
            call["name"] += fragment.function.name or ""
            call["arguments"] += fragment.function.arguments or ""
    assert list(calls.values()) == [
        {"id": "call_1", "name": "look", "arguments": '{"q":1}'},
        {"id": "call_2", "name": "open", "arguments": '{"u":"/"}'},
    ]


async def test_several_answers_are_refused(client: Client) -> None:
    messages: Any = [{"role": "user", "content": "Hello?"}]
    with pytest.raises(Exception, match="a Responses upstream gives one answer"):
        await client.sdk.chat.completions.create(model="scripted", messages=messages, n=2)


async def test_native_log_has_every_item(client: Client) -> None:
    generation_id = await client.api.create(model="scripted", **client.script({"events": EXACT["web_search"]}))
    done = await client.api.request("GET", f"/v1/generations/{generation_id}?wait=10")
    other, text = done.value["output"]
    assert (other["type"], other["ref"], other["fields"]["action"]["query"]) == ("other", "ws_68af00", "fjords")
    assert (text["text"], text["annotations"][0]["url_citation"]["url"]) == ("Found it.", "https://example.org/1")


async def test_page_of_the_ai_sdk_gets_the_parts(client: Client) -> None:
    parts = [{"type": "text", "text": "Hello?"}]
    body = {"id": uuid.uuid4().hex, "model": "scripted", "messages": [{"id": "m", "role": "user", "parts": parts}]}
    response = await client.api.request("POST", "/api/chat", json=body | client.script({"events": EXACT["summary"]}))
    shown = UiMessageReader.of(response.body)
    assert [(part["type"], part.get("text")) for part in shown.parts] == [
        ("step-start", None), ("reasoning", "**Looking** at it"), ("reasoning", "**Deciding**"), ("text", "Nine."),
    ]  # fmt: skip


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_that_is_lost_before_content_is_tried_again(client: Client) -> None:
    steps: list[Json] = [{"statuses": [503]}, {"events": EXACT["text"]}]
    answer = await client.sdk.responses.create(
        model="scripted", input="Hello?", extra_body=client.script(*steps), background=False
    )
    assert answer.output_text == "It rains in Bergen today."
    assert (await client.calls())["started"] == 2


def types_of(events: Iterable[Json]) -> list[str]:
    """The types, adjacent deltas as one: a worker joins them while Redis is busy."""
    return [kind for kind, run in groupby(each["type"] for each in events) for _ in ([1] if "delta" in kind else run)]


def unique(events: list[Json]) -> tuple[str, list[Json]]:
    """The events under an upstream's id of their own."""
    response_id = f"resp_{uuid.uuid4().hex}"
    return response_id, [
        {**each, "response": {**each["response"], "id": response_id}} if "response" in each else each for each in events
    ]


@pytest.mark.parametrize("cut", ["reset", "eof"])
@pytest.mark.parametrize("name", ["text", "encrypted_summary", "hosted_tools"])
async def test_lost_connection_is_taken_up_without_a_second_call(background: Client, name: str, cut: str) -> None:
    response_id, events = unique(EXACT[name])
    steps: list[Json] = []
    for at in range(0, len(events), 3):  # again and again
        steps += [{"events": events[at : at + 3]}, {cut: True}, {"sleep": 0.05}]
    request: Any = {"model": "scripted", "input": "Hello?", "extra_body": background.script(*steps)}
    async with background.sdk.responses.stream(**request) as stream:
        shown: list[Any] = [event.to_dict(warnings=False) async for event in stream]
    assert types_of(shown) == types_of(events)
    sent = end_of(events)
    assert sent is not None
    assert lacks(comparable(shown[-1]["response"]["output"]), comparable(sent["output"])) == []
    calls = await background.calls()
    assert (calls["started"], calls["last_request"]["background"], calls["last_request"]["store"]) == (1, True, True)

    async def has_ended() -> bool:
        return bool(await background.upstream_status(response_id) == "completed")

    await eventually(has_ended)


@pytest.mark.parametrize("leaving", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "handed over"])
async def test_answer_of_a_lost_worker_is_taken_up_without_a_second_call(leaving: signal.Signals) -> None:
    response_id, events = unique(EXACT["text"])
    async with aclosing(_client(upstream_background="true", drain_s="0.2")) as clients:
        client = await anext(clients)
        steps: list[Json] = [{"events": events[:8]}, {"sleep": 2}, {"events": events[8:]}]
        generation_id = await client.api.create(model="scripted", **client.script(*steps))
        log = await client.api.stream(generation_id)
        await log.until("text")
        await client.running.workers[0].stop(leaving)
        await client.running.add_worker()
        await log.rest()
        ended = await client.api.wait_for_result(generation_id)
        assert (ended["status"], log.kinds.count("restarted")) == ("completed", 1)
        text = "".join(each["text"] for each in ended["output"])
        assert text == "".join(each["delta"] for each in events if each["type"].endswith("output_text.delta"))
        assert (await client.calls())["started"] == 1
        assert await client.upstream_status(response_id) == "completed"


async def test_cancel_ends_the_answer_at_the_upstream(background: Client) -> None:
    response_id, events = unique(EXACT["text"])
    steps: list[Json] = [{"events": events[:6]}, {"hang": True}]
    created = await background.sdk.responses.create(
        model="scripted", input="Hello?", background=True, extra_body=background.script(*steps)
    )

    async def has_begun() -> bool:
        return bool(await background.upstream_status(response_id) == "in_progress")

    await eventually(has_begun)
    await asyncio.sleep(0.2)
    await background.sdk.responses.cancel(created.id)

    async def has_ended() -> bool:
        return bool(await background.upstream_status(response_id) == "cancelled")

    await eventually(has_ended)


async def test_answer_that_is_not_to_be_stored_is_not_kept_at_the_upstream(background: Client) -> None:
    await background.sdk.responses.create(**background.answered_by(EXACT["text"], store=False))
    asked = await background.asked()
    assert ("background" in asked, asked["store"]) == (False, False)
