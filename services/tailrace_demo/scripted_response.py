"""The response that plays a script to one client.

One task plays the steps while another waits in `receive()`, so a disconnect is noticed at once, even during a pause. A
step that would write to a lost connection waits there until the other task has received the disconnect. An answer
without `stream` is the fold of the streamed one.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace_demo.calls import Calls
from tailrace_demo.chunks import Envelope, encode_json
from tailrace_demo.completion import completion
from tailrace_demo.script import EndOfFile, Reset, Step
from tailrace_demo.transport import TRANSPORT, while_connected

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Body(Protocol):
    """Turns the frames of an answer into a response body."""

    async def write(self, frame: bytes) -> None: ...

    async def end(self) -> None: ...

    async def abandon(self) -> None:
        """Return without the last chunk; the server then closes the connection."""


class StreamedBody:
    """Sends every frame at once."""

    def __init__(self, send: Send, calls: Calls) -> None:
        self._send = send
        self._calls = calls
        self._begun = False

    async def begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})

    async def write(self, frame: bytes) -> None:
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

    def __init__(self, send: Send, calls: Calls) -> None:
        self._send = send
        self._calls = calls
        self._frames = bytearray()

    async def write(self, frame: bytes) -> None:
        self._frames += frame

    async def begin(self) -> None:
        headers = [(b"content-type", b"application/json")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def end(self) -> None:
        await self.begin()
        self._calls.first_byte()
        value: dict[str, Any] = completion(bytes(self._frames))
        await self._send({"type": "http.response.body", "body": encode_json(value), "more_body": False})

    async def abandon(self) -> None:
        await self.begin()


class ScriptedResponse(Response):
    """Plays the steps and records how the call ended."""

    def __init__(self, steps: Sequence[Step], envelope: Envelope, calls: Calls, *, stream: bool) -> None:
        self._steps = steps
        self._envelope = envelope
        self._calls = calls
        self._body_type: type[StreamedBody | FoldedBody] = StreamedBody if stream else FoldedBody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._body_type(while_connected(send, scope[TRANSPORT]), self._calls)
        playing = asyncio.create_task(self._play(body))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
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

    async def _play(self, body: Body) -> None:
        try:
            with contextlib.suppress(EndOfFile):
                for step in self._steps:
                    await step.play(self._envelope, body.write)
            await body.end()
        except Reset:
            await body.abandon()


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
