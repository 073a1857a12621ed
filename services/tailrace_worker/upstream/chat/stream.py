"""Opens a Chat Completions request."""

from collections.abc import AsyncGenerator
from functools import partial

from tailrace.events import GenerationRecord, Json
from tailrace.translation import chat_request
from tailrace_worker.upstream.client import UpstreamClient, stream_payloads

END = b"[DONE]"


def open_stream(client: UpstreamClient, record: GenerationRecord, request: Json) -> AsyncGenerator[list[bytes], None]:
    """The payloads of the answer to a Chat Completions request, `[DONE]` included.

    Of a foreground request nothing is retried here: the attempt retries what its client would not (`is_transient`).
    """
    chat = chat_request(record.api, request)
    body = {**chat, "stream": True, "stream_options": _stream_options(chat)}
    # The SDK's own arguments are placeholders that the body replaces.
    sdk = client.sdk_without_retries if record.foreground else client.sdk
    create = sdk.chat.completions.with_streaming_response.create
    send = partial(create, messages=[], model=str(body.get("model")), stream=True, extra_body=body)
    return stream_payloads(send, is_end)


def is_end(payload: bytes) -> bool:
    """Whether the payload marks the end of the answer."""
    return payload.startswith(END)


def _stream_options(request: Json) -> Json:
    options = request.get("stream_options")
    return {**(options if isinstance(options, dict) else {}), "include_usage": True}
