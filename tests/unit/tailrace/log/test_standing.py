"""What a sweeper knows of a generation without its state."""

from typing import Any

import pytest
from redis.asyncio import Redis

from support.stored_log import create_generation
from tailrace import keys
from tailrace.ids import new_generation_id, new_token
from tailrace.log import Log
from tailrace.log.standing import UNCLEAR, Standing, standings


async def standing(log: Log, generation_id: str) -> Standing:
    (found,) = await standings(log.server, [generation_id], await log.server.now())
    return found


async def test_generation_that_waits_for_its_first_run_is_known_by_its_job(log: Log) -> None:
    generation_id = await create_generation(log)
    state = await log.state(generation_id)
    assert await standing(log, generation_id) == Standing(False, True, state.job_id)


async def test_generation_runs_while_its_lease_lives(log: Log, redis: Redis) -> None:
    generation_id = await create_generation(log)
    await log.acquire(generation_id, new_token(), worker="w")
    assert await standing(log, generation_id) == Standing(True, False, "")
    await redis.hset(keys.state(generation_id), "lease", "1")  # type: ignore[misc]
    assert await standing(log, generation_id) == UNCLEAR


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "completed"}, {"attempt": "1"}, {"deadline": "1"}, {"terminating": "cancelled"},
        {"record": '{"options":{"on_disconnect":"cancel"}}'}, {"deadline": "x"}, {"status": "running", "lease": "x"},
    ],
)  # fmt: skip
async def test_any_other_generation_is_unclear(log: Log, redis: Redis, fields: dict[str, Any]) -> None:
    generation_id = await create_generation(log)
    await redis.hset(keys.state(generation_id), mapping=fields)  # type: ignore[misc]
    assert await standing(log, generation_id) == UNCLEAR


async def test_generation_that_is_gone_or_has_lost_a_field_is_unclear(log: Log, redis: Redis) -> None:
    assert await standing(log, new_generation_id()) == UNCLEAR
    generation_id = await create_generation(log)
    await redis.hdel(keys.state(generation_id), "job_id")  # type: ignore[misc]
    assert await standing(log, generation_id) == UNCLEAR
