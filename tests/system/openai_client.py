"""OpenAI's routes over the checker's own client: requests, streams as they are received, and what a stream holds.

A stream of either format is judged by the same rules: it ends whole, with one terminal event, and nothing follows it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from system.checker import TOKEN, Plan
from system.wire_client import CUT, Event, EventParser, Exchange, open_exchange

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
NUMBERED = re.compile(rb'"sequence_number":(\d+)[^\n]*\n\n')
END = "[DONE]"
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


def body_of(path: str, plan: Plan, **fields: Any) -> dict[str, Any]:
    """A request on this route that the upstream answers with the plan."""
    body = {name: value for name, value in plan.body().items() if name != "tailrace"} | fields
    if path == RESPONSES:
        body["input"] = body.pop("messages")[0]["content"]
    return body


def form(prefix: str, generation_id: str) -> str:
    """The id of a generation in the form of an API."""
    return prefix + generation_id.removeprefix("gen_")


class Stream:
    """A stream that is being received. `received`: its bytes so far; `first_text` is set with its first text."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._parser = EventParser()
        self.received = b""
        self.events: list[Event] = []
        self.first_text = asyncio.Event()

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def generation_id(self) -> str:
        return self._exchange.headers.get("x-tailrace-generation", "")

    @property
    def is_whole(self) -> bool:
        return self._exchange.end == "whole"

    async def read(self) -> None:
        """Read to the end of the connection."""
        try:
            async for data in self._exchange.chunks():
                self.received += data
                self.events += self._parser.feed(data)
                if b'"content":"' in data or b"output_text.delta" in data:
                    self.first_text.set()
        finally:
            self.first_text.set()
            self._exchange.close()

    @property
    def values(self) -> list[Any]:
        """The events' data, without `[DONE]`."""
        return [event.value for event in self.events if event.data != END]

    @property
    def text(self) -> str:
        return "".join(map(_text_of, self.values))

    @property
    def ends(self) -> list[str]:
        """The final status of each terminal event; of the chat format, `completed` for `[DONE]`."""
        return [end for event in self.events if (end := self._end_of(event))]

    def _end_of(self, event: Event) -> str:
        """The final status that an event stands for; empty if it ends nothing."""
        if event.kind in TERMINAL:
            return str(event.value["response"]["status"])
        if self._is_of_responses:
            return ""
        if event.data == END:
            return "completed"
        error = event.value.get("error")
        return "" if error is None else "cancelled" if error["code"] == "cancelled" else "failed"

    @property
    def _is_of_responses(self) -> bool:
        return any(event.kind.startswith("response.") for event in self.events)

    @property
    def ends_as_it_should(self) -> bool:
        """Whether nothing follows the terminal event but, of the Responses format, one `[DONE]`."""
        data = [event.data for event in self.events]
        if self._is_of_responses:
            return data.count(END) == 1 and data[-1] == END and self.events[-2].kind in TERMINAL
        return data.count(END) <= 1 and (END not in data or data[-1] == END)


def _text_of(value: Any) -> str:
    if value.get("type") == "response.output_text.delta":
        return str(value["delta"])
    return "".join(choice["delta"].get("content") or "" for choice in value.get("choices", ()))


@asynccontextmanager
async def streaming(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """A stream whose head has been received; the connection ends with the block.

    Raises:
        one of CUT: there is no response.
    """
    sent = b"" if body is None else json.dumps(body).encode()
    exchange = await open_exchange(port, method, path, {"Content-Type": "application/json", **(headers or {})}, sent)
    try:
        yield Stream(exchange)
    finally:
        exchange.close()


async def read(port: int, path: str, timeout_s: float = 20) -> Stream | None:
    """A whole stream; None where there is no response."""
    try:
        async with asyncio.timeout(timeout_s), streaming(port, "GET", path) as stream:
            await stream.read()
            return stream
    except (*CUT, TimeoutError):
        return None


class Leaving:
    """A client that sends a request and leaves before the answer is complete."""

    def __init__(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    async def send(cls, port: int, path: str, body: Any, headers: Mapping[str, str] | None = None) -> "Leaving":
        content = json.dumps(body).encode()
        named = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {each}" for name, each in {**named, **(headers or {})}.items())]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()
        return cls(writer, reader)

    async def wait_for(self, text: bytes) -> None:
        """Wait until this was received, or the connection has ended."""
        with contextlib.suppress(*CUT):
            await self._reader.readuntil(text)

    def leave(self) -> None:
        self._writer.transport.abort()


class Place(NamedTuple):
    """A number of a stream, and where its frame ends, in bytes."""

    number: int
    end: int


def places(received: bytes) -> list[Place]:
    return [Place(int(each[1]), each.end()) for each in NUMBERED.finditer(received)]


def has_all_tokens(text: str, plan: Plan) -> bool:
    """Whether the text is the plan's, each token once and in order."""
    found = [TOKEN.fullmatch(token) for token in text.split()]
    wanted = [(plan.tag, str(number)) for number in range(plan.tokens)]
    return [(each[1], each[2]) for each in found if each] == wanted and len(found) == len(wanted)
