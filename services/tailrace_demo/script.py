"""The script of an answer: its steps, and how each is played.

A step is a JSON object that is identified by one key and sends exactly what it contains: role, finish reason and
`[DONE]` are steps too. The response head is sent with the first bytes, so a script that begins with a pause delays the
status. After its last step, a script ends the response cleanly.

    {"chunk": {…}}                                    a chat chunk; id, object, created, model are filled in
    {"delta": {…}, "choice": 0, "finish_reason": …}   a chunk with one choice
    {"deltas": [{…}, …], "rate": 40, "choices": 1}    a chunk for each delta and choice, `rate` deltas/s
    {"tokens": {"count": 9, "rate": 50, "prefix": "t", "start": 0, "choice": 0, "stamp": false}}
                                                      content deltas "t0 ", "t1 ", …; "t0@<epoch µs> " if stamped
    {"usage": {…}}                                    the usage chunk: no choices
    {"done": true}                                    data: [DONE]
    {"comment": "ping"}                               : ping
    {"raw": "…"}  {"raw_base64": "…"}                 these bytes, in one write
    {"sleep": 0.5}                                    send nothing for this many seconds
    {"hold": "name"}                                  send nothing until POST /release?hold=name
    {"status": 429, "headers": {…}, "json": {…}}      first step only: answer with this status
    {"statuses": [429, 500], "headers": {…}}          first step only: the first calls of this model and
                                                      script_id get these, later ones the rest of the script
    {"head": {"content-type": "text/html"}}           first step only: these headers, in place of the same ones
    {"eof": true}                                     end the response cleanly here
    {"reset": true}                                   close the connection without the last chunk
    {"hang": true}                                    wait until the client disconnects

A rate is in deltas per second, by the clock from the first delta, so a late write does not delay later ones. Without a
rate there are no pauses.
"""

# ruff: noqa: ARG002  (not every step needs both the envelope and the write function)

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, field

from tailrace_demo.chunks import Envelope, encode_json
from tailrace_demo.holds import HOLDS

Write = Callable[[bytes], Awaitable[None]]
Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)] | None
StatusCode = Annotated[int, Meta(ge=200, le=599)]

WRITES_BEFORE_YIELDING = 5
"""Without a rate, and after a delay of the event loop, deltas are written in bursts. Between so many writes the other
answers have their turn."""


class ScriptError(ValueError):
    """The script is invalid."""


class EndOfFile(Exception):
    """Raised by a step that ends the response cleanly."""


class Reset(Exception):
    """Raised by a step that closes the connection without the last chunk."""


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """A step of a script; its subclasses are the rows of the table above."""

    only_first: ClassVar[bool] = False

    async def play(self, envelope: Envelope, write: Write) -> None:
        raise NotImplementedError


class Chunk(Step, frozen=True):
    chunk: dict[str, Any]

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(envelope.chunk(self.chunk))


class Delta(Step, frozen=True):
    delta: dict[str, Any]
    choice: Count = 0
    finish_reason: str | None = None

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(envelope.delta(self.delta, self.choice, self.finish_reason))


class Deltas(Step, frozen=True):
    deltas: Sequence[dict[str, Any]]
    rate: Rate = None
    choices: Count = 1

    async def play(self, envelope: Envelope, write: Write) -> None:
        async for k in paced(len(self.deltas), self.rate):
            for choice in range(self.choices):
                await write(envelope.delta(self.deltas[k], choice))


class TokenRun(Struct, frozen=True, forbid_unknown_fields=True):
    count: Count
    rate: Rate = None
    prefix: str = "t"
    start: int = 0
    choice: Count = 0
    stamp: bool = False


class Tokens(Step, frozen=True):
    tokens: TokenRun

    async def play(self, envelope: Envelope, write: Write) -> None:
        run = self.tokens
        before, after = envelope.around_content(run.choice)
        before += encode_json(run.prefix)[1:-1]
        async for k in paced(run.count, run.rate):
            stamp = b"@%d" % (time.time_ns() // 1000) if run.stamp else b""
            await write(b"%b%d%b %b" % (before, run.start + k, stamp, after))


class Usage(Step, frozen=True):
    usage: dict[str, Any]

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(envelope.usage(self.usage))


class Done(Step, frozen=True):
    done: bool = True

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(envelope.done())


class Comment(Step, frozen=True):
    comment: str

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(f": {self.comment}\n\n".encode())


class Raw(Step, frozen=True):
    raw: str

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(self.raw.encode())


class RawBase64(Step, frozen=True):
    raw_base64: bytes  # msgspec reads bytes as base64

    async def play(self, envelope: Envelope, write: Write) -> None:
        await write(self.raw_base64)


class Sleep(Step, frozen=True):
    sleep: Annotated[float, Meta(ge=0)]

    async def play(self, envelope: Envelope, write: Write) -> None:
        await asyncio.sleep(self.sleep)


class Hold(Step, frozen=True):
    hold: Annotated[str, Meta(max_length=200)]

    async def play(self, envelope: Envelope, write: Write) -> None:
        await HOLDS[self.hold].wait()


class Status(Step, frozen=True):
    only_first = True
    status: StatusCode
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None


class Statuses(Step, frozen=True):
    only_first = True
    statuses: list[StatusCode]
    headers: dict[str, str] = field(default_factory=dict)


class Head(Step, frozen=True):
    only_first = True
    head: dict[str, str]


class Eof(Step, frozen=True):
    eof: bool = True

    async def play(self, envelope: Envelope, write: Write) -> None:
        raise EndOfFile


class ResetConnection(Step, frozen=True):
    reset: bool = True

    async def play(self, envelope: Envelope, write: Write) -> None:
        raise Reset


class Hang(Step, frozen=True):
    hang: bool = True

    async def play(self, envelope: Envelope, write: Write) -> None:
        await asyncio.Event().wait()


STEPS: dict[str, type[Step]] = {
    "chunk": Chunk,
    "delta": Delta,
    "deltas": Deltas,
    "tokens": Tokens,
    "usage": Usage,
    "done": Done,
    "comment": Comment,
    "raw": Raw,
    "raw_base64": RawBase64,
    "sleep": Sleep,
    "hold": Hold,
    "status": Status,
    "statuses": Statuses,
    "head": Head,
    "eof": Eof,
    "reset": ResetConnection,
    "hang": Hang,
}


def parse_script(script: Sequence[Any], known: Mapping[str, type[Step]] = STEPS) -> list[Step]:
    return [parse_step(step, position, known) for position, step in enumerate(script)]


def parse_step(step: Any, position: int, known: Mapping[str, type[Step]] = STEPS) -> Step:
    kinds = [key for key in step if key in known] if isinstance(step, dict) else []
    if len(kinds) != 1:
        shown = encode_json(step)[:100].decode(errors="replace")
        raise ScriptError(f"script[{position}] is not a step: {shown} (expected one of {', '.join(known)})")
    kind = known[kinds[0]]
    if kind.only_first and position > 0:
        raise ScriptError(f"script[{position}]: {kinds[0]} can only be the first step")
    try:
        return msgspec.convert(step, kind)
    except msgspec.ValidationError as error:
        raise ScriptError(f"script[{position}] ({kinds[0]}): {error}") from None


async def paced(count: int, rate: float | None) -> AsyncIterator[int]:
    """Yields 0 to count - 1, `rate` numbers per second by the clock; None: without pauses."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for k in range(count):
        wait = began + k / rate - loop.time() if rate else 0
        if wait > 0 or k % WRITES_BEFORE_YIELDING == WRITES_BEFORE_YIELDING - 1:
            await asyncio.sleep(max(wait, 0))
        yield k
