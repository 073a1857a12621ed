"""Clients of a proxy while a frontend behind it ends: one that reads to the end, and one that creates."""

import asyncio
import contextlib

import aiohttp

from support.api import Api, eventually
from support.sse import Event, Stream, streamed_text


class Reader:
    """Reads a generation to its end as an EventSource does: after each lost or ended stream it comes back with its
    cursor. `breaks`: the streams that were cut without a retry hint, and answers that were no stream."""

    def __init__(self, http: aiohttp.ClientSession, url: str, generation_id: str) -> None:
        self._http = http
        self._url = f"{url}/v1/generations/{generation_id}/events"
        self.text = ""
        self.opened = 0
        self.breaks: list[str] = []

    async def run(self) -> None:
        cursor, events = "", list[Event]()
        while not events or events[-1].kind != "done":
            try:
                headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
                async with self._http.get(self._url, headers=headers) as answer:
                    if answer.status != 200:
                        self.breaks.append(f"{answer.status} {await answer.text()}")
                        continue
                    stream = Stream(answer)
                    self.opened += 1
                    with contextlib.suppress(aiohttp.ClientPayloadError):
                        await stream.rest()
                    if not (stream.ended and (stream.parser.retry or "done" in stream.kinds)):
                        self.breaks.append("cut")
                    events += stream.events
                    cursor = stream.parser.last_id or cursor
            except aiohttp.ClientError as error:
                self.breaks.append(repr(error))
                await asyncio.sleep(0.02)
        self.text = streamed_text(events)
        assert [each.seq for each in events] == sorted({each.seq for each in events}), "once each, in order"


class Creator:
    """Creates one generation after the other through the proxy."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.created = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                answer = await self._api.post({"model": "demo", "messages": [{"role": "user", "content": "?"}]})
                if answer.status == 202:
                    self.created += 1
                else:
                    self.problems.append(f"{answer.status} {answer.body[:100]!r}")
            except aiohttp.ClientError as error:
                self.problems.append(repr(error))
            await asyncio.sleep(0.005)

    async def goes_on(self) -> None:
        """Wait for further generations."""
        wanted = self.created + 20

        async def is_there() -> bool:
            return self.created >= wanted

        await eventually(is_there)
