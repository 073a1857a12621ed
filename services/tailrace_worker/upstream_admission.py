"""Which upstreams this worker may call now: their circuits and slots, which all workers share.

    admit ──▶ Call ──▶ release    a slot is taken where there is a limit; `opened` is set where the call is a probe
        └───▶ Refusal             its circuit is open, or its slots are all in use

The states of the circuits are kept here (`tailrace.queue.upstream_calls`): a call of an upstream without a limit whose
circuit is closed costs no command. Where the queue's server does not respond, an upstream with a limit is not called:
the limit would not hold.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from tailrace.errors import RedisRefused, Unavailable
from tailrace.ids import new_token
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Breaker, UpstreamCalls
from tailrace.queue.durations import FIRST_TOKEN, GAP, duration_counts
from tailrace.queue.upstream_calls import LIMITED
from tailrace.redis.outage import level_of
from tailrace.settings import Settings
from tailrace.stats import Stats
from tailrace.upstreams import CurrentUpstreams, UpstreamConfig
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.token_timings import TokenTimings

NOTHING: Mapping[str, int] = {}
OK, TOO_MANY = "200", "429"
CLOSE_S = 2.0
"""For the commands that are under way when a worker stops."""

logger = logging.getLogger(__name__)


class Call(NamedTuple):
    """A call that may begin, for a generation. `opened`: when the circuit opened that this call probes; None: the
    circuit is closed."""

    id: str
    generation_id: str
    upstream: UpstreamConfig
    opened: int | None = None


class Refusal(NamedTuple):
    """Why an upstream cannot be called now, for people; after its name."""

    reason: str


CIRCUIT_OPEN = Refusal("has an open circuit")


class UpstreamAdmission:
    """The admission of one worker. `changed` is notified when a call has ended here or a circuit has changed.
    `remaining_of`: what an upstream's newest response has left of its limits, where it reports them."""

    def __init__(
        self, settings: Settings, calls: UpstreamCalls, upstreams: CurrentUpstreams, worker: str,
        stats: Stats | None = None,
    ) -> None:  # fmt: skip
        self._stats = stats or Stats("worker")
        self._stats.gauge(
            "upstream_in_flight", lambda: {(each.name,): self._in_use[each.name] for each in upstreams.all}
        )
        self._stats.gauge(
            "upstream_circuit_open", lambda: {(each.name,): each.name in self._probe_at for each in upstreams.all}
        )
        self._calls = calls
        self._upstreams = upstreams
        self._worker = worker
        self._breaker = Breaker(
            settings.circuit_failures, round(1000 * settings.circuit_window_s), round(1000 * settings.circuit_probe_s)
        )
        self._probe_at: dict[str, float] = {}  # of open circuits, when the next probe is due (`time.monotonic()`)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._in_use: Counter[str] = Counter()
        self._totals: dict[str, list[int]] = {}
        self._durations: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._noted: dict[str, dict[str, int]] = {}
        self.remaining_of: Callable[[str], Mapping[str, int]] = lambda _: NOTHING
        self._unsent: dict[str, tuple[int, int]] = {}
        self._unsent_durations: Mapping[str, int] = {}
        self._report_number = 0
        self._waiting_lines: defaultdict[frozenset[str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_refreshing = False
        self._is_stale = False
        self.changed = ReconnectSignal()

    async def admit(self, upstream: UpstreamConfig, generation_id: str) -> Call | Refusal:
        """Ask to call an upstream now. End each call with `release`."""
        try:
            answer = await self._admit(Call(new_token(), generation_id, upstream))
        except (Unavailable, RedisRefused) as error:
            logger.log(level_of(error), "upstream %s: %s: %s", upstream.name, type(error).__name__, error)
            return Refusal("is not called while the queue's server does not respond")
        return self._counted(answer) if isinstance(answer, Call) else answer

    def begin(self, upstream: UpstreamConfig) -> Call:
        """A call of the one upstream without a file, which has no limit and no circuit. End it with `release`."""
        return self._counted(Call("", "", upstream))

    def line(self, names: frozenset[str]) -> asyncio.Lock:
        """The line of those that wait for these upstreams: the first one holds the lock."""
        return self._waiting_lines[names]

    def release(self, call: Call, *, has_failed: bool) -> None:
        """The call has ended, and its connection is closed. Its slot becomes free, and its failure is recorded."""
        name = call.upstream.name
        self._in_use[name] -= 1
        self._totals[name][1] += has_failed
        self._free_slot(name, call.id)
        if has_failed and self._breaker.failures and not self._upstreams.is_default:
            self._run(self._fail(call), f"fail {name}")

    def answered(self, call: Call) -> None:
        """The upstream has sent content: if this was the probe, the circuit closes."""
        if call.opened is not None:
            self._run(self._close_circuit(call.upstream.name, call.opened), f"close {call.upstream.name}")

    def count_request(self, upstream: str, code: str) -> None:
        """A request has ended: 200, the status of an error, or the code of a failure without one."""
        self._stats.count("upstream_requests_total", upstream, code).value += 1
        if code == TOO_MANY:
            self._durations[f"{LIMITED}:{upstream}"] += 1
        if code != OK:
            self._errors[upstream] = code

    def count_retry(self, upstream: str) -> None:
        """A request is sent again."""
        self._stats.count("upstream_retries_total", upstream).value += 1

    def measured(self, upstream: str, timings: TokenTimings, model: str = "") -> None:
        """Count the durations of an attempt that has ended, for the metrics. `model`: as the caller names it."""
        first, label = timings.first_token_s, self._stats.model_label(model)
        if first is not None:
            self._stats.durations("upstream_time_to_first_token_seconds", upstream).observe(first)
        if (added := timings.added_s) is not None:
            self._stats.durations("added_time_to_first_token_seconds", label).observe(added)
        self._stats.durations("inter_token_latency_seconds", label).observe_sorted(timings.gaps)
        self._durations += Counter(duration_counts(FIRST_TOKEN, upstream, [] if first is None else [first]))
        self._durations += Counter(duration_counts(GAP, upstream, timings.gaps))

    def on_circuit_message(self, _: bytes | None) -> None:
        """A circuit has changed, or messages may have been missed: read the states."""
        if self._is_refreshing:
            self._is_stale = True
        elif not self._upstreams.is_default:
            self._is_refreshing = True
            self._run(self._refresh(), "circuits")

    async def keep_alive(self) -> None:
        """Renew the slots of this worker, read the circuits and report the counts: every third of a lease.

        Raises:
            Unavailable, RedisRefused: the next one makes up for it.
        """
        if not self._upstreams.is_default:
            await self._calls.renew(self._held)
            await self._read_circuits()
        if self._totals:
            await self._report()
            await self._note_news()

    async def close(self) -> None:
        """Wait for the commands under way, for a moment."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        await cancel_and_wait(*self._tasks)

    # ── one call ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _admit(self, call: Call) -> Call | Refusal:
        name, limit = call.upstream.name, call.upstream.max_concurrency
        if time.monotonic() < self._probe_at.get(name, 0.0):
            return CIRCUIT_OPEN
        if limit:
            try:
                is_occupied = await self._calls.occupy(name, call.id, limit)
            except BaseException:  # the command may have been executed
                self._run(self._free(name, call.id), f"free {name}")
                raise
            if not is_occupied:
                return Refusal(f"has {limit} calls, as many as it may")
            self._held[name].add(call.id)
        answer: Call | Refusal | None = None
        try:
            answer = await self._probe(call) if name in self._probe_at else call
        finally:
            if not isinstance(answer, Call):
                self._free_slot(name, call.id)
        return answer

    async def _probe(self, call: Call) -> Call | Refusal:
        """The call as the probe of an open circuit, if none is under way; as it is, if the circuit was closed."""
        name = call.upstream.name
        probe = await self._calls.probe(name, call.id, self._breaker)
        if probe.wait_ms is not None:
            self._note(name, probe.wait_ms)
            return CIRCUIT_OPEN
        self._note(name, None if probe.opened is None else self._breaker.probe_ms)
        if probe.opened is not None:
            logger.info("upstream %s: a call probes it", name)
        return call._replace(opened=probe.opened)

    def _counted(self, call: Call) -> Call:
        name = call.upstream.name
        self._in_use[name] += 1
        self._totals.setdefault(name, [0, 0])[0] += 1
        return call

    def _free_slot(self, name: str, call_id: str) -> None:
        if call_id in self._held[name]:
            self._held[name].discard(call_id)
            self._run(self._free(name, call_id), f"free {name}")

    async def _free(self, name: str, call_id: str) -> None:
        await self._calls.free(name, call_id)
        self.changed.notify()

    async def _fail(self, call: Call) -> None:
        name = call.upstream.name
        self._note(name, await self._calls.fail(name, call.id, call.generation_id, self._breaker))

    async def _close_circuit(self, name: str, opened: int) -> None:
        await self._calls.close(name, opened)
        self._note(name, None)

    # ── what other workers have changed ─────────────────────────────────────────────────────────────────────────────

    async def _refresh(self) -> None:
        try:
            while True:
                self._is_stale = False
                await self._read_circuits()
                if not self._is_stale:
                    return
        finally:
            self._is_refreshing = False

    async def _read_circuits(self) -> None:
        names = [each.name for each in self._upstreams.all]
        is_open = await self._calls.open_circuits(names)
        for name in {*names, *self._probe_at}:
            self._note(name, is_open.get(name))

    def _note(self, name: str, wait_ms: int | None) -> None:
        """The circuit is open, and the next probe is due in so many ms; None: it is closed."""
        was_open = name in self._probe_at
        if wait_ms is None:
            self._probe_at.pop(name, None)
        else:
            self._probe_at[name] = time.monotonic() + wait_ms / 1000
        if wait_ms is not None and not was_open:
            logger.warning("upstream %s: its circuit is open; a probe is due in %.1f s", name, wait_ms / 1000)
        if wait_ms is None and was_open:
            logger.info("upstream %s: its circuit is closed again", name)
            self.changed.notify()

    async def _report(self) -> None:
        """Send what was counted since the last report. One that fails is sent again, with its number."""
        if not self._unsent:
            self._unsent = {name: (calls, failures) for name, (calls, failures) in self._totals.items()}
            self._totals = {name: [0, 0] for name in self._totals}
            self._unsent_durations, self._durations = self._durations, Counter()
            self._report_number += 1
        await self._calls.report(self._worker, self._report_number, self._unsent, self._in_use, self._unsent_durations)
        self._unsent = {}

    async def _note_news(self) -> None:
        """Store the last errors since the last report, and what upstreams have left of their limits where it has
        changed. What cannot be stored is stored with the next report."""
        for name in {*self._errors, *self._totals}:
            remaining, error = self.remaining_of(name), self._errors.get(name, "")
            if error or remaining != self._noted.get(name, {}):
                await self._calls.note(name, error=error, remaining=remaining)
                self._noted[name] = dict(remaining)
                if self._errors.get(name) == error:
                    self._errors.pop(name, None)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a command that no call waits for. If it fails, slots expire, and circuits are read again."""
        task = asyncio.create_task(self._logged(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Unavailable, RedisRefused) as error:
            logger.log(level_of(error), "upstreams: %s: %s", type(error).__name__, error)
