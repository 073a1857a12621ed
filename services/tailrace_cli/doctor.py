"""`tailrace doctor URL`: what the proxies before a frontend do to its streams, and what to change.

    hello and 20 events        are they held back, compressed? which headers arrived? the clock
    a file, and TLS            do compressed responses come intact? HTTP/2?
    silence, beside beats      how long may silence last, and how long a response?

Each finding is printed when it is known. Nothing is created at the frontend.
"""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from tailrace.errors import InvalidRequest
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_cli import proxy_findings
from tailrace_cli.frontend_client import opened_frontend
from tailrace_cli.interrupts import interruptible
from tailrace_cli.proxy_findings import Finding, Outcome
from tailrace_cli.proxy_probe import KeyMissing, ProxyProbe, StreamResult, opened_probe
from tailrace_cli.terminal import BOLD, GREEN, RED, RESET, YELLOW, has_colours, one_line, print_json

EVENTS, INTERVAL_MS = 20, 100
BEATS_MS, MAX_BEATS = 200, 600
"""Between two events of the stream beside the silent one, and as many as a frontend sends."""

MOST_SILENCE_S = 300
"""For which a frontend is silent on purpose."""

TICK_S = 1.0
ERASE_LINE = "\r\x1b[K"
COLOURS = {Outcome.OK: GREEN, Outcome.WARNING: YELLOW, Outcome.FAULT: BOLD + RED, Outcome.SKIPPED: ""}


class Reached(NamedTuple):
    """Who answers: the frontend's version and its keep-alive, and the proxy by its own word."""

    version: str
    keepalive_s: float
    server: str


def main(settings: Settings, *, as_json: bool, silence_s: int | None) -> int:
    """Look, and print what was found. Returns the exit status: 1 where something is wrong.

    Raises:
        InvalidRequest: a frontend cannot be silent for so long.
        Unavailable, Misconfigured, TailraceError: no frontend answers there, or it refuses the key.
    """
    if silence_s is not None and not 0 <= silence_s <= MOST_SILENCE_S:
        raise InvalidRequest(f"--silence takes seconds from 0 to {MOST_SILENCE_S}")
    return asyncio.run(interruptible(_run(settings, as_json=as_json, silence_s=silence_s)))


async def _run(settings: Settings, *, as_json: bool, silence_s: int | None) -> int:
    key = settings.api_key.get_secret_value().strip()
    async with opened_frontend(settings) as frontend, opened_probe(frontend, key) as probe:
        examination = Examination(probe, silence_s, None if as_json else Report())
        if not as_json:
            print(f"{probe.url}\n", flush=True)
        await examination.run()
    findings = examination.findings
    is_fit = not any(each.outcome is Outcome.FAULT for each in findings)
    if as_json:
        print_json(_as_json(examination, is_fit=is_fit))
    else:
        print(f"\n{summary(findings)}")
    return 0 if is_fit else 1


def _as_json(examination: "Examination", *, is_fit: bool) -> dict[str, object]:
    checks = [
        {
            "name": each.name, "outcome": each.outcome.value, "message": each.message, "measured": dict(each.measured),
            "remedies": dict(each.remedies),
        }
        for each in examination.findings
    ]  # fmt: skip
    reached = examination.reached
    about = reached._asdict() if reached else {}
    return {"url": examination.probe.url, "is_fit": is_fit, **about, "checks": checks}


def summary(findings: Sequence[Finding]) -> str:
    """`Nothing is wrong.`, or how much is."""
    faults, warnings = (
        sum(each.outcome is outcome for each in findings) for outcome in (Outcome.FAULT, Outcome.WARNING)
    )
    if not faults and not warnings:
        return "Nothing is wrong."
    counts = [(faults, "fault"), (warnings, "warning")]
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count)


