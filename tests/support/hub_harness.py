"""The inside of a frontend without a server: a hub on a log in a fake Redis, cursors, connections with fake sockets."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fakeredis.aioredis import FakeRedis
from uvicorn.protocols.http.flow_control import FlowControl

from support.logs import REQUEST
from support.sse import Event, Parser
from support.subscriptions import connection_of
from tailrace import keys
from tailrace.events import Done, Entry, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.log.codec import pack, to_row
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.inflight import Inflight
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.log_cursor import LogCursor
from tailrace_frontend.streaming.stream_connection import StreamConnection

TIMEOUT_S = 5.0
HEADERS = [(b"x-test", b"1")]


async def until(condition: Callable[[], Any]) -> None:
    """Let other tasks run until the condition holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0)


class Transport(asyncio.Transport):
    """A socket that records whether it was aborted, and the limit of its write buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.limit: int | None = None
        self.on_abort: Callable[[], None] = lambda: None
        self.on_write: Callable[[bytes], None] = lambda _: None
        self.on_limit: Callable[[], None] = lambda: None

    def get_protocol(self) -> Any:
        """None, as uvloop's, once the connection is lost."""
        return None if self.aborted else self

    def release_parser(self) -> None:
        """As of the protocol."""

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


class Received:
    """The bytes that were written, and the Server-Sent Events in them."""

    @property
    def writes(self) -> list[bytes]:
        raise NotImplementedError

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    @property
    def events(self) -> list[Event]:
        return Parser().feed(self.body)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def comments(self) -> list[str]:
        parser = Parser()
        parser.feed(self.body)
        return parser.comments


class Client(Received):
    """A client with a socket: the messages that were sent to it.

    `fills_on_write`: each write fills its socket. `never_flushes`: its socket is never full and never empty.
    """

    stream: StreamConnection

    def __init__(self, *, fills_on_write: bool = False, never_flushes: bool = False) -> None:
        self.messages: list[dict[str, Any]] = []
        self.transport = Transport()
        self.flow = FlowControl(self.transport)
        self.connection = ClientConnection(self.transport, self.flow, Inflight(1))
        self.transport.on_abort = self.disconnect
        self.transport.on_write = self._on_write
        self.fills_on_write = fills_on_write
        if never_flushes:
            self.transport.on_limit = self._on_limit

    def _on_limit(self) -> None:
        if self.transport.limit == 0:
            self.flow.pause_writing()

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    def _on_write(self, chunk: bytes) -> None:
        """A direct write has the framing of a chunked body."""
        size, _, rest = chunk.partition(b"\r\n")
        assert rest[int(size, 16) :] == b"\r\n"
        self.messages.append({"type": "http.response.body", "body": rest[:-2], "more_body": True})
        if self.fills_on_write:
            self.flow.pause_writing()

    def disconnect(self) -> None:
        """Lose the connection, in the way in which the protocol learns of it."""
        self.flow.resume_writing()
        self.connection.lost = True
        if self.connection.on_lost:
            self.connection.on_lost()

    def was_aborted(self) -> bool:
        return self.transport.aborted

    @property
    def start(self) -> dict[str, Any]:
        return self.messages[0]

    @property
    def writes(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:] if message["body"]]

    @property
    def completed(self) -> bool:
        """Whether the response has ended regularly; an aborted one has not."""
        return bool(self.messages) and self.messages[-1].get("more_body") is False


class Collector(Received):
    """A sink without a socket: it drives one cursor as a connection does, and collects what the cursor writes."""

    cursor: LogCursor

    def __init__(self) -> None:
        self.is_idle = False
        self.has_room = self.has_begun = True
        self.held, self.most_held = 0, 1024 * 1024
        self._writes: list[bytes] = []
        self._wakeup = asyncio.Event()
        self._error: Exception | None = None

    @property
    def writes(self) -> list[bytes]:
        return self._writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        if not self.has_room:
            self.wake()

    async def begin(self) -> None:
        raise AssertionError("it has begun")

    def hold(self, size: int) -> bool:
        self.held = size
        return size <= self.most_held

    def wake(self) -> None:
        self.is_idle = False
        self._wakeup.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self.wake()

    async def run(self) -> None:
        """Advance the cursor to its final state, also across times without room."""
        while not self.cursor.is_final:
            if not self.has_room or (not await self.cursor.advance() and not self.cursor.is_final):
                self._wakeup.clear()
                self.is_idle = self.has_room
                await self._wakeup.wait()
            if self._error:
                raise self._error

    def make_room(self) -> None:
        self.has_room = True
        self.wake()


class SequentialPipeline:
    """A pipeline for a fake Redis, which has no socket. Replies are as hiredis parses them."""

    def __init__(self, redis: Any) -> None:
        self._redis: Any = FakeRedis(connection_pool=redis.connection_pool)
        self._redis.response_callbacks.clear()

    async def execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [await self._redis.execute_command(*command) for command in commands]


