"""The last resort: no generation is left hanging, whatever died.

Every process sweeps; of the whole fleet one looks at each shard of the unfinished in each period (a quarter of a
lease). What it finds, and does:

    the lease has expired                   it waits for another worker, who tells what became of it
    … and its attempts are spent            it ends as failed
    it waits, but no worker would find it   after a lease: a new dispatch; the old one's keys are deleted
    an end was begun and not written        it is written
    the deadline has passed                 it ends as failed
    nobody reads what should run only then  it ends as cancelled
    it has ended, or was never created      it leaves the set
    it cannot be read                       it is left alone: a later version may have written it

A server that has just started may hold older data, and live workers are about to restore what is missing, or to confirm
an end: until it is as old as that takes, and half a second more, nothing is swept (without that, 3 of 100 finished
generations were run again, measured).
"""

import asyncio
import logging
import random
import time

from tailrace import keys
from tailrace.errors import CorruptEntry, Gone, NotFound, RedisFull, RedisRefused, RedisUnavailable, Unavailable
from tailrace.failures import failure
from tailrace.ids import new_token
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.limits import limit_failure
from tailrace.lifecycle.termination import CONFIRM_S, terminate
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.queue import QUARANTINE, Queue

NEVER_CREATED_S = 60.0
HOLD_OFF_S = 0.5
QUARANTINE_AFTER = 3  # lost workers

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps until cancelled."""

    def __init__(self, log: Log, queue: Queue, *, max_attempts: int) -> None:
        self._log = log
        self._queue = queue
        self._max_attempts = max_attempts
        self._lease_s = log.lease_ms / 1000
        self._run_id: str | None = None
        self._hold_until = 0.0
        self._doubted: dict[str, float] = {}
        self._complained: set[str] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 4 * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load
            try:
                await self.sweep()
            except (Unavailable, RedisRefused) as error:
                logger.warning("sweep: %s: %s", type(error).__name__, error)
            except Exception:
                logger.exception("sweep")

    async def sweep(self) -> None:
        """Look at every shard that no other process looks at in this period.

        Raises:
            RedisError, OSError: a server cannot be reached.
        """
        if await self._must_hold_off():
            return
        for shard in range(keys.UNFINISHED_SETS):
            if await self._queue.index.claim_shard(shard, int(self._lease_s * 250)):
                generation_ids = await self._queue.index.list_unfinished(shard)
                if generation_ids:
                    await self._look_at(generation_ids)

    async def _must_hold_off(self) -> bool:
        run_id, age = await self._log.server.run()
        now = time.monotonic()
        if run_id != self._run_id:
            hold_off = max(self._lease_s, CONFIRM_S) + HOLD_OFF_S
            self._hold_until = now + hold_off - (age if self._run_id is None else 0)
            self._run_id = run_id
        return now < self._hold_until

    async def _look_at(self, generation_ids: list[str]) -> None:
        states = await self._log.states(generation_ids)
        now = await self._log.server.now()
        job_ids = [state.job_id if isinstance(state, GenerationState) else "" for state in states]
        waiting = await self._queue.jobs.is_waiting(job_ids)
        if await self._must_hold_off():  # once more: the server may have restarted since the sweep began
            return
        for generation_id, state, is_waiting in zip(generation_ids, states, waiting, strict=True):
            try:
                if isinstance(state, CorruptEntry):
                    raise state
                await self._judge(generation_id, state, now, is_waiting)
            except (NotFound, Gone):
                await self._queue.remove(generation_id)
            except RedisFull as error:  # it cannot be dispatched now; the others may yet be ended
                logger.warning("%s: sweep: %s", generation_id, error)
            except RedisUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one that cannot be read is left alone, and keeps nobody else
                self._complain(generation_id, error)

    def _complain(self, generation_id: str, error: Exception) -> None:
        """Once, and not with every sweep."""
        if generation_id not in self._complained:
            self._complained.add(generation_id)
            logger.error("%s: cannot be looked after: %s", generation_id, error, exc_info=error)

    async def _judge(self, generation_id: str, state: GenerationState | None, now: int, is_waiting: bool) -> None:
        if state is None:
            if self._for_longer_than(NEVER_CREATED_S, generation_id):
                await self._queue.remove(generation_id)
        elif state.is_final:
            await finalize(self._queue, state)
        elif state.lease > now:
            self._doubted.pop(generation_id, None)
        elif state.terminating:
            await terminate(self._log, self._queue, generation_id, state.terminating)
        elif reached := limit_failure(state, now, failed_attempts=state.tries, max_attempts=self._max_attempts):
            await terminate(self._log, self._queue, generation_id, "failed", reached)
        elif state.is_abandoned(now):
            await terminate(self._log, self._queue, generation_id, "cancelled", failure("client_disconnected"))
        elif state.status == "running":
            logger.info("%s: its worker is lost", generation_id)
            await self._requeue(state)
        elif is_waiting:
            self._doubted.pop(generation_id, None)
        elif self._for_longer_than(self._lease_s, generation_id):
            await self._requeue(state)

    async def _requeue(self, state: GenerationState) -> None:
        generation_id = state.record.id
        job_id = (QUARANTINE if state.tries >= QUARANTINE_AFTER else "") + new_token()
        await self._queue.jobs.remove(state.job_id)  # first: once it is under another, nobody knows of this one
        if await self._log.requeue_expired(generation_id, state.epoch, job_id) is Outcome.OK:
            await self._queue.jobs.enqueue(generation_id, job_id, state.record.options.deadline_s)
            self._doubted.pop(generation_id, None)

    def _for_longer_than(self, seconds: float, generation_id: str) -> bool:
        """Whether this was doubted at an earlier sweep, that long ago; forgets what it has not seen for long."""
        now = time.monotonic()
        since = self._doubted.setdefault(generation_id, now)
        if len(self._doubted) > 10_000:
            self._doubted = {name: at for name, at in self._doubted.items() if now - at < 2 * NEVER_CREATED_S}
        return now - since > seconds
