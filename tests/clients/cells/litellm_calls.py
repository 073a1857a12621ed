"""The cells of LiteLLM's client. To cancel an answer, its client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import litellm

from clients.cells.answer import LEAVES_AFTER_S, PARAMETERS, QUESTION, SCHEMA, TOOL_NAME, Answer, Json
from clients.cells.openai_chat import added_up, from_completion
from clients.cells.openai_responses import from_response
from clients.table import Client

litellm.suppress_debug_info = True
CHAT_TOOL: Json = {"type": "function", "function": {"name": TOOL_NAME, "parameters": PARAMETERS}}
TOOL: Json = {"type": "function", "name": TOOL_NAME, "parameters": PARAMETERS}
FORM: Json = {"name": "Weather", "schema": SCHEMA, "strict": True}
END = object()


async def ask(client: Client, base_url: str, case: str, model: str) -> Answer:
    """What a client of the table made of a case."""
    name = client.call.removesuffix("(stream)")
    fields = _fields(client, case) | {"model": f"openai/{model}", "api_base": base_url, "api_key": "none"}
    fields |= {"timeout": LEAVES_AFTER_S if case == "cancel" and not client.streams else 20.0, "max_retries": 0}
    is_chat = client.api == "chat"
    try:
        answered = await _called(name, fields | ({"stream": True} if client.streams else {}))
        if not client.streams:
            return from_completion(answered) if is_chat else from_response(answered)
    except litellm.exceptions.Timeout as left:
        return Answer() if case == "cancel" else Answer(error=str(left))
    except litellm.exceptions.APIError as error:
        return Answer(error=str(error))
    elements = _each(answered, is_async=name.startswith("a"))
    if not is_chat:
        return await _responses(elements)
    answer = await added_up(elements, leaves=case == "cancel", errors=(litellm.exceptions.APIError,))
    await _close(answered)
    return answer


def _fields(client: Client, case: str) -> Json:
    if client.api == "chat":
        fields: Json = {"messages": [{"role": "user", "content": QUESTION}]}
        fields |= {"stream_options": {"include_usage": True}} if client.streams else {}
        fields |= {"tools": [CHAT_TOOL]} if case == "tools" else {}
        form = {"type": "json_schema", "json_schema": FORM}
        return fields | ({"response_format": form} if case == "structured" else {})
    fields = {"input": QUESTION} | ({"tools": [TOOL]} if case == "tools" else {})
    fields |= {"reasoning": {"summary": "auto"}} if case == "reasoning" else {}
    return fields | ({"text": {"format": {"type": "json_schema"} | FORM}} if case == "structured" else {})


async def _called(name: str, fields: Json) -> Any:
    function = getattr(litellm, name)
    if name.startswith("a"):
        return await function(**fields)
    return await asyncio.to_thread(function, **fields)


async def _each(stream: Any, *, is_async: bool) -> AsyncIterator[Any]:
    if is_async:
        async for element in stream:
            yield element
        return
    iterator = iter(stream)
    while (element := await asyncio.to_thread(next, iterator, END)) is not END:
        yield element


async def _close(stream: Any) -> None:
    if hasattr(stream, "__anext__"):
        await stream.aclose()
    else:
        await asyncio.to_thread(stream.completion_stream.close)


async def _responses(events: AsyncIterator[Any]) -> Answer:
    text = ""
    last: Any = None
    try:
        async for event in events:
            last = event
            if event.type == "response.output_text.delta":
                text += event.delta
    except litellm.exceptions.APIError as error:
        return Answer(text=text, error=str(error))
    assert last is not None
    response = getattr(last, "response", None)
    if response is None:
        return Answer(text=text, error=json.dumps(getattr(last, "error", None), default=str))
    return from_response(response)
