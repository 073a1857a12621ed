"""An OpenAI-compatible upstream that costs next to nothing: `python -m bench.upstream`, commands in `Upstream`.

The demo model runs on ASGI; here a token is a timer and one `transport.write` of a chat chunk as vendors send it (some
280 bytes), timestamped, in an HTTP chunk of its own. An answer begins at once, waits for the command `emit` and never
ends. While a client does not read, nothing is written and nothing is counted. A body with `"tokens": n` gets so many
tokens at once, and the end.
"""

import asyncio
import json
from typing import Any

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


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ROLE = frame({"role": "assistant", "content": ""})
TOKEN = frame({"content": timestamped_text()})
BEFORE, AFTER = TOKEN[: TOKEN.index(b"@")], TOKEN[TOKEN.index(b"@") + WIDTH :]
END = frame({}, "stop") + http_chunk(b"data: [DONE]\n\n") + LAST_CHUNK


def token() -> bytes:
    """A token that is written now."""
    return b"%b@%016d%b" % (BEFORE, now_us(), AFTER)


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
        tokens = json.loads(body).get("tokens")
        if tokens is not None:
            self._transport.write(HEAD + ROLE + b"".join(token() for _ in range(tokens)) + END)
            return
        self._transport.write(HEAD + ROLE)
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
                self._transport.write(token())
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
