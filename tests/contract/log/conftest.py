"""A generation in a real Redis, and the attempt that writes it."""

import pytest

from support.log_writer import LogWriter
from support.stored_log import create_generation
from tailrace.log import Log


@pytest.fixture
async def generation_id(log: Log) -> str:
    return await create_generation(log)


@pytest.fixture
async def writer(log: Log, generation_id: str) -> LogWriter:
    return await LogWriter.acquire(log, generation_id, "one", worker="first")
