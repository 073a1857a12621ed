"""An OpenAI-compatible upstream that costs next to nothing: `python -m bench.upstream`, commands in `Upstream`.

The demo model runs on ASGI; here a token is a timer and one `transport.write` of a chat chunk as vendors send it (some
280 bytes), timestamped, in an HTTP chunk of its own. An answer begins at once, waits for the command `emit` and never
ends. While a client does not read, nothing is written and nothing is counted. A body with `"tokens": n` gets so many
tokens at once, and the end. A request to `/responses` gets events of Responses, of the same size.
"""

import asyncio
import json
from typing import Any, NamedTuple

from bench.children import serve_commands
from bench.timestamps import WIDTH, now_us, timestamped_text

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
TIMER_S = 0.001
"""The loop's timers have a resolution of 1 ms: a shorter delay would be a busy loop."""


def frame(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """A chat chunk as one Server-Sent Event in one chunk of HTTP."""
    chunk = {
        "id": "chatcmpl-Bh1pT3PqTpXv0q6h3mY0pOe2sJk1x", "object": "chat.completion.chunk", "created": 1795237242,
        "model": "bench-2026-11-21", "service_tier": "default", "system_fingerprint": "fp_34a54ae93c",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
    }  # fmt: skip
    return http_chunk(b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode())


def event(name: str, **fields: object) -> bytes:
    """An event of Responses, likewise."""
    value = {"type": f"response.{name}", "sequence_number": 4, **fields}
    data = json.dumps(value, separators=(",", ":")).encode()
    return http_chunk(b"event: response.%b\ndata: %b\n\n" % (name.encode(), data))


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Api(NamedTuple):
    """The frames of an API: before the first token, around a token's timestamp, and after the last token."""

    begin: bytes
    before: bytes
    after: bytes
    end: bytes

    @classmethod
    def of(cls, begin: bytes, token: bytes, end: bytes) -> "Api":
        at = token.index(b"@")
        return cls(HEAD + begin, token[:at], token[at + WIDTH :], end + LAST_CHUNK)

    def token(self) -> bytes:
        """A token that is written now."""
        return b"%b@%016d%b" % (self.before, now_us(), self.after)


ITEM = "msg_68af09d2a1d4819c8a2f9a6c1e3b5d7f0a1b2c3d4e5f6a7b"
PLACE = {"item_id": ITEM, "output_index": 0, "content_index": 0}
RESPONSE = {"id": "resp_68af09d2a1d4819c8a2f", "object": "response", "model": "bench-2026-11-21", "output": []}

CHAT = Api.of(
    frame({"role": "assistant", "content": ""}),
    frame({"content": timestamped_text()}),
    frame({}, "stop") + http_chunk(b"data: [DONE]\n\n"),
)
RESPONSES = Api.of(
    event("created", response={**RESPONSE, "status": "in_progress"})
    + event("output_item.added", output_index=0, item={"id": ITEM, "type": "message", "role": "assistant"})
    + event("content_part.added", **PLACE, part={"type": "output_text", "text": ""}),
    event("output_text.delta", **PLACE, delta=timestamped_text(), logprobs=[], obfuscation="Zr4Tn9KqLx2w"),
    event("completed", response={**RESPONSE, "status": "completed"}),
)


class Answers:
    """The answers under way, and how many tokens were written to all of them."""

    def __init__(self) -> None:
        self.written = 0
        self.streaming: dict[Answer, None] = {}


class Answer(asyncio.Protocol):
    """A connection of a client; one answer after another. It emits no tokens until `emit`."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._transport: Any = None
        self._received = b""
        self._full = False
        self._api = CHAT
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._period = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A request: its body selects the answer."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not separator or len(body) < length:
            return
        self._received = b""
        tokens = json.loads(body or b"{}").get("tokens")
        self._api = api = RESPONSES if b"/responses " in head else CHAT
        if tokens is not None:
            self._transport.write(api.begin + b"".join(api.token() for _ in range(tokens)) + api.end)
            return
        self._transport.write(api.begin)
        self._answers.streaming[self] = None

    def emit(self, rate: float, phase: float) -> None:
        """Emit so many tokens a second from now on, the first after this share of a token's period."""
        self.pause()
        loop = asyncio.get_running_loop()
        self._period = 1 / rate
        self._due = loop.time() + phase * self._period
        self._timer = loop.call_at(self._due, self._write)

    def _write(self) -> None:
        """Write the tokens that have come due."""
        loop = asyncio.get_running_loop()
        while self._due <= loop.time():
            if not self._full:
                self._transport.write(self._api.token())
                self._answers.written += 1
            self._due += self._period
        self._timer = loop.call_later(max(self._due - loop.time(), TIMER_S), self._write)

    def pause(self) -> None:
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.pause()
        self._answers.streaming.pop(self, None)


class Upstream:
    """Commands of an upstream process."""

    def __init__(self) -> None:
        self._answers = Answers()

    async def listen(self) -> int:
        """Start to listen; the port."""
        loop = asyncio.get_running_loop()
        serving = await loop.create_server(lambda: Answer(self._answers), "127.0.0.1", 0, backlog=1024)
        return int(serving.sockets[0].getsockname()[1])

    async def emit(self, streams: int, rate: float) -> None:
        """From now on so many answers emit `rate` tokens a second each, spread over time; the others pause."""
        for number, answer in enumerate(self._answers.streaming):
            if number < streams:
                answer.emit(rate, number / streams)
            else:
                answer.pause()

    async def report(self) -> dict[str, int]:
        """The number of answers under way, and of tokens written so far."""
        return {"streaming": len(self._answers.streaming), "written": self._answers.written}


if __name__ == "__main__":
    serve_commands(Upstream())
