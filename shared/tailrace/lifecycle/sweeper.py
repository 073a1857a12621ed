"""The last resort: no generation stays unfinished, whichever process died.

Every process sweeps; one of the fleet checks each shard of the unfinished generations in each period (a quarter of a
lease). What is unfinished, and since when it seems to be stuck, is known on the log's server: the queue may have lost
everything, and which process sweeps a shard is chance. A sweep finds, and does:

    the lease has expired                     a new job for another worker, which sends `restarted`, or fails it
    … and its attempts are spent              it ends as failed
    it waits, but no worker would find it     after a lease: a new job; the keys of the old one are deleted
    an end was begun and not written          the end is written
    the deadline has passed                   it ends as failed
    no client reads what runs only while read it ends as cancelled
    it has ended                              `finalize`
    a webhook of it is due                    a job that delivers it
    its caller has fewer runs than it may     a parked job is moved back into the queue
    it was never created, or is gone          it leaves the index
    its state cannot be read                  left alone: a later version may have written it

**Which lost attempts are charged.** A worker that dies takes all its generations with it, and at most one of them was
the cause. So an attempt that is lost with its worker is charged to the generation, except where the worker ran others
beside it and fewer than three attempts (and fewer than MAX_ATTEMPTS - 1) have been lost before: that one is *spared*.
After three lost attempts a generation is *quarantined*: a worker runs one such at a time, so when that worker dies the
quarantined one is the likely cause, and each lost attempt is charged. A generation whose prompt kills its worker
therefore ends as failed after MAX_ATTEMPTS + 3 dead workers at most, and after MAX_ATTEMPTS if it ran alone; one that
was only beside it, or in a storm of kills, is spared three times before it is charged at all. With MAX_ATTEMPTS = 1
nothing is spared: the generation runs once. Handovers by a worker that stops are never charged.

In a cluster each primary is swept for itself: it has its own clock, its own sets of what is unfinished, and its own
moment of the last failover.

A server that has just started may hold older data, and live workers are about to restore what is missing, or to confirm
an end. Until it is as old as that takes, and half a second more, nothing is swept (without that, 3 of 100 finished
generations were run again, measured).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from tailrace.errors import CorruptEntry, Gone, NotFound, RedisFull, RedisRefused, RedisUnavailable, Unavailable
from tailrace.failures import failure
from tailrace.ids import short_name
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.limits import enqueue_again, is_spared, limit_failure, new_job_id
from tailrace.lifecycle.steps import log_step
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.lifecycle.webhook_jobs import enqueue_due_webhooks
from tailrace.log import Log, Outcome
from tailrace.log.standing import standings
from tailrace.log.state import GenerationState
from tailrace.log.unfinished import UnfinishedShard
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.redis.outage import level_of
from tailrace.redis.server import RedisServer
from tailrace.stats import Stats

NEVER_CREATED_S = 60.0
HOLD_OFF_S = 0.5

REQUEUES_AT_ONCE = 50
"""In shared round trips: one sweeper queues 10,000 generations again in 6.3 s, one by one it took 32.7 s (the queue was
lost; a busy machine)."""

Calls = list[Callable[[], Awaitable[None]]]

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps until cancelled.

    `connected_for`: for how many seconds this process has been connected to the log's server without an interruption.
    """

    def __init__(
        self,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        *,
        max_attempts: int,
        connected_for: Callable[[], float],
        stats: Stats | None = None,
    ) -> None:
        stats = stats or Stats("frontend")
        self._rescued = {why: stats.count("orphans_rescued_total", why) for why in ("worker_lost", "not_queued")}
        self._log = log
        self._queue = queue
        self._confirmations = confirmations
        self._max_attempts = max_attempts
        self._connected_for = connected_for
        self._lease_s = log.lease_ms / 1000
        self._period_s = self._lease_s / 4
        self._sweeping: dict[object, asyncio.Task[None]] = {}
        self._logged: set[str] = set()

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._period_s * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load
                try:
                    await self.sweep()
                except Exception as error:  # noqa: BLE001 - the last resort must go on
                    _log(error)
        finally:
            await cancel_and_wait(*self._sweeping.values())

    async def sweep(self) -> None:
        """Check every shard that no other process checks in this period.

        A server that takes longer than a period is not waited for. It is swept on beside the next sweep, which leaves
        it out: one that does not reply keeps the sweep from no other.

        Raises:
            RedisUnavailable: a server cannot be reached; all others were swept. Of several errors the first is raised,
                and the others are logged.
        """
        by_server: dict[RedisServer, list[UnfinishedShard]] = {}
        for shard in await self._log.unfinished.shards():
            by_server.setdefault(shard.server, []).append(shard)
        calls: dict[object, Callable[[], Coroutine[Any, Any, None]]] = {
            server: partial(self._sweep_server, server, shards) for server, shards in by_server.items()
        }
        calls["webhooks"] = partial(enqueue_due_webhooks, self._log, self._queue, int(self._period_s * 1000))
        errors = self._collect()
        for part, call in calls.items():
            if part not in self._sweeping:
                self._sweeping[part] = asyncio.create_task(call(), name="sweep")
        await asyncio.wait(self._sweeping.values(), timeout=self._period_s if len(by_server) > 1 else None)
        errors += self._collect()
        for error in errors[1:]:
            _log(error)
        if errors:
            raise errors[0]

    def _collect(self) -> list[BaseException]:
        """Take out the parts that have ended; their errors."""
        ended = [part for part, task in self._sweeping.items() if task.done()]
        return [error for part in ended if (error := self._sweeping.pop(part).exception())]

    async def _sweep_server(self, server: RedisServer, shards: Sequence[UnfinishedShard]) -> None:
        if await self._must_hold_off(server):
            return
        for shard in shards:
            if await shard.claim(int(self._period_s * 1000)):
                if generation_ids := await shard.list():
                    await self._check(shard, generation_ids)
                if shard is shards[0]:
                    await self._queue.jobs.unpark()

    async def _must_hold_off(self, server: RedisServer) -> bool:
        """Whether the server started so recently that live workers may still restore logs and confirm ends."""
        run = await server.run()
        return run.age_s < max(self._lease_s, CONFIRM_S) + HOLD_OFF_S

    async def _check(self, shard: UnfinishedShard, generation_ids: list[str]) -> None:
        generation_ids = await self._not_in_order(generation_ids, await shard.server.now())
        states = await self._log.states(generation_ids)
        now = await shard.server.now()
        job_ids = [state.job_id if isinstance(state, GenerationState) else "" for state in states]
        waiting = await self._queue.jobs.is_waiting(job_ids)
        if await self._must_hold_off(shard.server):  # again: the server may have restarted since the sweep began
            return
        found = list(zip(generation_ids, states, waiting, strict=True))
        suspects = [generation_id for generation_id, state, waits in found if _is_suspect(state, now, waits)]
        suspected_ms = await shard.suspect(suspects)
        lost: Calls = []
        for generation_id, state, _ in found:
            judge = partial(self._judge, generation_id, state, now, suspected_ms.get(generation_id, 0), lost)
            await self._guarded(generation_id, judge)
        for start in range(0, len(lost), REQUEUES_AT_ONCE):
            await asyncio.gather(*(requeue() for requeue in lost[start : start + REQUEUES_AT_ONCE]))

    async def _not_in_order(self, generation_ids: list[str], now: int) -> list[str]:
        """Those that do not run under a live lease, and do not simply wait for a worker."""
        found = await standings(self._log.server, generation_ids, now)
        job_ids = [each.job_id for each in found if each.waits_first]
        waiting = dict(zip(job_ids, await self._queue.jobs.is_waiting(job_ids), strict=True))
        return [
            generation_id
            for generation_id, each in zip(generation_ids, found, strict=True)
            if not each.is_running and not waiting.get(each.job_id)
        ]

    async def _guarded(self, generation_id: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do something for one generation. Only a server that cannot be reached stops the sweep of the others.

        Raises:
            RedisUnavailable
        """
        try:
            await step()
        except (NotFound, Gone):
            await self._log.unfinished.remove_missing(generation_id)
        except RedisFull as error:  # a full server takes no job, but accepts the ends of the others
            logger.warning("%s: sweep: %s", generation_id, error)
        except RedisUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - an unreadable state must not stop the sweep of the others
            self._log_once(generation_id, error)

    def _log_once(self, generation_id: str, error: Exception) -> None:
        """Not with every sweep."""
        if generation_id not in self._logged:
            self._logged.add(generation_id)
            logger.error("%s: sweep failed for this generation: %s", generation_id, error, exc_info=error)

    async def _judge(
        self, generation_id: str, state: GenerationState | CorruptEntry | None, now: int, suspected_ms: int, lost: Calls
    ) -> None:
        """End the generation, or remove it from the index, or add the call that queues it again to `lost`."""
        if isinstance(state, CorruptEntry):
            raise state
        if state is None:
            if suspected_ms > 1000 * NEVER_CREATED_S:
                await self._log.unfinished.remove_missing(generation_id)
        elif state.is_final:
            await finalize(self._log, self._queue, state)
        elif state.lease > now:
            return
        elif state.terminating:
            await self._confirmations.terminate(generation_id, state.terminating, state.terminating_error)
        elif reached := limit_failure(
            state, now, self._max_attempts, ended="worker_lost" if state.status == "running" else None
        ):
            await self._confirmations.terminate(generation_id, "failed", reached)
        elif state.is_abandoned(now, self._log.abandoned_ms) and self._sees_readers():
            await self._confirmations.terminate(generation_id, "cancelled", failure("client_disconnected"))
        elif state.status == "running":
            spared = is_spared(state, self._max_attempts)
            log_step(
                logger, "worker_lost", state, "%s: worker %s is lost in attempt %d; another one takes over%s",
                short_name(state.worker), state.attempt, " (the lost attempt does not count)" if spared else "",
            )  # fmt: skip
            lost.append(partial(self._guarded, generation_id, partial(self._requeue, state, spared=spared)))
        elif suspected_ms > self._log.lease_ms:
            lost.append(partial(self._guarded, generation_id, partial(self._requeue, state)))

    def _sees_readers(self) -> bool:
        """Whether readers could report during the whole of the grace. An absence of Redis is no absence of readers."""
        return 1000 * self._connected_for() > self._log.abandoned_ms

    async def _requeue(self, state: GenerationState, *, spared: bool = False) -> None:
        generation_id = state.record.id
        job_id = new_job_id(state, is_lost=state.status == "running")
        await self._queue.jobs.remove(state.job_id)  # first: afterwards no state names this job any more
        if await self._log.requeue_expired(generation_id, state.epoch, job_id, spared=spared) is Outcome.OK:
            self._rescued["worker_lost" if state.status == "running" else "not_queued"].value += 1
            await enqueue_again(self._queue, state, job_id)


def _is_suspect(state: GenerationState | CorruptEntry | None, now: int, is_waiting: bool) -> bool:
    """Whether the generation seems to be stuck: it was never created, or no worker would find it. For a moment both are
    normal: a frontend is about to submit it, or a worker that has taken its job to acquire it."""
    if isinstance(state, GenerationState):
        return state.status == "queued" and state.lease <= now and not is_waiting
    return state is None


def _log(error: BaseException) -> None:
    if isinstance(error, Unavailable | RedisRefused):
        logger.log(level_of(error), "sweep: %s: %s", type(error).__name__, error)
    else:
        logger.error("sweep", exc_info=error)
