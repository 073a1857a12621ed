"""A frontend's insides without a server: a log in a Redis of this process, a hub, and readers with clients of ours."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fakeredis.aioredis import FakeRedis
from uvicorn.protocols.http.flow_control import FlowControl

from support.sse import Event, Parser
from tailrace import keys
from tailrace.events import Done, Entry, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.log.codec import pack, to_row
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace.wire import WIRES
from tailrace_frontend.http.connection import ClientConnection
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.reader import Reader

PATIENCE_S = 5.0


async def until(condition: Callable[[], Any]) -> None:
    """Let everybody else go on until this holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0)


class Transport(asyncio.Transport):
    """A socket that knows only whether it was cut, and what its buffer was told to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.limit: int | None = None
        self.on_abort: Callable[[], None] = lambda: None
        self.on_write: Callable[[bytes], None] = lambda _: None
        self.on_limit: Callable[[], None] = lambda: None

    def write(self, data: Any) -> None:
        self.on_write(bytes(data))

    def abort(self) -> None:
        self.aborted = True
        self.on_abort()

    def is_closing(self) -> bool:
        return self.aborted

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        self.limit = high
        self.on_limit()


class Client:
    """Who reads: everything that was sent, and a socket that may be full.

    `fills_up`: each write fills it. `holds_back`: it is never full, and never empty.
    """

    reader: Reader

    def __init__(self, *, fills_up: bool = False, holds_back: bool = False) -> None:
        self.messages: list[dict[str, Any]] = []
        self.transport = Transport()
        self.flow = FlowControl(self.transport)
        self.connection = ClientConnection(self.transport, self.flow)
        self.transport.on_abort = self.leave
        self.transport.on_write = self._written
        self.fills_up = fills_up
        if holds_back:
            self.transport.on_limit = self._limited

    def _limited(self) -> None:
        if self.transport.limit == 0:
            self.flow.pause_writing()

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def _written(self, chunk: bytes) -> None:
        """What goes straight to the socket is framed as a piece of an answer without a length."""
        size, _, rest = chunk.partition(b"\r\n")
        assert rest[int(size, 16) :] == b"\r\n"
        self.messages.append({"type": "http.response.body", "body": rest[:-2], "more_body": True})
        if self.fills_up:
            self.flow.pause_writing()

    def leave(self) -> None:
        """The connection is lost, as the protocol learns of it."""
        self.flow.resume_writing()
        self.connection.lost = True
        if self.connection.on_lost:
            self.connection.on_lost()

    def was_cut(self) -> bool:
        return self.transport.aborted

    @property
    def record(self) -> dict[str, Any]:
        return self.messages[0]

    @property
    def pieces(self) -> list[bytes]:
        """What was sent, write by write."""
        return [message["body"] for message in self.messages[1:] if message["body"]]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def events(self) -> list[Event]:
        return Parser().feed(self.body)

    @property
    def comments(self) -> list[str]:
        parser = Parser()
        parser.feed(self.body)
        return parser.comments

    @property
    def ended(self) -> bool:
        """Whether the answer was completed, as it is not where the connection was cut."""
        return bool(self.messages) and self.messages[-1].get("more_body") is False


class OneByOne:
    """A pipeline for a Redis without a socket. Replies are as hiredis parses them."""

    def __init__(self, redis: Any) -> None:
        self._redis: Any = FakeRedis(connection_pool=redis.connection_pool)
        self._redis.response_callbacks.clear()

    async def execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [await self._redis.execute_command(*command) for command in commands]


class Web:
    """A hub on a log. Its subscriber hears what it is told here."""

    def __init__(self, **settings: Any) -> None:
        self.redis: Any = FakeRedis()
        self.log = Log(RedisServer(self.redis), 5000)
        self.log.server._pipeline = OneByOne(self.redis)  # type: ignore[assignment]
        self.hub = Hub(Settings(**settings), self.log)
        self.callers = {"anna"}
        self.tasks: list[asyncio.Task[None]] = []

    async def create(self, record: GenerationRecord, entries: Sequence[Entry], *, heard: bool = False) -> None:
        """A log that holds these entries."""
        fields = {
            "record": msgspec.json.encode(record), "created": record.created, "deadline": record.created + 3_600_000,
            "retention": 3_600_000, "status": "running", "job_id": "d", "attempt": 1, "lease": 0,
            "epoch": record.created, "seq": -1,
        }  # fmt: skip
        await self.redis.hset(keys.state(record.id), mapping=fields)
        await self.redis.hset(keys.tombstone(record.id), mapping={"owner": record.owner})
        await self.add(record, entries, heard=heard)

    async def add(self, record: GenerationRecord, entries: Sequence[Entry], *, heard: bool = True) -> None:
        """Append; `heard`: and publish."""
        rows = [to_row(entry) for entry in entries]
        for row in rows:
            fields = {row.field: row.value} | ({"extra": row.extra} if row.extra else {})
            await self.redis.xadd(keys.log(record.id), fields, id=str(row.id))
        if rows:
            last = entries[-1]
            status = last.event.status if isinstance(last.event, Done) else "running"
            top = {"seq": last.id.seq, "epoch": last.id.epoch, "status": status}
            await self.redis.hset(keys.state(record.id), mapping=top)
        if heard:
            self.publish(record, pack(rows))

    def publish(self, record: GenerationRecord, message: bytes) -> None:
        self.hub.subscriber._on_reply([b"smessage", keys.events(record.id).encode(), message])

    def confirm(self, record: GenerationRecord) -> None:
        """The server listens: said after every (re)connect."""
        self.hub.subscriber._on_reply([b"ssubscribe", keys.events(record.id).encode(), 1])

    def disconnect(self) -> None:
        """The subscriber's connection is lost."""
        self.hub.subscriber._on_disconnected()

    def reconnect(self) -> None:
        """The subscriber has a connection again."""
        self.hub.subscriber._on_connected(None)  # type: ignore[arg-type]  # a protocol that sends nothing

    async def delete(self, record: GenerationRecord) -> None:
        await self.redis.delete(keys.state(record.id), keys.log(record.id))
        await self.redis.hset(keys.tombstone(record.id), mapping={"deleted": 1})
        self.publish(record, b"")

    async def read(
        self,
        record: GenerationRecord,
        *,
        cursor: EntryId | None = None,
        wire: str = "native",
        client: Client | None = None,
    ) -> Client:
        """Somebody begins to read."""
        client = client or Client()
        state = await self.log.state(record.id)
        client.reader = Reader(
            self.hub, WIRES[wire], state, cursor, client.connection, client.send, self.callers.__contains__
        )
        self.tasks.append(asyncio.create_task(client.reader.run()))
        await until(lambda: client.messages)
        return client

    @property
    def reading(self) -> int:
        return sum(not task.done() for task in self.tasks)

    def tick(self, later_s: float = 0.0) -> None:
        """The hub's clock, as if it were later."""
        for reader in self.hub.readers:
            reader.tick(time.monotonic() + later_s)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        told = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.redis.aclose()
        for problem in told:
            if isinstance(problem, Exception):
                raise problem
