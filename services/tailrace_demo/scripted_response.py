"""The response that plays a script to one client.

One task plays the steps while another waits in `receive()`, so a disconnect is noticed at once, even during a pause. A
step that would write to a lost connection waits there until the other task has received the disconnect. An answer
without `stream` is the fold of the streamed one.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace_demo.calls import Calls
from tailrace_demo.chunks import Envelope, encode_json
from tailrace_demo.script import EndOfFile, Reset, Step
from tailrace_demo.transport import TRANSPORT, while_connected

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
JSON_HEADERS = {"content-type": "application/json"}


NONE: Mapping[str, str] = {}


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class Body(Protocol):
    """Turns the frames of an answer into a response body."""

    async def write(self, frame: bytes) -> None: ...

    async def end(self) -> None: ...

    async def abandon(self) -> None:
        """Send what there is without the last chunk; the connection is closed then."""


class StreamedBody:
    """Sends every frame at once."""

    def __init__(self, send: Send, calls: Calls, head: Mapping[str, str], _: Envelope) -> None:
        self._send = send
        self._calls = calls
        self._headers = encoded({**STREAM_HEADERS, **head})
        self._begun = False

    async def begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})

    async def write(self, frame: bytes) -> None:
        if not frame:
            return
        if not self._begun:
            await self.begin()
            self._calls.first_byte()
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def end(self) -> None:
        await self.begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def abandon(self) -> None:
        await self.begin()


class FoldedBody:
    """Collects the frames and sends their fold."""

    def __init__(self, send: Send, calls: Calls, head: Mapping[str, str], envelope: Envelope) -> None:
        self._send = send
        self._calls = calls
        self._fold = envelope.folded
        self._headers = encoded({**JSON_HEADERS, **head})
        self._frames = bytearray()

    async def write(self, frame: bytes) -> None:
        self._frames += frame

    async def begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})

    async def end(self) -> None:
        await self.begin()
        self._calls.first_byte()
        value = self._fold(bytes(self._frames))
        await self._send({"type": "http.response.body", "body": encode_json(value), "more_body": False})

    async def abandon(self) -> None:
        await self.begin()


class ScriptedResponse(Response):
    """Plays the steps and records how the call ended. `head`: headers in place of the usual ones."""

    def __init__(
        self, steps: Sequence[Step], envelope: Envelope, calls: Calls, *, stream: bool, head: Mapping[str, str] = NONE
    ) -> None:
        self._steps = steps
        self._envelope = envelope
        self._calls = calls
        self._head = head
        self._body_type: type[StreamedBody | FoldedBody] = StreamedBody if stream else FoldedBody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope[TRANSPORT]
        body = self._body_type(while_connected(send, transport), self._calls, self._head, self._envelope)
        playing = asyncio.create_task(self._play(body, transport))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done() and transport.is_closing():  # a reset: uvicorn logs a return before `connection_lost`
                await leaving
        finally:
            if playing.done():
                self._calls.finish()
            else:
                self._calls.close_by_client()
            playing.cancel()
            leaving.cancel()
        await asyncio.gather(playing, leaving, return_exceptions=True)
        if not playing.cancelled():
            playing.result()

    async def _play(self, body: Body, transport: asyncio.BaseTransport) -> None:
        try:
            with contextlib.suppress(EndOfFile):
                for step in self._steps:
                    await step.play(self._envelope, body.write)
            await body.end()
        except Reset:
            await body.abandon()
            transport.close()


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
