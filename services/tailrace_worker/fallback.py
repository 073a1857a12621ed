"""The asking of several upstreams for one answer: the first that may be called, and the next one where it fails.

    targets ──▶ in order: may it be called?  ──▶ Asking ──▶ Answer
       ▲             │ none may                   │ failed, no content so far, and not by the request's fault
       │             ▼                            ▼
       └──────── wait in line               after a delay it may be asked again, as often as a single upstream

An upstream without a free slot is passed over at once, as is one whose circuit is open. Where none may be called, the
generation waits, for `TAILRACE_UPSTREAM_WAIT_S` at most. Generations that wait for the same upstreams do so in line:
the first one asks for a slot when a call has ended here, and every `POLL_S` for those of other workers.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tailrace.errors import InvalidRequest
from tailrace.events import Api, Failure, Json
from tailrace.failures import failure
from tailrace.lifecycle.end_line import printable
from tailrace.settings import Settings
from tailrace.translation import DialectName, upstream_request
from tailrace.upstreams import Target
from tailrace_worker.asking import Answer, Asking, UpstreamFailed
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.dialect import PartialAnswer, Translator
from tailrace_worker.upstream.dialects import DIALECTS
from tailrace_worker.upstream.errors import is_retried, retry_delay
from tailrace_worker.upstream_admission import Call, Refusal
from tailrace_worker.upstream_pool import UpstreamPool
from tailrace_worker.writer import Writer

POLL_S = 0.1
LOGGED_WAIT_S = 1.0
"""A shorter wait is not logged."""

NO_FAULT_OF_UPSTREAM = frozenset({403, 404})
"""Statuses of an upstream that works, and that refuses this request or this model: its circuit stays closed."""

logger = logging.getLogger(__name__)


class NoUpstream(Exception):
    """No upstream serves the model, or none could be called in time. `failure`: for clients."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.code)
        self.failure = reason


@dataclass(eq=False)
class Candidate:
    """A target of this generation.

    `failures`: its requests so far that failed. `ready_at`: before, it is not asked again (`time.monotonic()`).
    `refusal`: why it could not be called when it was asked last. `is_spent`: it is not asked any more.
    """

    target: Target
    failures: int = 0
    ready_at: float = 0.0
    failed: UpstreamFailed | None = None
    refusal: Refusal | None = None
    is_spent: bool = False

    @property
    def name(self) -> str:
        return self.target.upstream.name


