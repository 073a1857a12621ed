"""openai-python's two clients behind one interface: what is awaited with one runs in a thread with the other."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from clients.cells.answer import PARAMETERS, QUESTION, SCHEMA, TOOL_NAME, Json

END = object()
MESSAGES = [{"role": "user", "content": QUESTION}]
SCHEMA_FORMAT: Json = {"type": "json_schema", "json_schema": {"name": "Weather", "schema": SCHEMA, "strict": True}}


class Weather(BaseModel):
    """The structured answer."""

    city: str
    degrees: int


class Calls:
    """A client of the package, `async` or not, which validates each answer against the types of the package.

    `repeats`: how often the package may repeat a request; the upstream is called once all the same.
    """

    def __init__(self, base_url: str, *, is_async: bool, repeats: int) -> None:
        make = AsyncOpenAI if is_async else OpenAI
        self.client: Any = make(
            base_url=base_url, api_key="none", max_retries=repeats, timeout=20.0, _strict_response_validation=True
        )
        self.is_async = is_async

    async def call(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The result of a method of the package."""
        if not self.is_async:
            return await asyncio.to_thread(method, *arguments, **named)
        result = method(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    async def each(self, stream: Any) -> AsyncIterator[Any]:
        """The elements of a stream."""
        if self.is_async:
            async for element in stream:
                yield element
            return
        iterator = iter(stream)
        while (element := await asyncio.to_thread(next, iterator, END)) is not END:
            yield element

    def opened(self, manager: Any) -> AbstractAsyncContextManager[Any]:
        """A context manager of the package."""
        entered: AbstractAsyncContextManager[Any] = manager if self.is_async else _in_thread(manager)
        return entered

    async def close(self) -> None:
        await self.call(self.client.close)


@asynccontextmanager
async def _in_thread(manager: Any) -> AsyncIterator[Any]:
    entered = await asyncio.to_thread(manager.__enter__)
    try:
        yield entered
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def chat_fields(case: str, model: str, *, parses: bool) -> Json:
    """Arguments of a Chat Completions request. `parses`: the call takes a type instead of a schema."""
    fields: Json = {"model": model, "messages": MESSAGES}
    if case == "structured":
        fields["response_format"] = Weather if parses else SCHEMA_FORMAT
    if case == "tools":
        function = {"name": TOOL_NAME, "parameters": PARAMETERS, "strict": True}
        fields["tools"] = [{"type": "function", "function": function}]
    if case == "length":
        fields["max_completion_tokens"] = 2
    return fields


def responses_fields(case: str, model: str, *, parses: bool) -> Json:
    """Arguments of a Responses request."""
    fields: Json = {"model": model, "input": QUESTION}
    if case == "structured":
        form = {"type": "json_schema"} | SCHEMA_FORMAT["json_schema"]
        fields |= {"text_format": Weather} if parses else {"text": {"format": form}}
    if case == "tools":
        fields["tools"] = [{"type": "function", "name": TOOL_NAME, "parameters": PARAMETERS, "strict": True}]
    if case == "length":
        fields["max_output_tokens"] = 2
    if case == "reasoning":
        fields["reasoning"] = {"summary": "auto"}
    if case in ("cancel", "resume"):
        fields["background"] = True
    return fields


def error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
