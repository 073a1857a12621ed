"""Clients that reconnect with their cursor, as an `EventSource` does, and keep a transcript of what they receive."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from system import canaries
from system.checker import Fold, Plan, Violation
from system.wire_client import CUT, Event, EventParser, Exchange, open_exchange


class FrontendPorts:
    """Ports of the frontends that clients use, in turn. `may_cut`: whether connections may break without a hint."""

    def __init__(self, ports: Callable[[], Sequence[int]], *, may_cut: bool = False) -> None:
        self._ports = ports
        self._turn = itertools.count()
        self.may_cut = may_cut

    def next(self) -> int:
        ports = self._ports()
        return ports[next(self._turn) % len(ports)]


class Received(NamedTuple):
    """An event, and when it was received (monotonic)."""

    at: float
    event: Event


class Visit(NamedTuple):
    """One connection: when and where it was opened, the cursor sent, the status (0: refused), how it ended."""

    at: float
    port: int
    cursor: str | None
    status: int
    until: float
    end: str


class Reader:
    """One client of one generation.

    `hop`: the number of texts after which it disconnects each time, to resume at another frontend. `returns`: it
    resumes only after this event. `pause_s`: for how long it stops reading after its first text. `buffer`: bytes of its
    socket's receive buffer.
    """

    def __init__(
        self, name: str, plan: Plan, generation_id: str, ports: FrontendPorts, hop: Callable[[], int] | None = None,
        returns: asyncio.Event | None = None, pause_s: float = 0, buffer: int | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.plan = plan
        self.received: list[Received] = []
        self.visits: list[Visit] = []
        self.violations: list[Violation] = []
        self.done: dict[str, Any] | None = None
        self.vanished = ""
        self.last_byte_at = time.monotonic()
        self.fold = Fold(plan)
        self._path = f"/v1/generations/{generation_id}/events?ticket={canaries.TICKET}"
        self._ports = ports
        self.returns = returns
        self._hop = hop
        self._pause_s = pause_s
        self._buffer = buffer
        self._parser = EventParser()

    @property
    def over(self) -> bool:
        return self.done is not None or bool(self.vanished)

    @property
    def restarts(self) -> int:
        return sum(each.event.kind == "restarted" for each in self.received)

    def wrong(self, kind: str, detail: str) -> None:
        self.violations.append(Violation(kind, self.name, detail))

    async def read(self, timeout_s: float) -> None:
        """Read until the end; no end within the timeout is a hang."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.over:
                    await self._visit()
        except TimeoutError:
            last = self.received[-1].event.kind if self.received else "nothing"
            self.wrong("hang", f"no end within {timeout_s:g} s; last received: {last}")

    async def _visit(self) -> None:
        port, cursor, began = self._ports.next(), self._parser.last_id, time.monotonic()
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
            left = await self._receive_all(exchange) if exchange.status == 200 else False
        finally:
            exchange.close()
            self.visits.append(Visit(began, port, cursor, exchange.status, time.monotonic(), exchange.end))
        if not left:
            await self._judge_close(exchange)
        elif self.returns:
            await self.returns.wait()

    async def _receive_all(self, exchange: Exchange) -> bool:
        """Whether this client disconnected by itself."""
        texts, leave_after = 0, self._hop() if self._hop else 0
        async for chunk in exchange.chunks():
            self.last_byte_at = time.monotonic()
            for event in self._parser.feed(chunk):
                self._receive(event)
                texts += event.kind == "text"
            if texts and self._pause_s:
                pause, self._pause_s = self._pause_s, 0
                await asyncio.sleep(pause)
            if leave_after and texts >= leave_after and not self.over:
                return True
        return False

    def _receive(self, event: Event) -> None:
        if self.over:
            return self.wrong("after the end", f"{event.kind} {event.data[:60]}")
        self.received.append(Received(time.monotonic(), event))
        for kind, detail in self.fold.add(event):
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

    async def _judge_close(self, exchange: Exchange) -> None:
        """The connection ended: check that it ended with a hint, and wait as long as the hint asks."""
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
        elif not self._ports.may_cut:
            self.wrong("cut", "the connection broke, and no fault was injected that could break it")
        return None

    def excerpt(self, around: int = 12) -> str:
        """The first connections, and the last events."""
        lines = [f"    {v.at:.3f}-{v.until:.3f} :{v.port} after {v.cursor}: {v.status} {v.end}" for v in self.visits]
        lines += [f"    {h.at:.3f} {h.event.id} {h.event.kind} {h.event.data[-90:]}" for h in self.received]
        return "\n".join([f"  {self.name}", *lines[:3], "    …", *lines[-around:]])
