"""What an event costs by part: `PYTHONPATH=tests python -m bench.parts` prints µs of CPU, in one process.

An event of 200 logs with a reader each, in the frontend; a chunk of 60 answers, in the worker. Eight of them make a
batch, as a read and a pipeline have them at 4,000 a second. Warm: one batch follows another. Cold: 2 MB are read before
each batch, so that nothing of it is in the core's caches, as after a sleep on a core that others use. Not in here: the
wake-ups of the loop, the HTTP client of the worker, and the readers that a write wakes. The whole is `scripts/bench`.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import hiredis
import uvloop

from bench.upstream import frame
from support.logs import record as record_of
from tailrace import keys, scripts
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.log.codec import Row, message, received, stamp
from tailrace.log.results import append_result_of
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS, WireFormat
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.live_tail import LiveTail
from tailrace_frontend.streaming.stream_connection import StreamConnection
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.sse import Splitter
from tailrace_worker.writer import Writer

LOGS, ANSWERS, AT_ONCE, BATCHES, RUNS = 200, 60, 8, 10, 75
CACHE = bytes(2 * 1024 * 1024)
EPOCH, NATIVE = 1_795_235_902_123, WIRE_FORMATS["native"]

Work = Callable[[], object]
Listener = Callable[[bytes], object]


class Discarding:
    """A transport that takes everything."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        """Nothing: what precedes the write is measured."""


class Taking:
    """A follower that takes every entry."""

    def on_entries(self, *_: object) -> bool:
        return True

    def on_resync(self, *_: object) -> None:
        raise AssertionError("no message is missing")

    on_position = on_resync


class Frontend:
    """An event, in stages that each contain those before it."""

    def __init__(self, transports: Sequence[Any]) -> None:
        self._hub = Hub(Settings(), Log(RedisServer.connect("redis://127.0.0.1:9"), 1000))
        self._channels = [keys.events(new_generation_id()).encode() for _ in range(LOGS)]
        self.stages: Mapping[str, Iterator[Work]] = {
            "the reply, parsed": self._reads([lambda _: None] * LOGS),
            "its entries, decoded": self._reads([received] * LOGS),
            "the live tail": self._reads([tail(None) for _ in range(LOGS)]),
            "the frame, encoded": self._reads([tail(NATIVE) for _ in range(LOGS)]),
            "cursor, connection, chunk": self._reads([self._reader(Discarding()) for _ in range(LOGS)]),
            "the write (uvloop, kernel)": self._reads([self._reader(transport) for transport in transports]),
        }

    def _reader(self, transport: Any) -> Listener:
        record = record_of(id=new_generation_id())
        client: Any = ClientConnection(transport, SimpleNamespace(write_paused=False), None)  # type: ignore[arg-type]
        state: Any = SimpleNamespace(record=record, attempt=1, is_final=False)
        caller: Any = SimpleNamespace(owner="")
        connection = StreamConnection(
            self._hub, NATIVE, NATIVE.bind(record, None), state, EntryId(EPOCH, 0), headers=(), client=client,
            send=None, caller=caller, may_read=lambda _: True,  # type: ignore[arg-type]
        )  # fmt: skip
        connection.is_idle, connection.cursor.state = True, State.FOLLOWING
        return connection.cursor._tail.on_message

    def _reads(self, listeners: Sequence[Listener]) -> Iterator[Work]:
        """Reads of some messages each, of one log after another."""
        pack: Any = hiredis.pack_command
        parser, by_channel, events = (
            hiredis.Reader(),
            dict(zip(self._channels, listeners, strict=True)),
            itertools.count(),
        )

        def work(data: bytes) -> None:
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                by_channel[reply[1]](reply[2])

        while True:
            data = b""
            for event in itertools.islice(events, AT_ONCE):
                row = Row(EPOCH, 1 + event // LOGS, "text:0", f" token {event:016}")
                published = message([row], stamp(time.time()))
                data += pack((b"smessage", self._channels[event % LOGS], published))
            yield lambda data=data: work(data)  # type: ignore[misc]


def tail(wire: WireFormat | None) -> Listener:
    """A live tail with a follower, in this format if any."""
    followed = LiveTail(record_of())
    followed.attach(Taking(), wire, wire.bind(followed.record, None) if wire else None)
    return followed.on_message


class Worker:
    """A chunk, in stages that each contain those before it. The reply is one for each generation, as Redis sends it."""

    STAGES = (
        "the payload, split off", "its event, translated", "writer and timings", "numbered, encoded, folded",
        "the command, made and packed", "the reply",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stages = {name: self._reads(depth) for depth, name in enumerate(self.STAGES)}

    def _reads(self, depth: int) -> Iterator[Work]:
        answers = [_Answer(depth) for _ in range(ANSWERS)]
        for start in itertools.count(step=AT_ONCE):
            chunks = [(answers[n % ANSWERS], chunk(f" token {n:016}")) for n in range(start, start + AT_ONCE)]
            yield lambda chunks=chunks: [answer.take(data) for answer, data in chunks]  # type: ignore[misc]


def chunk(text: str) -> bytes:
    return frame({"content": text}).partition(b"\r\n")[2].removesuffix(b"\r\n")


class _Answer:
    def __init__(self, depth: int) -> None:
        state: Any = SimpleNamespace(record=record_of(id=new_generation_id()))
        self._depth = depth
        self._splitter, self._translator = Splitter(1 << 20), ChatTranslator()
        self._writer = Writer(LeaseGrant(Outcome.OK, EPOCH, 0, state), lambda _: None)
        self._timings = TokenTimings()
        self._parser = hiredis.Reader()
        for text in ("a", "b", "c"):
            self.take(chunk(text))

    def take(self, data: bytes) -> None:
        payloads = self._splitter.feed(data)
        if self._depth == 0:
            return
        for payload in payloads:
            translated = self._translator.read(payload)
            if self._depth >= 2:
                for event, extra in translated:
                    self._writer.add(event, extra)
                self._timings.record(time.monotonic(), len(translated))
        if self._depth >= 3 and (batch := self._writer.freeze()):
            if self._depth >= 4:
                hiredis.pack_command(append_command(batch, stamp(0.0)))
            if self._depth >= 5:
                self._parser.feed(b"*2\r\n$2\r\nOK\r\n:%d\r\n" % batch.rows[-1].seq)
                self._writer.on_result(append_result_of(self._parser.gets()))
            else:
                self._writer._in_flight = None


def append_command(batch: Any, sent: str) -> tuple[Any, ...]:
    """As `Log.append` makes it."""
    rows = [part for row in batch.rows for part in (f"{row.epoch}-{row.seq}", row.field, row.value, row.extra)]
    named = keys.of_generation(batch.generation_id)
    return scripts.APPEND.on(named, batch.epoch, batch.after_seq, batch.rows[-1].seq, message(batch.rows, sent), *rows)


def measured(stages: Mapping[str, Iterator[Work]], *, cold: bool) -> dict[str, float]:
    """µs of each part: the least of several runs of each stage, less that of the stage before it."""
    least = dict.fromkeys(stages, float("inf"))
    for _ in range(RUNS):
        for name, works in stages.items():
            spent = 0
            for work in list(itertools.islice(works, BATCHES)):
                if cold:
                    CACHE.count(1)
                began = time.process_time_ns()
                work()
                spent += time.process_time_ns() - began
            least[name] = min(least[name], spent / (1000 * BATCHES * AT_ONCE))
    whole = [0.0, *least.values()]
    return {name: after - before for name, before, after in zip(least, whole, whole[1:], strict=False)}


async def readers() -> tuple[list[Any], list[socket.socket]]:
    """Transports of a server, and the clients' ends, which nothing reads."""
    transports: list[Any] = []

    class Reader(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(transport)

    loop = asyncio.get_running_loop()
    serving = await loop.create_server(Reader, "127.0.0.1", 0, backlog=LOGS)
    ends = [socket.create_connection(serving.sockets[0].getsockname()) for _ in range(LOGS)]
    while len(transports) < LOGS:  # noqa: ASYNC110 - accepted by the loop
        await asyncio.sleep(0.01)
    return transports, ends


async def main() -> None:
    transports, ends = await readers()
    for title, stages in (("frontend, an event", Frontend(transports).stages), ("worker, a chunk", Worker().stages)):
        warm, cold = measured(stages, cold=False), measured(stages, cold=True)
        print(f"{title:34} {'warm':>7} {'cold':>7}")
        for name in stages:
            print(f"  {name:32} {warm[name]:7.2f} {cold[name]:7.2f}")
        print(f"  {'together':32} {sum(warm.values()):7.2f} {sum(cold.values()):7.2f}")
    for end in ends:
        end.close()


if __name__ == "__main__":
    uvloop.run(main())
