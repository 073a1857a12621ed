"""`GET /api/chat/{id}/stream`: the answer that a chat is waiting for, from its first part; 204 where there is none.

`useChat({resume: true})` sends it whenever the page is loaded, also for a chat that it has just made up, and shows the
body of anything but 200 and 204 as an error. So an unknown chat, one whose answer has ended and one that is no longer
kept are the same 204. It sends no cursor: the page begins the message again, also that part of it which is older than
the answer (`wire.ui_message_replay`).
"""

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from tailrace.errors import TailraceError, Unavailable
from tailrace.log.state import GenerationState
from tailrace.scopes import READERS
from tailrace.wire import WIRE_FORMATS, ui_message_object, ui_message_replay
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE, ClientConnection
from tailrace_frontend.http import cors
from tailrace_frontend.http.json_response import SLICE_BYTES
from tailrace_frontend.http.stream_endpoint import GENERATION_HEADER, connect, refuse, respond
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.stream_connection import StreamConnection

WIRE = WIRE_FORMATS["ui-messages"]


async def answer_chat(services: Services, chat_id: str, scope: Scope, send: Send) -> None:
    """Send the chat's answer, or the reason why not."""
    stream = await _open_or_refuse(services, chat_id, scope, send)
    if stream is not None:
        await stream.run()


async def _open_or_refuse(services: Services, chat_id: str, scope: Scope, send: Send) -> StreamConnection | None:
    """The stream; None where the request has been answered: refused, or nothing is being written."""
    headers = Headers(scope=scope)
    allowed = cors.headers_for(headers.get("origin"), services.settings.origins)
    try:
        caller, state = await _find(services, chat_id, headers)
        if state is None or state.is_final:
            await respond(send, 204, allowed)
            return None
        named = [*allowed, (GENERATION_HEADER.encode(), state.record.id.encode())]
        earlier = await _earlier_parts(services, caller, state)
        encode = await services.encoders.bind(WIRE, state)
        begun = _begun_with(earlier, scope[SCOPE], send) if earlier else send
        return connect(services, WIRE, encode, state, None, caller, named, scope, begun)
    except TailraceError as error:
        await refuse(services, error, None, allowed, send)
        return None


async def _earlier_parts(services: Services, caller: ApiKey, state: GenerationState) -> bytes:
    """The frames of the message's parts that are older than the answer, charged by their size.

    Raises:
        NotFound, Gone: the generation disappeared meanwhile.
    """
    async with services.generations.reads:
        request = await services.log.request(state.record.id)
        frames = ui_message_replay.encode(ui_message_object.context(state.record, request).message_id, request)
    services.rate_limits.charge_answer(caller.owner, len(frames))
    return frames


def _begun_with(frames: bytes, client: ClientConnection, send: Send) -> Send:
    """A `send` that sends these frames after the response's headers, at the client's own pace, and then forgets them:
    the stream keeps `send` for as long as it lives."""

    async def begun(message: Message) -> None:
        nonlocal frames
        await send(message)
        if message["type"] == "http.response.start":
            left, frames = memoryview(frames), b""
            client.inflight.hold(begun, len(left), client.abort)
            try:
                while left and not client.lost:
                    client.write_chunk(bytes(left[:SLICE_BYTES]))
                    left = left[SLICE_BYTES:]
                    await client.drained()
            finally:
                client.inflight.release(begun)

    return begun


async def _find(services: Services, chat_id: str, headers: Headers) -> tuple[ApiKey, GenerationState | None]:
    """The key of the request, and the chat's newest generation.

    Raises:
        TailraceError: the request is refused, or Redis did not answer.
    """
    caller = await services.authorize(headers, READERS)
    if services.hub.draining:
        raise Unavailable("This frontend is stopping.")
    await services.rate_limits.charge_stream(caller.owner)
    async with services.rate_limits.turn(caller.owner):
        return caller, await services.chats.newest(chat_id, caller.owner)
