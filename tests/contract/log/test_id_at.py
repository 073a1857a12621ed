"""`id_at`: where a reader goes on that knows a sequence number only."""

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.stored_log import ANSWER, expire_lease, read_all
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import Log


async def id_at(log: Log, generation_id: str, seq: int) -> EntryId:
    return await log.id_at(generation_id, seq, (await log.state(generation_id)).epoch)


async def test_id_at_is_the_last_entry_at_or_below_a_number(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    for attempt in (2, 3):
        await expire_lease(redis, writer.generation_id)
        later = await LogWriter.acquire(log, writer.generation_id, f"attempt {attempt}", worker=f"worker {attempt}")
        await later.write(later.restarted(attempt), *ANSWER[1:])
    await later.end()
    ids = [entry.id for entry in await read_all(log, writer.generation_id)]
    assert len({entry_id.epoch for entry_id in ids}) == 4  # of the creation, and of each attempt
    for seq in range(ids[-1].seq + 3):
        assert await id_at(log, writer.generation_id, seq) == max(each for each in ids if each.seq <= seq)


@pytest.mark.parametrize("attempts", [0, 1])
async def test_id_at_of_an_epoch_without_entries_is_in_the_one_before(
    log: Log, redis: Redis, writer: LogWriter, attempts: int
) -> None:
    if attempts:
        await writer.write(*ANSWER)
    newest = (await read_all(log, writer.generation_id))[-1].id
    await expire_lease(redis, writer.generation_id)
    await LogWriter.acquire(log, writer.generation_id, "writes nothing", worker="another")
    assert await id_at(log, writer.generation_id, 1000) == newest
    assert await id_at(log, writer.generation_id, 0) == (await read_all(log, writer.generation_id))[0].id


async def test_id_at_of_a_log_that_does_not_exist_is_its_beginning(log: Log) -> None:
    assert await log.id_at(new_generation_id(), 5, 1) == START
