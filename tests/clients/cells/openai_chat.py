"""openai-python, Chat Completions: each call of the package, in each case."""

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import openai

from clients.cases import FAILURES
from clients.cells.answer import LEAVES_AFTER_S, LOST_AFTER_S, LOST_AT, Answer, Json, call
from clients.cells.openai_calls import Calls, chat_fields, error_text

ENDS = {"stop": "complete", "tool_calls": "complete", "length": "length"}
Ask = Callable[[Calls, str, str], Awaitable[Answer]]


async def create(calls: Calls, case: str, model: str) -> Answer:
    ask = partial(calls.call, calls.client.chat.completions.create)
    return await _whole(ask, case, chat_fields(case, model, parses=False))


async def parse(calls: Calls, case: str, model: str) -> Answer:
    ask = partial(calls.call, calls.client.chat.completions.parse)
    return await _whole(ask, case, chat_fields(case, model, parses=True))


async def with_raw_response(calls: Calls, case: str, model: str) -> Answer:
    async def ask(**fields: Any) -> Any:
        raw = await calls.call(calls.client.chat.completions.with_raw_response.create, **fields)
        completion = raw.parse()
        assert raw.headers["x-tailrace-generation"].removeprefix("gen_") == completion.id.removeprefix("chatcmpl-")
        assert raw.request_id.startswith("req_")
        return completion

    return await _whole(ask, case, chat_fields(case, model, parses=False))


async def create_stream(calls: Calls, case: str, model: str) -> Answer:
    fields = chat_fields(case, model, parses=False) | {"stream": True, "stream_options": {"include_usage": True}}
    stream = await calls.call(calls.client.chat.completions.create, **fields)
    if case == "resume":
        return await added_up(_read_on(calls, stream))
    answer = await added_up(calls.each(stream), leaves=case == "cancel")
    await calls.call(stream.close)
    return answer


async def stream(calls: Calls, case: str, model: str) -> Answer:
    fields = chat_fields(case, model, parses=True) | {"stream_options": {"include_usage": True}}
    async with calls.opened(calls.client.chat.completions.stream(**fields)) as helper:
        chunks = (event.chunk async for event in calls.each(helper) if event.type == "chunk")
        if case == "resume":
            return await added_up(_read_on(calls, chunks))
        seen = await added_up(chunks, leaves=case == "cancel")
        if case in ("cancel", *FAILURES):
            return seen
        answer = await _final(calls, helper)
    assert answer.text == seen.text
    return answer


async def _final(calls: Calls, helper: Any) -> Answer:
    """The answer of the completion that a helper has added up; for one that was cut, its error has the completion."""
    try:
        return from_completion(await calls.call(helper.get_final_completion))
    except openai.LengthFinishReasonError as cut:
        return from_completion(cut.completion)


async def _whole(ask: Callable[..., Awaitable[Any]], case: str, fields: Json) -> Answer:
    """The answer of a call without a stream. To cancel it, its client leaves."""
    try:
        if case == "cancel":
            await ask(**fields, timeout=LEAVES_AFTER_S)
        if case == "resume":
            return from_completion(await repeated(ask, fields))
        return from_completion(await ask(**fields))
    except openai.LengthFinishReasonError as cut:
        return from_completion(cut.completion)
    except openai.APITimeoutError as left:
        return Answer() if case == "cancel" else Answer(error=error_text(left))
    except openai.APIError as error:
        return Answer(error=error_text(error))


async def repeated(ask: Callable[..., Awaitable[Any]], fields: Json) -> Any:
    """The answer to the second of two equal requests; the first one's connection is lost in the middle."""
    fields = fields | {"extra_headers": {"Idempotency-Key": uuid.uuid4().hex}}
    try:
        await ask(**fields | {"timeout": LOST_AFTER_S})
    except openai.APITimeoutError:
        return await ask(**fields)
    raise AssertionError("the answer was complete before its connection was lost")


async def _read_on(calls: Calls, chunks: Any) -> AsyncIterator[Any]:
    """The chunks of a stream up to the middle, and the rest from the stored answer."""
    source = chunks if isinstance(chunks, AsyncGenerator) else calls.each(chunks)
    number, text = None, ""
    async for chunk in source:
        yield chunk
        text += "".join(each.delta.content or "" for each in chunk.choices)
        number = getattr(chunk, "sequence_number", None)
        if number is not None and LOST_AT in text:
            break
    if hasattr(chunks, "close"):
        await calls.call(chunks.close)
    kind = openai.AsyncStream if calls.is_async else openai.Stream
    rest = await calls.call(
        calls.client.get,
        f"/chat/completions/{chunk.id}",
        cast_to=openai.types.chat.ChatCompletionChunk,
        options={"params": {"stream": "true", "starting_after": number}},
        stream=True,
        stream_cls=kind[openai.types.chat.ChatCompletionChunk],
    )
    async for chunk in calls.each(rest):
        yield chunk


async def added_up(chunks: AsyncIterator[Any], *, leaves: bool = False) -> Answer:
    """The answer that chunks add up to. `leaves`: up to the first text."""
    answer = Answer()
    arguments: dict[int, list[str]] = {}
    try:
        async for chunk in chunks:
            if getattr(chunk, "usage", None):
                answer.usage = usage_of(chunk.usage)
            for choice in chunk.choices:
                _add(answer, arguments, choice)
            if leaves and answer.text:
                break
    except openai.APIError as error:
        answer.error = error_text(error)
    answer.calls = [call(*arguments[index]) for index in sorted(arguments)]
    answer.parsed = _decoded(answer.text)
    return answer


def _add(answer: Answer, arguments: dict[int, list[str]], choice: Any) -> None:
    delta = choice.delta
    answer.text += delta.content or ""
    answer.refusal += getattr(delta, "refusal", None) or ""
    answer.reasoning += getattr(delta, "reasoning_content", None) or ""
    answer.end = ENDS.get(choice.finish_reason, choice.finish_reason) if choice.finish_reason else answer.end
    for each in delta.tool_calls or []:
        known = arguments.setdefault(each.index, ["", "", ""])
        for place, piece in enumerate((each.id, each.function.name, each.function.arguments)):
            known[place] += piece or ""


def from_completion(completion: Any) -> Answer:
    """The answer of a completion object."""
    (choice,) = completion.choices
    message = choice.message
    parsed = getattr(message, "parsed", None)
    return Answer(
        text=message.content or "",
        end=ENDS.get(choice.finish_reason, choice.finish_reason),
        calls=[call(each.id, each.function.name, each.function.arguments) for each in message.tool_calls or []],
        parsed=parsed.model_dump() if parsed is not None else _decoded(message.content),
        refusal=getattr(message, "refusal", None) or "",
        reasoning=getattr(message, "reasoning_content", None) or "",
        usage=usage_of(completion.usage) if completion.usage else None,
    )


def usage_of(usage: Any) -> Json:
    cached, reasoning = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
        "total": usage.total_tokens,
        "cached": cached.cached_tokens if cached else 0,
        "reasoning": reasoning.reasoning_tokens if reasoning else 0,
    }


def _decoded(text: Any) -> Any:
    return json.loads(text) if text and text.startswith("{") else None


CHAT: dict[str, Ask] = {
    "create": create,
    "create(stream)": create_stream,
    "stream()": stream,
    "parse": parse,
    "with_raw_response": with_raw_response,
}
