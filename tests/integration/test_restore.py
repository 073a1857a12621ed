"""A worker with many logs on a server that comes back empty: all are restored before any reader is sent `gone`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.api import eventually
from support.hub_harness import HEADERS, Client
from support.logs import REQUEST
from support.queues import queue_on
from tailrace.events import Entry, GenerationRecord, ItemOpened, Options, Started, Text
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import Log, Outcome
from tailrace.log.codec import to_row
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS
from tailrace_cli.embedded import EmbeddedServer
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.stream_connection import StreamConnection
from tailrace_worker.appender import RESTORES, Appender
from tailrace_worker.writer import Writer

GENERATIONS = 40
ROWS = 1000
LEASE_S = 1.0
RESTORE_S = 3 * LEASE_S * RESTORES / GENERATIONS
"""Of each log, so that all take three leases."""


class Product:
    """The parts of a worker and of a frontend that restore and read, in this process."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        settings = Settings(redis_url=server.url, lease_s=LEASE_S)
        self.log, self.reading = Log.connect(settings), Log.connect(settings)
        self.hub = Hub(settings, self.reading)
        self.hub.start()
        index = queue_on(self.log.server.client).index
        self.appender = Appender(self.log, index.register)
        self.tasks = [asyncio.create_task(self.appender.run())]
        self.writers: list[Writer] = []
        self.clients: list[Client] = []

    async def run_generation(self, rows: int) -> None:
        """A log with so many rows, of which Redis has the first ones, and a reader that follows it."""
        record = GenerationRecord(new_generation_id(), "anna", "m", Options(600, 600))
        await self.log.create(record, REQUEST, "job")
        writer = Writer(await self.log.acquire(record.id, "token", worker="w"), self.appender.wake)
        writer.add(Started(1, 1.0))
        writer.add(ItemOpened(0, "text", choices=[0]))
        await writer.flush()
        first = writer.output.last_id.seq + 1
        writer.rows += [to_row(Entry(EntryId(writer.epoch, first + n), Text(0, " word"))) for n in range(rows)]
        writer.output.last_id = EntryId(writer.epoch, first + rows - 1)
        writer.resend(first)
        await writer.flush()
        self.writers.append(writer)
        client, wire = Client(), WIRE_FORMATS["native"]
        client.stream = StreamConnection(
            self.hub, wire, wire.bind(record, REQUEST), await self.log.state(record.id), None,
            headers=HEADERS, client=client.connection, send=client.send,
            caller=ApiKey(record.owner, b""), may_read=lambda _: True,
        )  # fmt: skip
        self.tasks.append(asyncio.create_task(client.stream.run()))
        self.clients.append(client)

    async def until_followed(self) -> None:
        async with asyncio.timeout(20):
            while any(client.stream.cursor.state is not State.FOLLOWING for client in self.clients):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def lose(self) -> None:
        """The server comes back empty, and the worker learns so from its renewals."""
        self.server.kill()
        await asyncio.to_thread(self.server.start)
        for writer in self.writers:
            writer.resend(writer.output.last_id.seq)

    async def close(self) -> None:
        for client in self.clients:
            client.disconnect()
        await cancel_and_wait(*self.tasks)
        await self.hub.close()
        await self.log.server.close()
        await self.reading.server.close()


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    server = EmbeddedServer(tmp_path / "valkey", appendonly="no")
    server.start()
    product = Product(server)
    yield product
    await product.close()
    server.kill()


async def test_readers_of_many_logs_wait_until_all_are_restored(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(GENERATIONS):
        await product.run_generation(ROWS)
    await product.until_followed()
    restore, restored = product.log.restore, 0

    async def slow_restore(*args: Any) -> Outcome:
        nonlocal restored
        outcome = await restore(*args)
        await asyncio.sleep(RESTORE_S)
        restored += 1
        return outcome

    monkeypatch.setattr(product.log, "restore", slow_restore)
    late, *_, last = product.writers
    late.add(Text(0, " the first to be restored"))
    await product.lose()
    last.add(Text(0, " the last to be restored"))
    await late.flush()
    assert restored < GENERATIONS / 2
    await asyncio.gather(*(writer.flush() for writer in product.writers))
    await product.until_followed()
    assert restored == GENERATIONS
    assert not [client.kinds for client in product.clients if {"gone", "restarted"} & set(client.kinds)]
    await eventually(lambda: _has_all(product.clients[-1]))


async def _has_all(client: Client) -> bool:
    return str(client.events[-1].value["text"]).endswith(" the last to be restored")
