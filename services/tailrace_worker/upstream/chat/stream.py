"""Opens a Chat Completions request."""

from collections.abc import AsyncGenerator
from functools import partial

from tailrace.events import GenerationRecord, Json
from tailrace.translation import chat_request
from tailrace.upstreams.profiles import without_refused_fields
from tailrace_worker.upstream.chat.continued_request import continued_request
from tailrace_worker.upstream.client import UpstreamClient, stream_payloads

END = b"[DONE]"


def open_stream(
    client: UpstreamClient, record: GenerationRecord, request: Json, text: str = ""
) -> AsyncGenerator[list[bytes], None]:
    """The payloads of the answer to a Chat Completions request, `[DONE]` included. `text`: the answer so far, whose
    rest is asked for."""
    chat = chat_request(record.api, request)
    if text:
        assert client.config.profile.continues, "the upstream can continue an answer"
        chat = continued_request(chat, client.config.profile.continues, text)
    body = {**chat, "stream": True, "stream_options": _stream_options(chat)}
    body = without_refused_fields(client.config.profile, body)
    # The SDK's own arguments are placeholders that the body replaces.
    create = client.sdk.chat.completions.with_streaming_response.create
    send = partial(create, messages=[], model=str(body.get("model")), stream=True, extra_body=body)
    return stream_payloads(send, is_end)


def is_end(payload: bytes) -> bool:
    """Whether the payload marks the end of the answer."""
    return payload.startswith(END)


def _stream_options(request: Json) -> Json:
    options = request.get("stream_options")
    return {**(options if isinstance(options, dict) else {}), "include_usage": True}
