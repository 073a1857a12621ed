"""The cells of langchain-openai: `ChatOpenAI` with both APIs. To cancel an answer, its client leaves."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from langchain_openai import ChatOpenAI

from clients.cells.answer import LEAVES_AFTER_S, PARAMETERS, QUESTION, TOOL_NAME, Answer, Json
from clients.cells.openai_calls import Weather, error_text
from clients.table import Client

TOOL: Json = {
    "type": "function",
    "function": {"name": TOOL_NAME, "description": "The weather.", "parameters": PARAMETERS},
}


async def ask(client: Client, base_url: str, case: str, model: str) -> Answer:
    """What a client of the table made of a case."""
    runnable = _runnable(client, base_url, case, model)
    try:
        if client.call == "invoke":
            return from_message(await asyncio.to_thread(runnable.invoke, QUESTION))
    except openai.APITimeoutError as left:
        return Answer() if case == "cancel" else Answer(error=error_text(left))
    except openai.APIError as error:
        return Answer(error=error_text(error))
    if client.call == "stream":
        return await asyncio.to_thread(_streamed, runnable.stream(QUESTION), case)
    return await _streamed_async(runnable.astream(QUESTION), case)


def _runnable(client: Client, base_url: str, case: str, model: str) -> Any:
    is_left = case == "cancel" and client.call == "invoke"
    how: Json = {"timeout": LEAVES_AFTER_S if is_left else 20.0, "max_retries": 0, "stream_usage": True}
    if client.api == "responses":
        how |= {"use_responses_api": True, "output_version": "responses/v1"}
        how |= {"reasoning": {"summary": "auto"}} if case == "reasoning" else {}
    chat: Any = ChatOpenAI(model=model, base_url=base_url, api_key="none", **how)
    if case == "tools":
        return chat.bind_tools([TOOL])
    return chat.with_structured_output(Weather) if case == "structured" else chat


def _streamed(chunks: Iterator[Any], case: str) -> Answer:
    answer, message = Answer(), None
    try:
        for chunk in chunks:
            message = _joined(message, chunk)
            answer = from_message(message)
            if case == "cancel" and answer.text:
                break
    except openai.APIError as error:
        answer.error = error_text(error)
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    return answer


async def _streamed_async(chunks: AsyncIterator[Any], case: str) -> Answer:
    answer, message = Answer(), None
    try:
        async for chunk in chunks:
            message = _joined(message, chunk)
            answer = from_message(message)
            if case == "cancel" and answer.text:
                break
    except openai.APIError as error:
        answer.error = error_text(error)
    await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator
    return answer


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
