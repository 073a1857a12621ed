from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tailrace.settings import Settings
from tailrace_cli.embedded import EmbeddedServer
from tailrace_frontend.services import Services


@pytest.fixture
async def services(valkey: EmbeddedServer, redis: Redis) -> AsyncIterator[Services]:
    services = Services(Settings(redis_url=valkey.url, max_readers=1, models="demo"))
    yield services
    await services.log.server.close()
    await services.queue.server.close()
