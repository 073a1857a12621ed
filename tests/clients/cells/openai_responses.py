"""openai-python, Responses: each call of the package, in each case.

What is cancelled or resumed is a background response.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import openai

from clients.cells.answer import LOST_AT, Answer, Json, call
from clients.cells.openai_calls import Calls, error_text, responses_fields

WAITS_S = 20.0
Ask = Callable[[Calls, str, str], Awaitable[Answer]]


async def create(calls: Calls, case: str, model: str) -> Answer:
    ask = partial(calls.call, calls.client.responses.create)
    return await _whole(calls, ask, case, responses_fields(case, model, parses=False))


async def parse(calls: Calls, case: str, model: str) -> Answer:
    ask = partial(calls.call, calls.client.responses.parse)
    return await _whole(calls, ask, case, responses_fields(case, model, parses=True))


async def with_raw_response(calls: Calls, case: str, model: str) -> Answer:
    async def ask(**fields: Any) -> Any:
        raw = await calls.call(calls.client.responses.with_raw_response.create, **fields)
        response = raw.parse()
        assert raw.headers["x-tailrace-generation"].removeprefix("gen_") == response.id.removeprefix("resp_")
        assert raw.request_id.startswith("req_")
        return response

    return await _whole(calls, ask, case, responses_fields(case, model, parses=False))


async def create_stream(calls: Calls, case: str, model: str) -> Answer:
    fields = responses_fields(case, model, parses=False)
    events = await calls.call(calls.client.responses.create, **fields, stream=True)
    if case == "resume":
        return await _resumed(calls, events, _retrieve)
    return await _added_up(calls, events, cancels=case == "cancel")


async def stream(calls: Calls, case: str, model: str) -> Answer:
    fields = responses_fields(case, model, parses=True)
    async with calls.opened(calls.client.responses.stream(**fields)) as helper:
        if case == "resume":
            return await _resumed(calls, helper, _stream_on)
        answer = await _added_up(calls, helper, cancels=case == "cancel")
        if answer.end == "complete":
            final = from_response(await calls.call(helper.get_final_response))
            assert final.text == answer.text
            return final
    return answer


async def _whole(calls: Calls, ask: Callable[..., Awaitable[Any]], case: str, fields: Json) -> Answer:
    """The answer of a call without a stream. A background response is polled."""
    responses = calls.client.responses
    try:
        response = await ask(**fields)
        if fields.get("background"):
            retrieve, cancel = partial(calls.call, responses.retrieve), partial(calls.call, responses.cancel)
            response = await followed(response.id, case, retrieve, cancel)
    except openai.APIError as error:
        return Answer(error=error_text(error))
    return from_response(response)


async def followed(
    response_id: str, case: str, retrieve: Callable[..., Awaitable[Any]], cancel: Callable[..., Awaitable[Any]]
) -> Any:
    """A background response at its end. In the case `cancel` it is cancelled once it has its text."""
    if case == "cancel":
        await _poll(retrieve, response_id, lambda found: found.output_text == "Once")
        return await cancel(response_id=response_id)
    return await _poll(retrieve, response_id, lambda found: found.status not in ("queued", "in_progress"))


async def _poll(retrieve: Callable[..., Awaitable[Any]], response_id: str, is_enough: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + WAITS_S
    while not is_enough(found := await retrieve(response_id=response_id)):
        assert time.monotonic() < deadline, found.status
        await asyncio.sleep(0.05)
    return found


async def _retrieve(calls: Calls, response_id: str, number: int) -> AsyncIterator[Any]:
    rest = await calls.call(calls.client.responses.retrieve, response_id, stream=True, starting_after=number)
    async for event in calls.each(rest):
        yield event


async def _stream_on(calls: Calls, response_id: str, number: int) -> AsyncIterator[Any]:
    manager = calls.client.responses.stream(response_id=response_id, starting_after=number)
    async with calls.opened(manager) as helper:
        async for event in calls.each(helper):
            yield event


async def _resumed(calls: Calls, events: Any, read_on: Callable[..., AsyncIterator[Any]]) -> Answer:
    """The answer of a stream that is left in the middle and read on; its numbers have no gap."""
    seen: list[Any] = []
    response_id = ""
    async for event in calls.each(events):
        seen.append(event)
        response_id = response_id or event.response.id
        if event.type == "response.output_text.delta" and LOST_AT in event.delta:
            break
    await calls.call(events.close)
    seen += [event async for event in read_on(calls, response_id, seen[-1].sequence_number)]
    assert [event.sequence_number for event in seen] == list(range(len(seen))), "the numbers have a gap"
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    answer = from_response(seen[-1].response)
    assert answer.text == text
    return answer


async def _added_up(calls: Calls, events: Any, *, cancels: bool = False) -> Answer:
    """The answer at the end of a stream; its deltas add up to the same text."""
    text, response_id = "", ""
    last: Any = None
    try:
        async for event in calls.each(events):
            last, delta = event, event.type == "response.output_text.delta"
            response_id = response_id or event.response.id
            text += event.delta if delta else ""
            if cancels and delta:
                await calls.call(calls.client.responses.cancel, response_id)
    except openai.APIError as error:
        return Answer(text=text, error=error_text(error))
    assert last is not None
    answer = from_response(last.response)
    assert answer.text == text
    return answer


def from_response(response: Any) -> Answer:
    """The answer of a Response."""
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    thoughts = [item for item in response.output if item.type == "reasoning"]
    parsed = getattr(response, "output_parsed", None)
    details = response.incomplete_details
    is_cut = details is not None and details.reason == "max_output_tokens"
    return Answer(
        text=response.output_text,
        end="length" if is_cut else {"completed": "complete"}.get(response.status, response.status),
        calls=[
            call(item.call_id, item.name, item.arguments) for item in response.output if item.type == "function_call"
        ],
        parsed=parsed.model_dump() if parsed is not None else _decoded(response.output_text),
        refusal="".join(part.refusal for part in parts if part.type == "refusal"),
        reasoning="".join(part.text for item in thoughts for part in item.summary),
        usage=_usage_of(response.usage) if response.usage else None,
        error=_message_of(response.error) if response.error else "",
    )


def _message_of(error: Any) -> str:
    """The message of an error; LiteLLM has it as a dict."""
    return str(error["message"] if isinstance(error, dict) else error.message)


def _usage_of(usage: Any) -> Json:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "total": usage.total_tokens,
        "cached": usage.input_tokens_details.cached_tokens,
        "reasoning": usage.output_tokens_details.reasoning_tokens,
    }


def _decoded(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else None


RESPONSES: dict[str, Ask] = {
    "create": create,
    "create(stream)": create_stream,
    "stream()": stream,
    "parse": parse,
    "with_raw_response": with_raw_response,
}
