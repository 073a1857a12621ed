"""A generation that waits for an attempt, and its worker's appender."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.attempts import AttemptHarness
from support.logs import record as record_of
from support.queues import submit
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait


@pytest.fixture
async def harness(redis: Redis, log: Log) -> AsyncIterator[AttemptHarness]:
    harness = AttemptHarness(redis, log)
    await submit(log, harness.queue, record_of(id=harness.generation_id))
    yield harness
    await harness.pool.close()
    await harness.json_checker.close()


@pytest.fixture
async def appending(harness: AttemptHarness) -> AsyncIterator[None]:
    task = asyncio.create_task(harness.appenders.run())
    yield
    await cancel_and_wait(task)
