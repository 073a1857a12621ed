"""Server-Sent Events as a browser reads them: written from the HTML standard, and from nothing of the product.

`Parser` is the standard's. `Stream` is one client on one answer, and keeps its events. `streamed_text` joins the texts
of its events.
"""

import asyncio
import codecs
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiohttp

TIMEOUT_S = 15.0


class Event(NamedTuple):
    """An event as it was dispatched. `id` is None where the frame named none."""

    id: str | None
    kind: str
    data: str

    @property
    def value(self) -> Any:
        return json.loads(self.data)

    @property
    def seq(self) -> int:
        assert self.id is not None
        return int(self.id.split("-")[1])


class Parser:
    """Bytes in, events out, however the bytes are cut. `retry` is a hint that no event followed: one that ends a
    stream."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self.comments: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest = ""
        self._id: str | None = None
        self._kind = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        text = self._rest + self._decoder.decode(data)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop()
        return [event for line in lines if (event := self._line(line))]

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and not name:
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = self.last_id = value
        elif name == "retry" and value.isdecimal():
            self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._id, self._kind or "message", "\n".join(self._data)) if self._data else None
        if event:
            self.retry = None
        self._id, self._kind, self._data = None, "", []
        return event


class Stream:
    """One client's connection: the events received so far, and the end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.events: list[Event] = []
        self.parser = Parser()
        self.ended = False

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def text(self) -> str:
        return streamed_text(self.events)

    async def until(self, kind: str, times: int = 1) -> Event:
        """Read until so many events of this kind have been received, earlier ones included."""
        while self.kinds.count(kind) < times:
            assert await self._read(), f"ended without {kind}: {self.kinds}"
        return [event for event in self.events if event.kind == kind][times - 1]

    async def until_text(self, text: str) -> None:
        while text not in self.text:
            assert await self._read(), f"ended without {text!r}: {self.text!r}"

    async def until_comment(self, times: int = 1) -> None:
        while len(self.parser.comments) < times:
            assert await self._read(), "ended without a comment"

    async def rest(self) -> list[Event]:
        """Everything up to the end."""
        while await self._read():
            pass
        return self.events

    async def _read(self) -> bool:
        async with asyncio.timeout(TIMEOUT_S):
            data = await self.response.content.readany()
        self.ended = not data
        self.events += self.parser.feed(data)
        return not self.ended

    def cut(self) -> None:
        """Close the connection as a lost one ends."""
        self.response.close()


def streamed_text(events: Iterable[Event]) -> str:
    """The text of choice 0; `restarted` discards the text before it."""
    text = ""
    for event in events:
        if event.kind == "restarted":
            text = ""
        elif event.kind in ("text", "refusal") and not event.value.get("choice"):
            text += event.value["text"]
    return text
