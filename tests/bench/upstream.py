"""An OpenAI-compatible upstream that costs next to nothing: `python -m bench.upstream`, orders in `Upstream`.

The demo model goes through ASGI and spends a timer and 60 µs a token; here a token is one `transport.write` of a chat
chunk as vendors send it (some 250 bytes), in a chunk of HTTP of its own. Each answer streams at the common rate, with a
phase of its own, until all are told to end; where a client does not keep up, nothing is written and nothing counted.
A body with `"tokens": n` is answered at once with so many tokens.
"""

import asyncio
import itertools
import json
from typing import Any

from bench.children import take_orders

WORDS = (" the", " of", " and", " stream", " to", " log", " in", " reader", " is", " that", " token", " was", " for")
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


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
TOKENS = [frame({"content": word}) for word in WORDS]
END = frame({}, "stop") + http_chunk(b"data: [DONE]\n\n") + LAST_CHUNK


class Answers:
    """All that is being answered: at which rate (tokens a second each), and how many tokens were written."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.written = 0
        self.streaming: set[Answer] = set()
        self.phases = itertools.count()


class Answer(asyncio.Protocol):
    """A connection of a client; one answer after another."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._transport: Any = None
        self._received = b""
        self._full = False
        self._timer: asyncio.TimerHandle | None = None
        self._words = itertools.cycle(TOKENS)
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A request: its body decides."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not separator or len(body) < length:
            return
        self._received = b""
        tokens = json.loads(body).get("tokens")
        if tokens is not None:
            self._transport.write(HEAD + ROLE + b"".join(itertools.islice(self._words, tokens)) + END)
            return
        self._transport.write(HEAD + ROLE)
        self._answers.streaming.add(self)
        phase = (0.618034 * next(self._answers.phases)) % 1  # the golden section scatters any number of them
        self._due = asyncio.get_running_loop().time() + phase / (self._answers.rate or 1)
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._due, self._write)

    def _write(self) -> None:
        """What has come due: each token in a write of its own."""
        now, rate = asyncio.get_running_loop().time(), self._answers.rate
        if not rate:
            self._due = now + 0.01
        while rate and self._due <= now:
            if not self._full:
                self._transport.write(next(self._words))
                self._answers.written += 1
            self._due += 1 / rate
        self._wait()

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._transport.write(END)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._timer:
            self._timer.cancel()
        self._answers.streaming.discard(self)


class Upstream:
    """What an upstream process can do."""

    def __init__(self) -> None:
        self._answers = Answers()

    async def listen(self) -> int:
        """The port."""
        serving = await asyncio.get_running_loop().create_server(lambda: Answer(self._answers), "127.0.0.1", 0)
        return int(serving.sockets[0].getsockname()[1])

    async def speak(self, rate: float) -> None:
        """From now on every stream tells `rate` tokens a second."""
        self._answers.rate = rate

    async def report(self) -> dict[str, int]:
        """How many streams there are, and tokens written so far."""
        return {"streaming": len(self._answers.streaming), "written": self._answers.written}

    async def end(self) -> None:
        """End every answer."""
        for answer in list(self._answers.streaming):
            answer.end()


if __name__ == "__main__":
    take_orders(Upstream())