class HubHarness:
    """A hub on a log in a fake Redis. The test publishes, and ticks."""

    def __init__(self, **settings: Any) -> None:
        self.redis: Any = FakeRedis()
        self.log = Log(RedisServer(self.redis), 5000)
        pipeline: Any = SequentialPipeline(self.redis)
        self.log.server._pipeline = self.log.server._pages = pipeline
        self.hub = Hub(Settings(**settings), self.log)
        self.valid_owners = {"anna"}
        self.tasks: list[asyncio.Task[None]] = []

    async def create(self, record: GenerationRecord, entries: Sequence[Entry], *, published: bool = False) -> None:
        """Store a log that holds these entries."""
        fields = {
            "record": msgspec.json.encode(record), "request": msgspec.json.encode(REQUEST),
            "created": record.created, "deadline": record.created + 3_600_000, "retention": 3_600_000,
            "status": "running", "job_id": "d", "attempt": 1, "lease": 0, "epoch": record.created, "seq": -1,
        }  # fmt: skip
        await self.redis.hset(keys.state(record.id), mapping=fields)
        await self.redis.hset(keys.tombstone(record.id), mapping={"owner": record.owner})
        await self.append(record, entries, published=published)

    async def append(self, record: GenerationRecord, entries: Sequence[Entry], *, published: bool = True) -> None:
        """Append, and publish unless the message is to be lost."""
        rows = [to_row(entry) for entry in entries]
        for row in rows:
            fields = {row.field: row.value} | ({"extra": row.extra} if row.extra else {})
            await self.redis.xadd(keys.log(record.id), fields, id=str(row.id))
        if rows:
            last = entries[-1]
            status = last.event.status if isinstance(last.event, Done) else "running"
            newest = {"seq": last.id.seq, "epoch": last.id.epoch, "status": status}
            await self.redis.hset(keys.state(record.id), mapping=newest)
        if published:
            self.publish(record, pack(rows))

    async def delete(self, record: GenerationRecord) -> None:
        await self.redis.delete(keys.state(record.id), keys.log(record.id))
        await self.redis.hset(keys.tombstone(record.id), mapping={"deleted": 1})
        self.publish(record, b"")

    def publish(self, record: GenerationRecord, message: bytes) -> None:
        connection_of(self.hub.subscriber)._on_reply([b"smessage", keys.events(record.id).encode(), message])

    def confirm(self, record: GenerationRecord) -> None:
        """The server has confirmed the subscription, as it does after every (re)connection."""
        connection_of(self.hub.subscriber)._on_reply([b"ssubscribe", keys.events(record.id).encode(), 1])

    def disconnect(self) -> None:
        """The subscriber's connection is lost."""
        connection_of(self.hub.subscriber)._on_disconnected()

    def reconnect(self) -> None:
        """The subscriber has a connection again."""
        connection_of(self.hub.subscriber)._on_connected()

    async def follow(
        self,
        record: GenerationRecord,
        *,
        after: EntryId | None = None,
        seen_to: int = -1,
        wire: str = "native",
        has_room: bool = True,
    ) -> Collector:
        """A cursor on the log, and a collector that runs it."""
        collector, chosen = Collector(), WIRE_FORMATS[wire]
        collector.has_room = has_room
        state, encode = await self.log.state(record.id), chosen.bind(record, REQUEST)
        collector.cursor = LogCursor(self.hub, chosen, encode, state, after, collector, seen_to)
        self.tasks.append(asyncio.create_task(collector.run()))
        return collector

    async def connect(
        self,
        record: GenerationRecord,
        *,
        after: EntryId | None = None,
        wire: str = "native",
        client: Client | None = None,
        watcher: str = "",
    ) -> Client:
        """A client that reads the log; `watcher`: an operator of that name."""
        client, chosen = client or Client(), WIRE_FORMATS[wire]
        client.stream = StreamConnection(
            self.hub, chosen, chosen.bind(record, REQUEST), await self.log.state(record.id), after,
            headers=HEADERS, client=client.connection, send=client.send, caller=ApiKey(watcher or record.owner, b""),
            may_read=lambda key: key.owner in self.valid_owners or bool(watcher), watches=bool(watcher),
        )  # fmt: skip
        self.tasks.append(asyncio.create_task(client.stream.run()))
        await until(lambda: client.messages)
        return client

    @property
    def running(self) -> int:
        """Cursors and connections that have not ended."""
        return sum(not task.done() for task in self.tasks)

    def tick(self, later_s: float = 0.0) -> None:
        """The hub's tick, as if it were later."""
        for connection in self.hub.connections:
            connection.tick(time.monotonic() + later_s)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.redis.aclose()
        for problem in results:
            if isinstance(problem, Exception):
                raise problem