class Fallback:
    """Asks the upstreams for the answer of one attempt. `target`: the one that was asked last.

    `background`: the response that runs at one of them. The other arguments are those of `Asking`.
    """

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        timings: TokenTimings,
        pool: UpstreamPool,
        deadline: float,
        background: BackgroundResponse,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._timings = timings
        self._pool = pool
        self._admission = pool.admission
        self._deadline = deadline
        self._background = background
        self.target: Target | None = None
        self._asking: Asking | None = None
        self._partial: PartialAnswer | None = None

    @property
    def translator(self) -> Translator | None:
        """Of the last request; None before the first."""
        return self._asking.translator if self._asking else None

    async def run(self, request: Json, first_item: int, partial: PartialAnswer | None = None) -> Answer:
        """As `Asking.run`, of whichever upstream serves the request. `partial`: a text whose rest is asked for; of
        upstreams that can continue it.

        Raises:
            UpstreamFailed: the last one failed, or the request is at fault.
            NoUpstream: none was asked.
        """
        targets = self._pool.upstreams.targets(self._writer.state.record.model)
        if partial:
            self._partial, targets = partial, [each for each in targets if each.upstream.can_continue]
        if targets and self._pool.upstreams.is_default:
            upstream = targets[0].upstream
            return await self._ask(targets[0], self._admission.begin(upstream), request, first_item)
        candidates = [Candidate(target) for target in self._accepting(targets, request)]
        candidates.sort(key=lambda each: not self._background.id_at(each.name))  # it has the answer, or a part of it
        while found := await self._next(candidates):
            candidate, call = found
            try:
                return await self._ask(candidate.target, call, request, first_item)
            except UpstreamFailed as failed:
                if not (failed.may_fall_back or self._is_retried(failed)):
                    raise
                self._note_failure(candidate, failed)
        raise self._error_of(candidates)

    def _accepting(self, targets: Sequence[Target], request: Json) -> Sequence[Target]:
        """Those whose API has a place for the request, where the targets have several APIs. (The frontend has refused
        what none has a place for.)"""
        dialects = {target.upstream.dialect for target in targets}
        if len(dialects) > 1:
            dialects = {dialect for dialect in dialects if _has_place(dialect, self._writer.state.record.api, request)}
        return [target for target in targets if target.upstream.dialect in dialects] or targets

    async def _ask(self, target: Target, call: Call, request: Json, first_item: int) -> Answer:
        """Ask one upstream, and end the call. Where there is a file, `run` repeats a failed request, and asks others
        meanwhile."""
        self.target = target
        self._timings.requests.upstream = None if self._pool.upstreams.is_default else target.upstream.name
        body = request if target.model == request.get("model") else {**request, "model": target.model}
        watching = None if call.opened is None else asyncio.create_task(self._watch(call), name="probe")
        has_failed = False
        try:
            with self._pool.client(target.upstream) as client:
                dialect = DIALECTS[target.upstream.dialect]
                if self._partial and dialect.continuing:
                    dialect = dialect.continuing(self._partial)
                elif dialect.keeping:
                    dialect = dialect.keeping(self._background)
                retries = self._settings.upstream_retries if self._pool.upstreams.is_default else 0
                asking = self._asking = Asking(
                    self._settings,
                    self._writer,
                    self._timings,
                    client,
                    dialect,
                    self._deadline,
                    retries=retries,
                    count=partial(self._count_request, target.upstream.name),
                )
                try:
                    answer = await asking.run(body, first_item)
                except UpstreamFailed as failed:
                    if not (has_failed := _is_fault_of_upstream(failed)):
                        self._admission.answered(call)
                    failed.failure = client.with_own_settings(failed.failure)
                    raise
            has_failed = answer.failure is not None and answer.failure.code != "log_limit"
            if not has_failed:
                self._admission.answered(call)
            return answer
        finally:
            if watching:
                watching.cancel()
            self._admission.release(call, has_failed=has_failed)

    def _count_request(self, upstream: str, code: str, is_retried: bool) -> None:
        self._admission.count_request(upstream, code)
        if is_retried:
            self._admission.count_retry(upstream)

    async def _watch(self, call: Call) -> None:
        """Report the first content of a probe, which may stream for minutes after that."""
        while not self._timings.count:  # noqa: ASYNC110 - an event would cost every token of every answer
            await asyncio.sleep(POLL_S / 2)
        self._admission.answered(call)

    def _note_failure(self, candidate: Candidate, failed: UpstreamFailed) -> None:
        """It is asked again after a delay, if its failure is one that passes; the others need not wait for that."""
        now, delay_s = time.monotonic(), self._delay_before_retry(candidate, failed)
        candidate.failed = failed
        candidate.failures += 1
        candidate.is_spent = delay_s is None or now + delay_s >= self._deadline
        candidate.ready_at = now + (delay_s or 0.0)
        if not candidate.is_spent:
            self._admission.count_retry(candidate.name)
        again = "is not asked again" if candidate.is_spent else f"may be asked again in {delay_s or 0.0:.1f} s"
        logger.warning(
            "%s: upstream %s failed, and %s (request %d of up to %d): %s [%s]",
            self._writer.generation_id, candidate.name, again, candidate.failures, self._settings.upstream_retries + 1,
            printable(self._pool.redact(failed.failure).message), printable(failed.detail),
        )  # fmt: skip

    def _delay_before_retry(self, candidate: Candidate, failed: UpstreamFailed) -> float | None:
        """Seconds until this one may be asked again; None: its failure does not pass, or it was asked often enough."""
        if candidate.failures >= self._settings.upstream_retries:
            return None
        if not self._is_retried(failed):
            return None
        return retry_delay(failed.cause, candidate.failures)

    def _is_retried(self, failed: UpstreamFailed) -> bool:
        return not failed.has_content and is_retried(failed.cause, foreground=self._writer.state.record.foreground)

    # ── which one may be called ─────────────────────────────────────────────────────────────────────────────────────

    async def _next(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Call] | None:
        """The next one to ask, once there is one. None: all of them have failed, or none became callable in time."""
        while left := [each for each in candidates if not each.is_spent]:
            if found := await self._first_open(left):
                return found
            ready_at = max(each.ready_at for each in left)
            if (now := time.monotonic()) >= ready_at:
                return await self._wait_in_line(left)
            await self._admission.changed.wait(min(POLL_S, ready_at - now))
        return None

    async def _first_open(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Call] | None:
        """The first one that may be called now."""
        if self._admission.line(_names(candidates)).locked():  # others wait for the same upstreams, and came first
            return None
        return await self._try(candidates)

    async def _try(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Call] | None:
        """The first one that may be called: of those that have failed least often, in the order of the file."""
        for candidate in sorted(candidates, key=lambda each: each.failures):
            if time.monotonic() < candidate.ready_at:
                continue
            answer = await self._admission.admit(candidate.target.upstream, self._writer.generation_id)
            if isinstance(answer, Call):
                return candidate, answer
            candidate.refusal = answer
        return None

    async def _wait_in_line(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Call] | None:
        """The first one that can be called; None after `TAILRACE_UPSTREAM_WAIT_S`."""
        logging_ = asyncio.get_running_loop().call_later(LOGGED_WAIT_S, self._log_wait, candidates)
        try:
            async with (
                asyncio.timeout(self._settings.upstream_wait_s),
                self._admission.line(_names(candidates)),
            ):
                while not (found := await self._try(candidates)):
                    await self._admission.changed.wait(POLL_S)
                return found
        except TimeoutError:
            return None
        finally:
            logging_.cancel()

    def _log_wait(self, candidates: Sequence[Candidate]) -> None:
        logger.warning("%s: waits for an upstream: %s", self._writer.generation_id, _reasons(candidates))

    def _error_of(self, candidates: Sequence[Candidate]) -> Exception:
        """The failure of the first upstream that may work later, else of the first one; else why none was called."""
        failed = [each.failed for each in candidates if each.failed]
        if failed:
            return next((each for each in failed if _is_fault_of_upstream(each)), failed[0])
        if not candidates:
            return NoUpstream(failure("upstream_no_model"))
        waited = f"for {self._settings.upstream_wait_s:g} s (TAILRACE_UPSTREAM_WAIT_S)"
        logger.warning("%s: no upstream could be called: %s", self._writer.generation_id, _reasons(candidates))
        return NoUpstream(failure("upstream_busy", f"No upstream that serves the model could be called {waited}."))


def _names(candidates: Sequence[Candidate]) -> frozenset[str]:
    return frozenset(each.name for each in candidates)


def _reasons(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{each.name} {each.refusal.reason if each.refusal else 'has failed'}" for each in candidates)


def _is_fault_of_upstream(failed: UpstreamFailed) -> bool:
    """Whether the failure counts for the circuit."""
    return failed.has_content or (failed.may_fall_back and failed.failure.status not in NO_FAULT_OF_UPSTREAM)


def _has_place(dialect: DialectName, api: Api, request: Json) -> bool:
    try:
        upstream_request(dialect, api, request)
    except InvalidRequest:
        return False
    return True
