"""The leases of what a worker runs: renewed in one round trip every third of a lease, and handed over at its end.

A renewal also has the measures of the stream so far, with which another attempt would begin, and the response that an
upstream runs in its background. Its answer is how a run learns that it has been fenced, or that Redis has lost its log.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from tailrace.errors import Gone, NotFound, RedisRefused, Unavailable
from tailrace.failures import failure
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.limits import enqueue_again, new_job_id
from tailrace.lifecycle.steps import log_step
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.redis.outage import level_of
from tailrace_worker.generation_run import GenerationRun
from tailrace_worker.reconnect_signal import ReconnectSignal

logger = logging.getLogger(__name__)


class Held(NamedTuple):
    """A run that has begun, its state, and its measures so far (JSON)."""

    run: GenerationRun
    state: GenerationState
    measures: bytes


class Leases:
    """Of the generations in `running`, which is the worker's own and changes."""

    def __init__(
        self,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        running: Mapping[str, GenerationRun],
        count_neighbours: Callable[[], int],
        reconnects: ReconnectSignal,
        *,
        lease_s: float,
        disconnect_grace_s: float,
        connected_for: Callable[[], float],
    ) -> None:
        """`count_neighbours`: the generations that the worker runs beside one. `connected_for`: seconds since which
        other processes can reach this one."""
        self._log = log
        self._queue = queue
        self._confirmations = confirmations
        self._running = running
        self._count_neighbours = count_neighbours
        self._reconnects = reconnects
        self._lease_s = lease_s
        self._grace_s = disconnect_grace_s
        self._connected_for = connected_for

    async def run(self) -> None:
        """Renew them every third of a lease and whenever Redis is back, until cancelled."""
        while True:
            try:
                await self.renew()
            except (Unavailable, RedisRefused) as error:
                logger.log(level_of(error), "renew: %s: %s", type(error).__name__, error)
            await self._reconnects.wait(self._lease_s / 3)

    def held(self) -> list[Held]:
        """The runs that have begun."""
        begun = [(run, state) for run in self._running.values() if (state := run.state)]
        return [Held(run, state, msgspec.json.encode(run.measures)) for run, state in begun]

    async def renew(self) -> None:
        """Renew them once.

        Raises:
            Unavailable, RedisRefused.
        """
        held = self.held()
        if not held:
            return
        answers = await self._log.renew(
            [(each.state.record.id, each.state.epoch, each.state.runs_while_read) for each in held],
            neighbours=self._count_neighbours(),
            measures={each.state.record.id: each.measures for each in held},
            upstream_responses={each.state.record.id: each.run.upstream_response for each in held},
        )
        for (run, state, _), answer in zip(held, answers, strict=True):
            if answer is Outcome.ABANDONED:
                await self._abandon(state.record.id)
            elif answer is Outcome.UNKNOWN:
                run.resend_from_last(state.epoch)
            elif isinstance(answer, Outcome) and answer is not Outcome.OK:
                run.stop(answer, state.epoch)

    async def _abandon(self, generation_id: str) -> None:
        """End a generation without readers, unless they could not report during the whole of the grace."""
        if self._connected_for() > self._grace_s:
            with contextlib.suppress(NotFound, Gone):  # deleted meanwhile
                await self._confirmations.terminate(generation_id, "cancelled", failure("client_disconnected"))

    async def hand_over(self, held: list[Held]) -> None:
        """Release these leases and enqueue other runs, so that no generation waits for its lease to expire. They begin
        with these measures.

        Raises:
            Unavailable, RedisRefused.
        """
        if held:
            await self._log.renew(
                [(each.state.record.id, each.state.epoch, False) for each in held],
                measures={each.state.record.id: each.measures for each in held},
            )
        for _, state, _ in held:
            job_id = new_job_id(state)
            if await self._log.release(state.record.id, state.epoch, job_id) is Outcome.OK:
                log_step(logger, "handed_over", state, "%s: handed over in attempt %d", state.attempt)
                await enqueue_again(self._queue, state, job_id)
