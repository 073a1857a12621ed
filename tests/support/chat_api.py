"""A client of OpenAI's Chat Completions routes, on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from support.api import Api, Response, body, eventually
from support.log_writer import LogWriter
from support.product import Product
from tailrace.events import Failure, Started

PATH = "/v1/chat/completions"


def chunks_in(sent: bytes) -> list[Any]:
    """The chunks of a stream, error objects among them, without `[DONE]`."""
    data = [line.removeprefix(b"data: ") for line in sent.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(each) for each in data if each != b"[DONE]"]


def text_in(sent: bytes) -> str:
    """The text of a stream."""
    chunks = [chunk for chunk in chunks_in(sent) if "error" not in chunk]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


async def ask(api: Api, headers: dict[str, str] | None = None, **fields: Any) -> Response:
    """The whole response to a request."""
    return await api.request("POST", PATH, json=body(**fields), headers=headers)


@asynccontextmanager
async def asking(
    product: Product, api: Api | None = None, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[tuple["asyncio.Task[Response]", str]]:
    """A request that waits for its answer, and the id of its generation, which nothing writes yet."""
    api = api or product.api
    known = await newest(api)
    task = asyncio.create_task(ask(api, headers, **fields))

    async def created() -> str | None:
        if task.done():
            raise AssertionError(task.result())
        found = await newest(api)
        return found if found != known else None

    try:
        yield task, await eventually(created)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def kept_alive(
    product: Product,
    keep_alive: bytes,
    path: str = PATH,
    value: Any = None,
    *,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
    """A request whose answer nothing writes yet, once two of these signs of life have arrived; and its generation.

    `value`: the body, unless it is that of a chat.
    """
    async with (
        product.frontend(keepalive_s="0.2") as frontend,
        product.http.post(f"{frontend.url}{path}", json=value or body(**fields), headers=headers) as response,
    ):
        received = b""
        while received.count(keep_alive) < 2:
            received += await response.content.readany()
        assert received.replace(keep_alive, b"") == b""
        yield response, response.headers["x-tailrace-generation"]


async def newest(api: Api) -> str | None:
    """The id of the caller's newest generation."""
    first: str | None = (await api.list("?limit=1")).value["first_id"]
    return first


async def fail(product: Product, generation_id: str, reason: Failure) -> None:
    """Fail a generation as a worker does, before any output."""
    writer = await LogWriter.acquire(product.log, generation_id, f"fail {generation_id}", worker="log-writer")
    await writer.write(Started(1, writer.granted_s))
    await writer.end("failed", reason)


async def answered(product: Product, *texts: str, api: Api | None = None, **fields: Any) -> str:
    """The id of a chat completion that has ended with these texts."""
    generation_id = await product.completed(*texts, api=api, **fields)
    return "chatcmpl-" + generation_id.removeprefix("gen_")
