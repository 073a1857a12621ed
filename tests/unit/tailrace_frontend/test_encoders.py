"""Encoders on the harness' log."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.hub_harness import HubHarness
from support.logs import record
from support.named_logs import LOGS
from tailrace.errors import NotFound
from tailrace.log.state import GenerationState
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.encoders import Encoders

RESPONSES, NATIVE = WIRE_FORMATS["openai-responses"], WIRE_FORMATS["native"]
RECORD = record(owner="open")


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness()
    yield harness
    await harness.close()


@pytest.fixture
async def state(harness: HubHarness) -> GenerationState:
    await harness.create(RECORD, LOGS["text"](RECORD))
    return await harness.log.state(RECORD.id)


async def test_readers_of_a_generation_share_an_encoder(harness: HubHarness, state: GenerationState) -> None:
    encoders = Encoders(harness.log, asyncio.Semaphore(2))
    one, two, *others = await asyncio.gather(*(encoders.bind(RESPONSES, state) for _ in range(20)))
    assert {one, two, *others} == {one}
    assert await encoders.bind(WIRE_FORMATS["openai-responses-obfuscated"], state) is not one


async def test_encoder_is_freed_with_its_last_reader(harness: HubHarness, state: GenerationState) -> None:
    encoders = Encoders(harness.log, asyncio.Semaphore(2))
    encode = await encoders.bind(RESPONSES, state)
    assert len(encoders._used) == 1
    del encode
    await asyncio.sleep(0)  # the finished call has it until then
    assert len(encoders._used) == 0


async def test_format_that_does_not_need_the_request_reads_nothing(harness: HubHarness, state: GenerationState) -> None:
    encoders = Encoders(harness.log, asyncio.Semaphore(0))
    encode = await encoders.bind(NATIVE, state)
    assert encode(LOGS["text"](RECORD)[0])


async def test_generation_that_is_gone_has_no_encoder(harness: HubHarness, state: GenerationState) -> None:
    await harness.redis.flushall()
    with pytest.raises(NotFound):
        await Encoders(harness.log, asyncio.Semaphore(2)).bind(RESPONSES, state)
