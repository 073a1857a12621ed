"""Opens a Responses request.

Where the upstream may keep the answer (`background` of its configuration, and the caller's `store`), the request has
`background: true`: the upstream then goes on without us, and counts the answer once. A lost connection is taken up by
`GET /responses/{id}?stream=true&starting_after=N` behind the last event that was read. Where the worker is lost as
well, the next one reads it from its beginning (`background`). What is not read to its end, and not taken over, is
cancelled there: the upstream would write it, and bill it, to the end (`background_stream`).
"""

import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest
from tailrace.events import GenerationRecord, Json
from tailrace.translation.to_responses import responses_request
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.client import UpstreamClient, stream_payloads
from tailrace_worker.upstream.responses.background_stream import BackgroundStream
from tailrace_worker.upstream.responses.payload import is_end


async def open_stream(
    client: UpstreamClient, record: GenerationRecord, request: Json, background: BackgroundResponse | None = None
) -> AsyncGenerator[list[bytes], None]:
    """The payloads of the answer to a Responses request, the event that ends it included.

    `background`: the response that an earlier attempt has left at the upstream, if there is one; it becomes the one of
    this request.
    """
    in_background = client.config.background and record.store
    try:
        body = responses_request(record.api, request, stores=in_background)
    except InvalidRequest as error:  # the frontend has checked it for another upstream
        yield [_refusal(error)]
        return
    body |= {"stream": True} | ({"background": True} if in_background else {})
    # The SDK's own arguments are placeholders that the body replaces.
    create = client.sdk.responses.with_streaming_response.create
    send = partial(create, input="", model=str(body.get("model")), stream=True, extra_body=body)
    if in_background:
        stream = BackgroundStream(client, send, background or BackgroundResponse()).payloads()
    else:
        stream = stream_payloads(send, is_end)
    async with contextlib.aclosing(stream) as payloads:
        async for each in payloads:
            yield each


def _refusal(error: InvalidRequest) -> bytes:
    fields = {"message": error.message, "type": "invalid_request_error", "code": error.code, "param": error.param}
    return jsoncodec.dumps({"error": fields})
