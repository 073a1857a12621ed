"""Memory of entries, size of pages, and facts about the server."""

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import text_opened
from support.stored_log import STARTED, create_generation, stored_entries
from tailrace import keys
from tailrace.events import Text
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.log.reading import page_size


async def test_token_costs_at_most_20_bytes(log: Log, redis: Redis, writer: LogWriter) -> None:
    """2,000 short deltas of plain text, each an entry of its own; every byte of the stream counts."""
    tokens = 2000
    vocabulary = (" the", " river", " keeps", " all", " it", " carries", ",", " and", " holds", " more", ".", " So")
    await writer.write(STARTED, text_opened())
    for start in range(0, tokens, 100):
        await writer.write(*(Text(0, vocabulary[seq % len(vocabulary)]) for seq in range(start, start + 100)))
    assert len(await stored_entries(redis, writer.generation_id)) == tokens + 3
    bytes_used = await redis.memory_usage(keys.log(writer.generation_id), samples=0)
    assert bytes_used / tokens <= 20


async def test_states_of_many_generations_are_read_in_one_round_trip(
    log: Log, generation_id: str, writer: LogWriter
) -> None:
    other = await create_generation(log, owner="bob")
    states = await log.states([generation_id, new_generation_id(), other])
    assert states == [await log.state(generation_id), None, await log.state(other, "bob")]


async def test_server_reports_its_run_id_and_age(log: Log, redis: Redis) -> None:
    run, age = await log.server.run()
    assert run == (await redis.info("server"))["run_id"]
    assert 0 <= age < 3600


@pytest.mark.parametrize(
    ("text", "entries"),
    [("", 2000), ("x" * 100, 618), ("x" * 1000, 65), ("x" * 100_000, 16)],
)
def test_page_size_is_about_64_kib(text: str, entries: int) -> None:
    assert page_size(100, 100 * len("text:0" + text)) == entries
