"""A worker process on the real server, in the test's own: its appender runs, the rest is called by the test."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.attempts import ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.logs import record as record_of
from support.queues import submit
from support.subscriptions import connection_of
from tailrace.ids import new_generation_id
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_worker.worker import GenerationWorker


class WorkerHarness:
    """The process, and the answers of its upstream, where they are scripted."""

    def __init__(self, url: str) -> None:
        self.process = GenerationWorker(Settings(redis_url=url, drain_s=0.2))
        self.log, self.queue = self.process.log, self.process.queue
        self.dialect: ScriptedDialect | None = None

    async def run(self, **changes: Any) -> str:
        """Have the worker take a new generation; its id, once its upstream is open."""
        assert self.dialect is not None
        record = record_of(id=new_generation_id(), **changes)
        await submit(self.log, self.queue, record)
        job_id = (await self.log.state(record.id)).job_id
        opened = self.dialect.opened
        await self.process.job_runner.start_jobs([job_id.encode()])
        async with asyncio.timeout(5):
            while self.dialect.opened == opened:  # noqa: ASYNC110 - the dialect signals nothing
                await asyncio.sleep(0.01)
        return record.id

    def connect(self, seconds: float) -> None:
        """The control channel has been connected for so many seconds."""
        connection_of(self.process.control)._disconnected_since = None
        connection_of(self.process.control)._connected_at = time.monotonic() - seconds

    async def ended(self, generation_id: str) -> None:
        """Wait until the worker runs the generation no more."""
        async with asyncio.timeout(5):
            while generation_id in self.process.running:  # noqa: ASYNC110 - the worker signals nothing
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def worker_harness(url: str) -> AsyncIterator[WorkerHarness]:
    harness = WorkerHarness(url)
    appending = asyncio.create_task(harness.process.appenders.run())
    confirming = asyncio.create_task(harness.process.confirmations.run())
    yield harness
    for job in harness.process.job_runner.job_tasks.values():
        job.cancel()
    await asyncio.gather(*harness.process.job_runner.tasks.values(), return_exceptions=True)
    await cancel_and_wait(appending, confirming)
    await harness.process._close()


def answer_hi(harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Every answer of the upstream is `Hi`, and ends once this event is set."""
    finish = asyncio.Event()
    harness.dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), finish, end())
    return finish
