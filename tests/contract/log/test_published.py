"""Messages that the scripts publish."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import REQUEST
from support.stored_log import ANSWER, STARTED, create_generation, lose
from support.subscriptions import TIMEOUT_S, Messages, subscribed
from tailrace import keys
from tailrace.events import Entry, Text, seq_span
from tailrace.ids import EntryId
from tailrace.log import AppendBatch, Log
from tailrace.log.codec import STAMPED, Row, from_row, take_stamp, unpack


@pytest.fixture
async def published(log: Log, generation_id: str) -> AsyncIterator[Messages]:
    """The messages on the generation's channel."""
    async with subscribed(log.server, keys.events(generation_id)) as messages:
        yield messages


async def rows_of_next(published: Messages) -> list[Row]:
    async with asyncio.timeout(TIMEOUT_S):
        message = await published.get()
    assert message is not None
    if not message:
        return []
    rows = unpack(message)
    sent_at = take_stamp(rows)
    assert (sent_at is not None) == any(row.seq % STAMPED == 0 for row in rows)
    assert sent_at is None or abs(sent_at - time.time()) < 60
    return rows


async def test_subscribers_receive_exactly_the_appended_rows(log: Log, generation_id: str, published: Messages) -> None:
    writer = await LogWriter.acquire(log, generation_id, "one")
    for batch in (
        await writer.write(STARTED),
        await writer.write(*ANSWER[1:]),
        await writer.write(Text(0, "\x00 \u2028 ü")),
    ):
        assert await rows_of_next(published) == batch.rows
    await writer.finish()
    assert [from_row(row) for row in await rows_of_next(published)] == [
        Entry(EntryId(writer.epoch, writer.last_seq + seq_span(writer.done())), writer.done())
    ]
    assert published.empty()


async def test_subscribers_receive_nothing_for_calls_that_add_nothing(
    log: Log, generation_id: str, published: Messages
) -> None:
    writer = await LogWriter.acquire(log, generation_id, "one")
    batch = await writer.write(*ANSWER)
    assert await rows_of_next(published) == batch.rows
    await writer.send(batch)
    await writer.send(AppendBatch(generation_id, writer.epoch, writer.last_seq + 5, batch.rows))
    await writer.send(structs.replace(batch, epoch=1))
    await log.finish(generation_id, writer.epoch, writer.last_seq + 1, writer.done())
    await log.renew([(generation_id, writer.epoch, False)])
    await writer.finish()
    assert len(await rows_of_next(published)) == 1
    await writer.finish()
    await writer.send(batch)
    await log.delete(generation_id)
    assert await rows_of_next(published) == []
    assert published.empty()


async def test_subscribers_receive_an_empty_message_when_a_log_is_restored(
    log: Log, redis: Redis, generation_id: str, published: Messages
) -> None:
    writer = await LogWriter.acquire(log, generation_id, "one")
    await lose(redis, generation_id)
    await log.restore(writer.state, REQUEST, writer.rows)
    assert await rows_of_next(published) == []


async def test_worker_that_holds_the_lease_is_notified_and_no_other(log: Log, writer: LogWriter) -> None:
    async with subscribed(log.server, keys.worker("first"), keys.worker("")) as messages, asyncio.timeout(TIMEOUT_S):
        queued = await create_generation(log)
        await log.notify_worker(await log.state(queued))
        await log.notify_worker(await log.state(writer.generation_id))
        assert await messages.get() == writer.generation_id.encode()
