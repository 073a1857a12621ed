"""The leases of what a worker runs: renewed in one round trip every third of a lease, and handed over at its end.

Of a cluster, each primary gets a round trip of its own: one that does not reply lets no lease on another one expire.

A renewal also has the measures of the stream so far, with which another attempt would begin, and the response that an
upstream runs in its background. Its answer is how a run learns that it has been fenced, or that Redis has lost its log.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tailrace import keys
from tailrace.errors import Gone, NotFound, RedisRefused, RedisUnavailable, Unavailable
from tailrace.failures import failure
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.limits import enqueue_again, new_job_id
from tailrace.lifecycle.steps import log_step
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.redis.outage import level_of
from tailrace.redis.server import RedisServer
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
        self._renewing: dict[RedisServer, asyncio.Task[None]] = {}
        self._due: set[RedisServer] = set()

    async def run(self) -> None:
        """Renew them every third of a lease and whenever Redis is back, until cancelled."""
        try:
            while True:
                for server in self._by_server():
                    self._due.add(server)
                    if server not in self._renewing:
                        self._renewing[server] = asyncio.create_task(self._renew_on(server), name="renew")
                await self._reconnects.wait(self._lease_s / 3)
        finally:
            await cancel_and_wait(*self._renewing.values())

    async def _renew_on(self, server: RedisServer) -> None:
        """Renew those on one server, and again where that was due meanwhile."""
        try:
            while server in self._due:
                self._due.discard(server)
                try:
                    await self._renew(self._by_server().get(server, []))
                except (Unavailable, RedisRefused) as error:
                    logger.log(level_of(error), "renew: %s: %s", type(error).__name__, error)
                except Exception:
                    logger.exception("renew")
        finally:
            del self._renewing[server]

    def _by_server(self) -> dict[RedisServer, list[Held]]:
        """The runs that have begun, by the server that has their logs."""
        found: dict[RedisServer, list[Held]] = {}
        for held in self.held():
            with contextlib.suppress(RedisUnavailable):  # no server of the cluster has its slot
                server = self._log.server.primary_of(keys.state(held.state.record.id))
                found.setdefault(server, []).append(held)
        return found

    def held(self) -> list[Held]:
        """The runs that have begun."""
        begun = [(run, state) for run in self._running.values() if (state := run.state)]
        return [Held(run, state, msgspec.json.encode(run.measures)) for run, state in begun]

    async def renew(self) -> None:
        """Renew them once.

        Raises:
            Unavailable, RedisRefused.
        """
        for held in self._by_server().values():
            await self._renew(held)

    async def _renew(self, held: Sequence[Held]) -> None:
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
