"""arq's worker, adapted to servers that restart.

arq's worker polls the queue, takes a job and runs it. Tailrace keeps that and changes six things, the first four for a
measured reason:

- A Redis restart ends arq's own worker (10 of 10), and catching the error leaks a job slot each time. Here an error
  costs one poll, and a slot is counted only after a job has been taken.
- arq takes a job under WATCH and leaves a mark behind where the reply is lost. Here one script takes it (`take.lua`),
  which may be called again.
- arq removes what it keeps of a job once: where that call failed, three keys stayed for up to a day. Here it is called
  again with each poll.
- arq's poll of 0.5 s adds half a second to TTFT. Here a publish on enqueue starts a poll, so polls may be rare.
- arq ends a job after a timeout of this process. Here a generation's deadline ends it, which a frontend has set.
- A quarantined job is not taken while another one runs here. Until then it waits in the queue, where it holds no slot
  and costs no call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from arq.worker import Worker, func
from redis.exceptions import RedisError

from tailrace import keys
from tailrace.errors import RedisRefused, Unavailable
from tailrace.queue import QUARANTINE, Parked, Queue, Taken, dump_job, load_job
from tailrace.redis.outage import level_of

POLL_S = 0.25
MARK_S = 3600
"""A job that was taken belongs to its worker for this long, or until its run has begun (`mark_started`)."""

TRIES = 2**31
"""No limit. arq drops a job that it has counted more often, and counts one twice whose first reply was lost (INCR is
sent again): the generation then waited until a sweeper found it, a lease and a sweep later."""

logger = logging.getLogger(__name__)

Job = Callable[..., Awaitable[None]]
"""Called with arq's context, which is not used here, and the arguments that the job was enqueued with."""


class JobRunner(Worker):
    """Takes jobs by name and runs up to `max_jobs` at once. After `stop_picking` only the running ones end.

    `jobs`: a job's name in the queue → what runs it. arq neither retries a job nor keeps its result: a generation's log
    decides what runs again, and holds the result. An exception of a job is logged. `held`: the jobs that run here, to
    be renewed (`Jobs.renew`).
    """

    def __init__(self, queue: Queue, worker: str, jobs: Mapping[str, Job], *, max_jobs: int) -> None:
        super().__init__(
            [
                # arq's type requires a `__qualname__`, which arq reads only where no name is given
                func(partial(self._logged, run), name=name, max_tries=TRIES)  # type: ignore[arg-type]
                for name, run in jobs.items()
            ],
            queue_name=keys.QUEUE,
            redis_pool=queue.jobs.arq,
            handle_signals=False,
            poll_delay=POLL_S,
            max_jobs=max_jobs,
            max_tries=TRIES,
            retry_jobs=False,
            keep_result=0,
            log_results=False,
            job_serializer=dump_job,
            job_deserializer=load_job,
        )
        self.job_timeout_s = None  # type: ignore[assignment]  # arq passes it to `asyncio.wait_for`
        self._queue = queue
        self._worker = worker
        self._awake = asyncio.Event()
        self._quarantined: asyncio.Task[None] | None = None
        self._taking = asyncio.Lock()
        self._must_end = False
        self._unremoved: set[str] = set()
        self.held: set[str] = set()
        self._must_unpark = False

    def wake(self, _: bytes | None = None) -> None:
        """A job was enqueued: poll now."""
        self._awake.set()

    def on_rights_changed(self, _: object = None) -> None:
        """Callers may have more at once now: parked jobs begin without waiting for a sweep."""
        self._must_unpark = True
        self._awake.set()

    def stop_picking(self) -> None:
        """Take no further job. The one that is being taken now is started (`wait_for_take`)."""
        self.allow_pick_jobs = False

    async def wait_for_take(self) -> None:
        """Wait until no job is being taken."""
        async with self._taking:
            pass

    async def cancel_jobs(self) -> None:
        """Cancel the jobs that run, and wait until they have ended. A job that was taken and has not begun ends when it
        begins."""
        self._must_end = True
        for job in self.job_tasks.values():
            job.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def main(self) -> None:
        while True:
            try:
                if self._must_unpark:
                    self._must_unpark = False
                    await self._queue.jobs.unpark()
                await self._poll_iteration()
                for job_id in list(self._unremoved):
                    await self._queue.jobs.remove(job_id)
                    self._unremoved.discard(job_id)
            except (Unavailable, RedisRefused, RedisError, OSError) as error:  # arq's own commands raise redis-py's
                logger.log(level_of(error), "queue: %s: %s", type(error).__name__, error)
                await asyncio.sleep(POLL_S)
            try:
                async with asyncio.timeout(self.poll_delay_s):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start the jobs of the queue's first page, and those of further pages while they hold none that may start: one
        that waits for a quarantined one which runs here stays in the queue, one of a caller at its limit leaves it."""
        start = 0
        while job_ids:
            stayed, left = await self._start_page(job_ids)
            if stayed + left < len(job_ids) or len(job_ids) < self.queue_read_limit:
                return
            start += stayed
            job_ids = await self.pool.zrange(keys.QUEUE, start, start + self.queue_read_limit - 1)

    async def _start_page(self, job_ids: list[bytes]) -> tuple[int, int]:
        """Start jobs while there are slots. Returns how many quarantined ones must wait for one that runs here, and how
        many were parked."""
        stayed = left = 0
        for job_id in map(bytes.decode, job_ids):
            if self.job_counter >= self.max_jobs or not self.allow_pick_jobs:
                break
            if job_id in self.tasks:
                continue
            is_quarantined = job_id.startswith(QUARANTINE)
            if is_quarantined and self._quarantined and not self._quarantined.done():
                stayed += 1
                continue
            async with self._taking:
                taken = await self._queue.jobs.take(job_id, self._worker, 1000 * MARK_S)
                task = self._start(taken) if isinstance(taken, Taken) and taken.job_id not in self.tasks else None
            left += isinstance(taken, Parked)
            if taken and (isinstance(taken, Parked) or taken.job_id != job_id):
                self._awake.set()  # the queue has changed: read it again
            if task and is_quarantined:
                self._quarantined = task
        return stayed, left

    def _start(self, taken: Taken) -> "asyncio.Task[None]":
        self.job_counter += 1
        self.held.add(taken.job_id)
        task = self.tasks[taken.job_id] = self.loop.create_task(self.run_job(*taken))
        task.add_done_callback(self._free_slot)
        return task

    def _free_slot(self, _: "asyncio.Task[None]") -> None:
        self.job_counter -= 1
        self._awake.set()

    async def finish_job(self, job_id: str, *_: Any) -> None:
        """Remove what arq keeps of a job that has run. arq's own arguments ask for more, which nothing uses here."""
        self.held.discard(job_id)  # before the removal: a renewal must not follow it
        try:
            await self._queue.jobs.remove(job_id)
        except (Unavailable, RedisRefused):
            self._unremoved.add(job_id)

    async def finish_failed_job(self, job_id: str, _: bytes | None) -> None:
        """The same for a job whose payload is gone."""
        await self.finish_job(job_id)

    async def _logged(self, run: Job, *arguments: Any) -> None:
        """Run a job, and log what escapes it: arq's own logger, which repeats what a worker logs, is silent."""
        if self._must_end:
            raise asyncio.CancelledError
        try:
            await run(*arguments)
        except Exception:
            logger.exception("job %s: the run failed", " ".join(map(str, arguments[1:])))
            raise
