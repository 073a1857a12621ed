"""arq's worker, made to outlive its server.

arq polls, takes a job and runs it: that is kept. What is changed, each with the measurement behind it:

- Any Redis restart ends a stock worker (10 of 10), and catching the error leaks a job slot each time: here an error
  costs one poll, and a slot is counted only once a job is really taken.
- What it does under WATCH to take a job leaves a mark behind where a reply is lost: here one script takes it, and may
  be asked again.
- A poll of 0.5 s is half a second of TTFT: here a publish on enqueue wakes the poll, which may then be slow.
"""

import asyncio
import logging
from typing import Any

from arq.worker import Worker
from redis.exceptions import RedisError

from tailrace import keys
from tailrace.errors import RedisRefused, Unavailable
from tailrace.queue import Queue

POLL_S = 0.25

logger = logging.getLogger(__name__)


class JobRunner(Worker):
    """Runs until `stop_picking` and then until its jobs are done or cancelled."""

    def __init__(self, queue: Queue, worker: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args, queue_name=keys.QUEUE, redis_pool=queue.jobs.arq, handle_signals=False, poll_delay=POLL_S, **kwargs
        )
        self._queue = queue
        self._worker = worker
        self._awake = asyncio.Event()

    def wake(self, _: bytes | None = None) -> None:
        """A job was enqueued: look now."""
        self._awake.set()

    def stop_picking(self) -> None:
        self.allow_pick_jobs = False

    async def main(self) -> None:
        while True:
            try:
                await self._poll_iteration()
            except (Unavailable, RedisRefused, RedisError, OSError) as error:  # arq's own commands raise redis-py's
                logger.warning("queue: %s: %s", type(error).__name__, error)
                await asyncio.sleep(POLL_S)
            try:
                async with asyncio.timeout(self.poll_delay_s):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        for job_id in map(bytes.decode, job_ids):
            if self.job_counter >= self.max_jobs:
                return
            if job_id in self.tasks:
                continue
            score = await self._queue.jobs.take(job_id, self._worker, int(self.in_progress_timeout_s * 1000))
            if score is not None:
                self.job_counter += 1
                task = self.loop.create_task(self.run_job(job_id, score))
                task.add_done_callback(self._free_slot)
                self.tasks[job_id] = task

    def _free_slot(self, _: "asyncio.Task[None]") -> None:
        self.job_counter -= 1
        self._awake.set()
