"""The cells of LiteLLM's client.

LiteLLM streams Responses of the models that it knows to stream; for any other it waits for the Response and cuts it
into pieces (`should_fake_stream`). So each model is registered, as LiteLLM's users do with models of their own.

Of Chat Completions its client leaves to cancel them; Responses have a call for that. A stream that is lost is begun
again with its `Idempotency-Key`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import litellm
import openai

from clients.cases import repeats
from clients.cells.answer import LEAVES_AFTER_S, LOST_AT, PARAMETERS, QUESTION, SCHEMA, TOOL_NAME, Answer, Json
from clients.cells.openai_chat import added_up, from_completion, repeated
from clients.cells.openai_responses import followed, from_response
from clients.table import Client

litellm.suppress_debug_info = True
CHAT_TOOL: Json = {"type": "function", "function": {"name": TOOL_NAME, "parameters": PARAMETERS}}
TOOL: Json = {"type": "function", "name": TOOL_NAME, "parameters": PARAMETERS}
FORM: Json = {"name": "Weather", "schema": SCHEMA, "strict": True}
STREAMS: Json = {"litellm_provider": "openai", "mode": "chat", "supports_native_streaming": True}
END = object()


async def ask(client: Client, base_url: str, case: str, model: str) -> Answer:
    """What a client of the table made of a case."""
    name = f"openai/{model}"
    litellm.register_model({name: STREAMS})
    where: Json = {"api_base": base_url, "api_key": "none", "timeout": 20.0}
    fields = _fields(client, case) | where | {"model": name, "max_retries": repeats(case)}
    try:
        if client.api == "chat":
            return await (_chat_stream if client.streams else _chat)(client, case, fields)
        return await (_responses_stream if client.streams else _responses)(client, case, fields, where)
    except openai.APIError as error:  # every error of LiteLLM is one
        return Answer(error=str(error))


def _fields(client: Client, case: str) -> Json:
    if client.api == "chat":
        fields: Json = {"messages": [{"role": "user", "content": QUESTION}]}
        fields |= {"stream": True, "stream_options": {"include_usage": True}} if client.streams else {}
        fields |= {"tools": [CHAT_TOOL]} if case == "tools" else {}
        form = {"type": "json_schema", "json_schema": FORM}
        return fields | ({"response_format": form} if case == "structured" else {})
    fields = {"input": QUESTION} | ({"stream": True} if client.streams else {})
    fields |= {"tools": [TOOL]} if case == "tools" else {}
    fields |= {"reasoning": {"summary": "auto"}} if case == "reasoning" else {}
    fields |= {"background": True} if case in ("cancel", "resume") else {}
    return fields | ({"text": {"format": {"type": "json_schema"} | FORM}} if case == "structured" else {})


async def _chat(client: Client, case: str, fields: Json) -> Answer:
    complete = partial(_called, client.call)
    if case == "cancel":
        try:
            return from_completion(await complete(**fields | {"timeout": LEAVES_AFTER_S}))
        except litellm.exceptions.Timeout:
            return Answer()
    completion = await (repeated(complete, fields) if case == "resume" else complete(**fields))
    answer = from_completion(completion)
    others = completion.choices[0].message.provider_specific_fields  # what LiteLLM has no field for
    answer.refusal = (others or {}).get("refusal") or ""
    return answer


async def _chat_stream(client: Client, case: str, fields: Json) -> Answer:
    fields |= {"extra_headers": {"Idempotency-Key": uuid.uuid4().hex}}
    name = _name(client)
    first = await _called(name, **fields)
    if case != "resume":
        answer = await added_up(_each(first, name), leaves=case == "cancel")
        await first.aclose()
        return answer
    async for chunk in _each(first, name):
        if any(LOST_AT in (choice.delta.content or "") for choice in chunk.choices):
            break
    await first.aclose()
    return await added_up(_each(await _called(name, **fields), name))


async def _responses(client: Client, case: str, fields: Json, where: Json) -> Answer:
    response = await _called(client.call, **fields)
    if fields.get("background"):
        retrieve, cancel = partial(_called, "get_responses", **where), partial(_called, "cancel_responses", **where)
        response = await followed(response.id, case, retrieve, cancel)
    return from_response(response)


async def _responses_stream(client: Client, case: str, fields: Json, where: Json) -> Answer:
    fields |= {"extra_headers": {"Idempotency-Key": uuid.uuid4().hex}}
    name = _name(client)
    first = await _called(name, **fields)
    if case != "resume":
        cancel = partial(_called, "acancel_responses" if name == "aresponses" else "cancel_responses", **where)
        return await _response_of(_each(first, name), cancel if case == "cancel" else None)
    async for event in _each(first, name):
        if LOST_AT in getattr(event, "delta", ""):
            break
    await (first.response.aclose() if name == "aresponses" else asyncio.to_thread(first.response.close))
    return await _response_of(_each(await _called(name, **fields), name))


async def _response_of(events: AsyncIterator[Any], cancel: Callable[..., Any] | None = None) -> Answer:
    """The answer at the end of a stream; its deltas add up to the same text. `cancel` is called with its first text."""
    text, response_id = "", ""
    last: Any = None
    async for event in events:
        last, is_text = event, event.type == "response.output_text.delta"
        response_id = response_id or event.response.id
        text += event.delta if is_text else ""
        if cancel and is_text:
            await cancel(response_id=response_id)
    answer = from_response(last.response)
    assert answer.text == text
    return answer


def _name(client: Client) -> str:
    return client.call.removesuffix("(stream)")


async def _called(name: str, **fields: Any) -> Any:
    function = getattr(litellm, name)
    if name.startswith("a"):
        return await function(**fields)
    return await asyncio.to_thread(function, **fields)


async def _each(stream: Any, name: str) -> AsyncIterator[Any]:
    """The elements of the stream that the function `name` has returned."""
    if name.startswith("a"):
        async for element in stream:
            yield element
        return
    iterator = iter(stream)
    while (element := await asyncio.to_thread(next, iterator, END)) is not END:
        yield element
