"""A server that has lost the scripts, by `SCRIPT FLUSH` or a restart."""

from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import REQUEST
from support.logs import record as record_of
from support.stored_log import ANSWER, STARTED, create_generation, read_all
from tailrace.ids import new_generation_id
from tailrace.log import AppendResult, Log, Outcome


async def test_every_script_is_loaded_again_after_a_script_flush(log: Log, redis: Redis) -> None:
    async def flush() -> None:
        await redis.script_flush()

    record = record_of(id=new_generation_id())
    await flush()
    await log.create(record, REQUEST, "first job")
    await flush()
    writer = await LogWriter.acquire(log, record.id, "one")
    await flush()
    await writer.write(*ANSWER)
    await flush()
    assert await log.renew([(record.id, writer.epoch, False)]) == [Outcome.OK]
    await flush()
    await log.touch_presence([record.id])
    await flush()
    assert await log.restore(writer.state, REQUEST, writer.rows) is Outcome.OK
    await flush()
    assert await log.release(record.id, writer.epoch, "another job") is Outcome.OK
    await flush()
    assert (await writer.finish()).outcome is Outcome.OK
    await flush()
    assert await log.delete(record.id) is Outcome.OK


async def test_pipelined_appends_survive_a_script_flush(log: Log, redis: Redis) -> None:
    writers = [await LogWriter.acquire(log, await create_generation(log), "one") for _ in range(20)]
    for _ in range(2):
        await redis.script_flush()
        results = await log.append([writer.batch(STARTED) for writer in writers])
        assert results == [AppendResult(Outcome.OK, writer.last_seq) for writer in writers]
    for writer in writers:
        assert await read_all(log, writer.generation_id) == writer.entries


async def test_full_server_without_scripts_still_ends_a_running_generation(
    log: Log, redis: Redis, writer: LogWriter, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    await redis.script_flush()
    finisher = await LogWriter.acquire(log, writer.generation_id, "end", terminating="failed")
    await redis.script_flush()
    assert (await finisher.finish("failed")).outcome is Outcome.OK
