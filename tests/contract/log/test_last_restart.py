"""`last_restart`: where a reader begins whose format has no `restarted`."""

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.stored_log import ANSWER, expire_lease
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import Log


async def restart(log: Log, redis: Redis, generation_id: str, attempt: int) -> LogWriter:
    """A later attempt that has discarded the output of the ones before."""
    await expire_lease(redis, generation_id)
    later = await LogWriter.acquire(log, generation_id, f"attempt {attempt}", worker=f"worker {attempt}")
    await later.write(later.restarted(attempt), *ANSWER[1:])
    return later


async def last_restart(log: Log, generation_id: str) -> EntryId | None:
    return await log.last_restart(generation_id, (await log.state(generation_id)).epoch)


async def test_last_restart_of_a_first_attempt_is_none(log: Log, writer: LogWriter) -> None:
    assert await log.last_restart(new_generation_id(), 1) is None
    assert await last_restart(log, writer.generation_id) is None
    await writer.write(*ANSWER)
    assert await last_restart(log, writer.generation_id) is None
    await writer.end()
    assert await last_restart(log, writer.generation_id) is None


@pytest.mark.parametrize("attempts", [2, 4])
@pytest.mark.parametrize("end", ["running", "by its worker", "by another process", "acquired"])
async def test_last_restart_is_the_newest(log: Log, redis: Redis, writer: LogWriter, attempts: int, end: str) -> None:
    await writer.write(*ANSWER)
    generation_id, last = writer.generation_id, writer
    for attempt in range(2, attempts + 1):
        last = await restart(log, redis, generation_id, attempt)
    begun = next(entry.id for entry in last.entries if entry.id.epoch == last.epoch)
    match end:
        case "by its worker":
            await last.end()
        case "by another process":
            await (await LogWriter.acquire(log, generation_id, "end", terminating="cancelled")).end("cancelled")
        case "acquired":
            await expire_lease(redis, generation_id)
            await LogWriter.acquire(log, generation_id, "writes nothing", worker="yet another")
    assert await last_restart(log, generation_id) == begun


async def test_last_restart_after_an_attempt_that_wrote_no_item(log: Log, redis: Redis, writer: LogWriter) -> None:
    """Such an attempt is followed by `started`, and by `restarted` only once there is an item."""
    await writer.write(ANSWER[0])
    await expire_lease(redis, writer.generation_id)
    second = await LogWriter.acquire(log, writer.generation_id, "two", worker="second")
    await second.write(*ANSWER)
    assert await last_restart(log, writer.generation_id) is None
    third = await restart(log, redis, writer.generation_id, 3)
    assert await last_restart(log, writer.generation_id) == third.entries[-len(ANSWER)].id
