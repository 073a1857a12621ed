"""Clients: they stay while they can, come back with their cursor like an `EventSource`, and keep a transcript."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from system.checker import Plan, Text, Violation
from system.wire_client import CUT, Event, EventParser, Exchange, open_exchange


class Nodes:
    """The web nodes that clients know, in turn. `may_cut`: whether connections may break without a word."""

    def __init__(self, ports: Callable[[], Sequence[int]], *, may_cut: bool = False) -> None:
        self._ports = ports
        self._turn = itertools.count()
        self.may_cut = may_cut

    def next(self) -> int:
        ports = self._ports()
        return ports[next(self._turn) % len(ports)]


class Heard(NamedTuple):
    at: float
    event: Event


class Visit(NamedTuple):
    """One connection: when it was opened and where, the cursor given, the status (0: refused), how it ended."""

    at: float
    port: int
    cursor: str | None
    status: int
    until: float
    end: str


class Reader:
    """One client of one generation: stays while it can, comes back with its cursor, keeps a transcript.

    `hop`: after how many texts it leaves by itself, each time, to resume at another node. `pause_s`: how long it does
    not read after its first text.
    """

    def __init__(
        self, name: str, plan: Plan, generation: str, nodes: Nodes, hop: Callable[[], int] | None = None,
        pause_s: float = 0, buffer: int | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.plan = plan
        self.heard: list[Heard] = []
        self.visits: list[Visit] = []
        self.violations: list[Violation] = []
        self.done: dict[str, Any] | None = None
        self.vanished = ""
        self.sign_at = time.monotonic()
        self.told: Text = Text(plan)
        self._path = f"/v1/generations/{generation}/events"
        self._nodes = nodes
        self._hop = hop
        self._pause_s = pause_s
        self._buffer = buffer
        self._parser = EventParser()

    @property
    def over(self) -> bool:
        return self.done is not None or bool(self.vanished)

    @property
    def restarts(self) -> int:
        return sum(heard.event.kind == "restarted" for heard in self.heard)

    def wrong(self, kind: str, detail: str) -> None:
        self.violations.append(Violation(kind, self.name, detail))

    async def read(self, patience_s: float) -> None:
        """Until the end; what has none within the patience is a hang."""
        try:
            async with asyncio.timeout(patience_s):
                while not self.over:
                    await self._visit()
        except TimeoutError:
            last = self.heard[-1].event.kind if self.heard else "nothing"
            self.wrong("hang", f"no end within {patience_s:g} s; the last it heard was {last}")

    async def _visit(self) -> None:
        port, cursor, began = self._nodes.next(), self._parser.last_id, time.monotonic()
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        try:
            async with asyncio.timeout(15):
                exchange = await open_exchange(port, "GET", self._path, headers, buffer=self._buffer)
        except (*CUT, TimeoutError) as error:
            self.visits.append(Visit(began, port, cursor, 0, time.monotonic(), type(error).__name__))
            await asyncio.sleep(0.05)
            return
        self._parser = EventParser()
        self._parser.last_id = cursor
        try:
            left = await self._listen(exchange) if exchange.status == 200 else False
        finally:
            exchange.close()
            self.visits.append(Visit(began, port, cursor, exchange.status, time.monotonic(), exchange.end))
        if not left:
            await self._after(exchange)

    async def _listen(self, exchange: Exchange) -> bool:
        """Whether it left by itself."""
        texts, leave_after = 0, self._hop() if self._hop else 0
        async for piece in exchange.pieces():
            self.sign_at = time.monotonic()
            for event in self._parser.feed(piece):
                self._hear(event)
                texts += event.kind == "text"
            if texts and self._pause_s:
                pause, self._pause_s = self._pause_s, 0
                await asyncio.sleep(pause)
            if leave_after and texts >= leave_after and not self.over:
                return True
        return False

    def _hear(self, event: Event) -> None:
        if self.over:
            return self.wrong("after the end", f"{event.kind} {event.data[:60]}")
        self.heard.append(Heard(time.monotonic(), event))
        for kind, detail in self.told.add(event):
            self.wrong(kind, detail)
        if event.kind == "done":
            self.done = event.value
            self._judge_end(event.value)
        elif event.kind == "gone":
            self._gone(f"gone: {event.value['reason']}")
        return None

    def _judge_end(self, done: dict[str, Any]) -> None:
        code = (done.get("error") or {}).get("code")
        if done["status"] not in self.plan.statuses and code not in self.plan.failures:
            self.wrong("unexplained end", f"{done['status']}: {done.get('error')}")

    def _gone(self, how: str) -> None:
        self.vanished = how
        if not self.plan.may_vanish:
            self.wrong("vanished", how)

    async def _after(self, exchange: Exchange) -> None:
        """The connection ended: was that said, and when to come again?"""
        if exchange.status in (404, 410):
            return self._gone(str(exchange.status))
        if exchange.status != 200:
            self.wrong("status", f"{exchange.status} for cursor {self._parser.last_id}")
            return await asyncio.sleep(0.5)
        if self.over:
            return None
        if self._parser.retry is not None:
            await asyncio.sleep(self._parser.retry / 1000)
        elif exchange.end == "whole":
            self.wrong("silent end", "the stream ended without done, gone or retry")
        elif not self._nodes.may_cut:
            self.wrong("cut", "the connection broke, and nothing was there to break it")
        return None

    def excerpt(self, around: int = 12) -> str:
        """The last events and connections, to read."""
        lines = [f"    {v.at:.3f}-{v.until:.3f} :{v.port} after {v.cursor}: {v.status} {v.end}" for v in self.visits]
        lines += [f"    {h.at:.3f} {h.event.id} {h.event.kind} {h.event.data[-90:]}" for h in self.heard]
        return "\n".join([f"  {self.name}", *lines[:3], "    …", *lines[-around:]])
