"""The cells of langchain-openai: `ChatOpenAI` with both APIs.

It has no call that cancels, polls or reads on: its client leaves, and repeats the request with its `Idempotency-Key`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import openai
from langchain_openai import ChatOpenAI

from clients.cases import repeats
from clients.cells.answer import LEAVES_AFTER_S, LOST_AFTER_S, LOST_AT, PARAMETERS, QUESTION, TOOL_NAME, Answer, Json
from clients.cells.openai_calls import Weather, error_text
from clients.table import Client

TIMEOUT_S = 20.0
END = object()
TOOL: Json = {
    "type": "function",
    "function": {"name": TOOL_NAME, "description": "The weather.", "parameters": PARAMETERS},
}


async def ask(client: Client, base_url: str, case: str, model: str) -> Answer:
    """What a client of the table made of a case."""
    make = partial(_runnable, client, base_url, case, model)
    if case == "resume":
        return await _resumed(client, partial(make, default_headers={"Idempotency-Key": uuid.uuid4().hex}))
    if client.call != "invoke":
        return await _streamed(client, make(), "" if case == "cancel" else None)
    try:
        return await _invoked(make(timeout=LEAVES_AFTER_S if case == "cancel" else TIMEOUT_S))
    except openai.APITimeoutError as left:
        return Answer() if case == "cancel" else Answer(error=error_text(left))
    except openai.APIError as error:
        return Answer(error=error_text(error))
    except ValueError as error:  # of a Response that has failed
        return Answer(error=str(error))


def _runnable(client: Client, base_url: str, case: str, model: str, **how: Any) -> Any:
    how = {"timeout": TIMEOUT_S, "max_retries": repeats(case), "stream_usage": True} | how
    if client.api == "responses":
        how |= {"use_responses_api": True, "output_version": "responses/v1"}
        how |= {"reasoning": {"summary": "auto"}} if case == "reasoning" else {}
    chat: Any = ChatOpenAI(model=model, base_url=base_url, api_key="none", **how)
    if case == "tools":
        return chat.bind_tools([TOOL])
    return chat.with_structured_output(Weather) if case == "structured" else chat


async def _resumed(client: Client, make: Callable[..., Any]) -> Answer:
    """The answer to the second of two equal requests; the first one's connection is lost in the middle."""
    if client.call != "invoke":
        seen = await _streamed(client, make(), LOST_AT)
        answer = await _streamed(client, make())
        assert seen.text != answer.text
        assert answer.text.startswith(seen.text)
        return answer
    try:
        await _invoked(make(timeout=LOST_AFTER_S))
    except openai.APITimeoutError:
        return await _invoked(make())
    raise AssertionError("the answer was complete before its connection was lost")


async def _invoked(runnable: Any) -> Answer:
    return from_message(await asyncio.to_thread(runnable.invoke, QUESTION))


async def _streamed(client: Client, runnable: Any, left_at: str | None = None) -> Answer:
    """The answer that chunks add up to. `left_at`: up to the first chunk after which the text has that."""
    answer, message = Answer(), None
    is_async = client.call == "astream"
    chunks = runnable.astream(QUESTION) if is_async else runnable.stream(QUESTION)
    try:
        async for chunk in chunks if is_async else _each(chunks):
            message = _joined(message, chunk)
            answer = from_message(message)
            if left_at is not None and answer.text and left_at in answer.text:
                break
    except openai.APIError as error:
        answer.error = error_text(error)
    await (chunks.aclose() if is_async else asyncio.to_thread(chunks.close))
    return answer


async def _each(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    while (chunk := await asyncio.to_thread(next, chunks, END)) is not END:
        yield chunk


def _joined(message: Any, chunk: Any) -> Any:
    """Chunks of a message add up; a structured answer replaces the one before."""
    return chunk if message is None or isinstance(chunk, Weather) else message + chunk


def from_message(message: Any) -> Answer:
    """The answer of a message, or of a structured answer."""
    if isinstance(message, Weather):
        return Answer(parsed=message.model_dump())
    blocks = (
        [block for block in message.content if isinstance(block, dict)] if isinstance(message.content, list) else []
    )
    refusals = [message.additional_kwargs.get("refusal"), *(block.get("refusal") for block in blocks)]
    thoughts = [part for block in blocks if block["type"] == "reasoning" for part in block.get("summary", [])]
    return Answer(
        text=str(message.text),
        end=_end_of(message.response_metadata),
        calls=[{"id": each["id"], "name": each["name"], "arguments": each["args"]} for each in message.tool_calls],
        refusal="".join(each for each in refusals if each),
        reasoning="".join(part["text"] for part in thoughts),
        usage=_usage_of(message.usage_metadata) if message.usage_metadata else None,
    )


def _end_of(metadata: Json) -> str:
    details = metadata.get("incomplete_details") or {}
    end = metadata.get("finish_reason") or details.get("reason") or metadata.get("status") or ""
    names = {"stop": "complete", "completed": "complete", "max_output_tokens": "length"}
    return str(names.get(end, end))


def _usage_of(usage: Json) -> Json:
    return {
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
        "total": usage["total_tokens"],
        "cached": usage.get("input_token_details", {}).get("cache_read", 0),
        "reasoning": usage.get("output_token_details", {}).get("reasoning", 0),
    }