class Examination:
    """The checks, one after the other, as far as they get."""

    def __init__(self, probe: ProxyProbe, silence_s: int | None, report: "Report | None") -> None:
        self.probe = probe
        self.findings: list[Finding] = []
        self.reached: Reached | None = None
        self._silence_s = silence_s
        self._report = report

    async def run(self) -> None:
        """
        Raises:
            Unavailable, Misconfigured, TailraceError: as `ProxyProbe.stream`.
        """
        try:
            async with self._waiting("events", EVENTS * INTERVAL_MS / 1000):
                stream = await self.probe.stream(events=EVENTS, interval_ms=INTERVAL_MS)
        except KeyMissing:
            self._add(proxy_findings.key_missing(), await self._protocol())
            return
        self._judge(stream, time.time() - stream.lasted_s)
        self._add(await self._protocol(), proxy_findings.files(await self.probe.file()))
        await self._be_silent()

    def _judge(self, stream: StreamResult, began: float) -> None:
        """`began`: when the request was sent, by the clock here."""
        buffered = proxy_findings.unbuffered(stream, INTERVAL_MS)
        if stream.hello:
            data = stream.hello.data
            self.reached = Reached(data["version"], data["keepalive_s"], one_line(stream.headers.get("server", "")))
            self._add(_reached(self.reached, stream.hello.at_s))
        self._add(buffered, proxy_findings.uncompressed(stream))
        self._add(*proxy_findings.request_headers(stream, has_key=self.probe.has_key))
        self._add(proxy_findings.http_version(stream))
        if stream.hello and buffered.outcome is Outcome.OK:
            self._add(proxy_findings.clock(stream, began + stream.hello.at_s))

    async def _protocol(self) -> Finding:
        return proxy_findings.http2(await self.probe.protocol(), self.probe.url)

    async def _be_silent(self) -> None:
        if self.reached is None or self._silence_s == 0:
            return
        keepalive_s = self.reached.keepalive_s
        planned_s = self._silence_s or min(proxy_findings.wanted_silence_s(keepalive_s), MOST_SILENCE_S)
        async with self._waiting("silence", planned_s):
            silent, beating = await self._both(planned_s)
        self._add(*proxy_findings.silence(silent, beating, planned_s, keepalive_s))

    async def _both(self, planned_s: int) -> tuple[StreamResult, StreamResult | None]:
        """A silent stream, and beside it one with events; None: that lasted longer than the silent one, which was
        cut."""
        interval_ms = max(BEATS_MS, math.ceil(1000 * planned_s / MAX_BEATS))
        beats = self.probe.stream(events=1000 * planned_s // interval_ms, interval_ms=interval_ms)
        beating = asyncio.create_task(beats, name="beats")
        try:
            silent = await self.probe.stream(events=0, silence_s=planned_s)
            longer_s = None if silent.is_whole else proxy_findings.SAME_CUT * silent.lasted_s + TICK_S
            done, _ = await asyncio.wait([beating], timeout=longer_s)
            return silent, beating.result() if done else None
        finally:
            await cancel_and_wait(beating)

    def _add(self, *findings: Finding) -> None:
        self.findings += findings
        if self._report:
            for each in findings:
                self._report.show(each)

    @contextlib.asynccontextmanager
    async def _waiting(self, what: str, seconds: float) -> AsyncIterator[None]:
        if self._report is None:
            yield
            return
        async with self._report.waiting(what, seconds):
            yield


def _reached(reached: Reached, first_s: float) -> Finding:
    through = f" through {reached.server}" if reached.server else ""
    return Finding(
        "reached", Outcome.OK, f"Tailrace {reached.version}{through}; first byte after {first_s * 1000:.0f} ms"
    )


class Report:
    """Findings on stdout; how long there is still to wait on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._has_colours = has_colours(sys.stdout)
        self._shows_progress = sys.stderr.isatty()

    def show(self, finding: Finding) -> None:
        colour = COLOURS[finding.outcome] if self._has_colours else ""
        outcome = f"{colour}{finding.outcome.value.upper() if finding.remedies else finding.outcome.value:8}"
        print(f"{outcome}{RESET if colour else ''} {finding.name.replace('_', '-'):16} {finding.message}")
        for proxy, remedy in finding.remedies.items():
            print(f"{'':25} {proxy:11} {remedy}")
        sys.stdout.flush()

    @contextlib.asynccontextmanager
    async def waiting(self, what: str, seconds: float) -> AsyncIterator[None]:
        """Show the time that passes during the block."""
        task = asyncio.create_task(self._count(what, seconds)) if self._shows_progress else None
        try:
            yield
        finally:
            if task:
                task.cancel()
                sys.stderr.write(ERASE_LINE)
                sys.stderr.flush()

    async def _count(self, what: str, seconds: float) -> None:
        began = time.monotonic()
        while True:
            sys.stderr.write(f"{ERASE_LINE}… {what}: {time.monotonic() - began:.0f} of {seconds:.0f} s")
            sys.stderr.flush()
            await asyncio.sleep(TICK_S)
