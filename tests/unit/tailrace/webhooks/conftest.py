import pytest
from redis.asyncio import Redis

from tailrace.redis.server import RedisServer
from tailrace.webhooks import Endpoints, Outbox


@pytest.fixture
def endpoints(redis: Redis) -> Endpoints:
    return Endpoints(RedisServer(redis))


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(RedisServer(redis))
