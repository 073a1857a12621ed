"""The names of the upstream's models: `GET /models`, as every OpenAI-compatible server has it."""

import asyncio
import contextlib

from tailrace import jsoncodec
from tailrace.model_names import chat_models_first, names_in
from tailrace_worker.upstream.client import UpstreamClient, body_reads, sent
from tailrace_worker.upstream.errors import Unreadable

LIST_S = 10.0
MAX_BYTES = 8 * 1024 * 1024
"""Of the list. OpenRouter's, with 400 models, has 0.5 MB."""


async def list_models(client: UpstreamClient) -> list[str]:
    """The names, those that can chat first, else in the upstream's order.

    Raises:
        openai.APIError: the upstream cannot be reached, or has no such list.
        TimeoutError: it did not answer within `LIST_S`.
        NotSent: there was no request.
        Unreadable: it sent something else.
    """
    body = bytearray()
    async with (
        asyncio.timeout(LIST_S),
        sent(client.sdk.models.with_streaming_response.list) as response,
        contextlib.aclosing(body_reads(response.http_response)) as reads,
    ):
        async for piece in reads:
            body += piece
            if len(body) > MAX_BYTES:
                raise Unreadable(f"is a list of models of more than {MAX_BYTES // 1024**2} MiB")
    try:
        listed = jsoncodec.loads_tolerant(bytes(body))
    except ValueError as error:
        raise Unreadable(f"is no list of models: {error}") from None
    return chat_models_first(names_in(listed))
