"""Memory of entries, size of pages, and facts about the server."""

import time

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import text_opened
from support.stored_log import STARTED, create_generation, stored_entries
from tailrace import keys
from tailrace.events import Text
from tailrace.ids import START, new_generation_id
from tailrace.log import Log
from tailrace.log.reading import FIRST_PAGE, PAGE_GROWTH, page_size


async def test_token_costs_at_most_20_bytes(log: Log, redis: Redis, writer: LogWriter) -> None:
    """2,000 short deltas of plain text, each an entry of its own; every byte of the stream counts.

    (Servers before Valkey 9 estimate the index of a stream, 4 bytes a token too high; `used_memory` grows as much.)
    """
    tokens = 2000
    vocabulary = (" the", " river", " keeps", " all", " it", " carries", ",", " and", " holds", " more", ".", " So")
    await writer.write(STARTED, text_opened())
    for start in range(0, tokens, 100):
        await writer.write(*(Text(0, vocabulary[seq % len(vocabulary)]) for seq in range(start, start + 100)))
    assert len(await stored_entries(redis, writer.generation_id)) == tokens + 3
    bytes_used = await redis.memory_usage(keys.log(writer.generation_id), samples=0)
    estimates = int(str((await redis.info("server")).get("valkey_version", "0")).partition(".")[0]) < 9
    assert bytes_used / tokens <= (24 if estimates else 20)


async def test_states_of_many_generations_are_read_in_one_round_trip(
    log: Log, generation_id: str, writer: LogWriter
) -> None:
    other = await create_generation(log, owner="bob")
    states = await log.states([generation_id, new_generation_id(), other])
    assert states == [await log.state(generation_id), None, await log.state(other, "bob")]


@pytest.mark.parametrize("place", ["server"], indirect=True)
async def test_reply_of_megabytes_does_not_delay_the_shared_connection(log: Log, writer: LogWriter) -> None:
    """Pages, `done` and the request have connections of their own: the shared one carries nothing here."""
    await writer.write(STARTED, text_opened(), Text(0, "x" * 1_000_000))
    await writer.finish()
    shared = await log.server.execute("CLIENT", "ID")
    before = await received_bytes(log, shared)
    assert len((await log.page(writer.generation_id, START, 100)).entries) == 5
    assert await log.done(writer.generation_id) is not None
    assert await log.stored_request(writer.generation_id)
    assert await received_bytes(log, shared) - before < 1000


async def received_bytes(log: Log, client_id: int) -> int:
    """Bytes that a connection has received so far (`tot-net-out` of `CLIENT LIST`)."""
    (line,) = (await log.server.execute_alone("CLIENT", "LIST", "ID", client_id)).decode().splitlines()
    if "tot-net-out=" not in line:
        pytest.skip("this server does not count the bytes of a connection (Valkey >= 8 does)")
    return int(line.partition("tot-net-out=")[2].split()[0])


@pytest.mark.parametrize("place", ["server"], indirect=True)
async def test_server_reports_its_run_id_and_age(log: Log, redis: Redis) -> None:
    run = await log.server.run()
    assert run.run_id.startswith((await redis.info("server"))["run_id"])
    assert 0 <= run.age_s < 3600
    assert abs(run.began_ms - (1000 * time.time() - 1000 * run.age_s)) < 2000


@pytest.mark.parametrize(
    ("text", "entries"),
    [("", 2000), ("x" * 100, 618), ("x" * 1000, 65), ("x" * 100_000, 1)],
)
def test_page_size_is_about_64_kib(text: str, entries: int) -> None:
    assert page_size(100, 100 * len("text:0" + text)) == entries


async def test_pages_of_large_entries_have_one_each(log: Log, writer: LogWriter) -> None:
    await writer.write(STARTED, text_opened())
    await writer.write_text(*["x" * 200_000] * (FIRST_PAGE + 2))
    await writer.write_text(*["y"] * 1000)
    limit, after, counts = FIRST_PAGE, START, []
    while (page := await log.page(writer.generation_id, after, limit)).entries:
        limit, after = page.limit, page.entries[-1].id
        counts.append(len(page.entries))
    small = [PAGE_GROWTH**power for power in range(4)]
    assert counts == [FIRST_PAGE, *5 * [1], *small, 1000 - sum(small)]
