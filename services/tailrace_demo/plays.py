"""What the scenarios of the demo model consist of: the steps for one call (module `scenarios` has the table)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tailrace_demo import prose
from tailrace_demo.answers import TOKENS_PER_SECOND, ChatRequest, tokens, tool_call, usage, wants_usage
from tailrace_demo.chunks import Envelope, encode_json
from tailrace_demo.script import (
    Comment,
    Delta,
    Deltas,
    Done,
    Hang,
    Head,
    Raw,
    Sleep,
    Status,
    Step,
    Usage,
    Write,
)
from tailrace_demo.statuses import error

BEFORE_A_FAULT = 40
"""Tokens; those of a second."""

PING_S = 0.5
PINGS = 10_000
OVERSIZED = 9 * 1024 * 1024


class Call(NamedTuple):
    """A request, and the rate of its answer in tokens a second."""

    chat: ChatRequest
    rate: float

    def some(self, count: int = BEFORE_A_FAULT) -> list[Step]:
        """The beginning of the usual answer."""
        return [opening(), Deltas([*tokens("content", prose.ANSWER)][:count], self.rate)]

    def whole(self, text: str = prose.ANSWER, key: str = "content") -> list[Step]:
        """The whole answer, without its end."""
        return [opening(), Deltas(list(tokens(key, text)), self.rate)]

    def ended(self, steps: Sequence[Step], reason: str = "stop") -> list[Step]:
        """These steps and their end: finish reason, usage of what they send where it is asked for, `[DONE]`."""
        played = [delta for step in steps if isinstance(step, Deltas) for delta in step.deltas]
        counted = [Usage(usage(self.chat, played, 1))] if wants_usage(self.chat) else []
        return [*steps, Delta({}, 0, reason), *counted, Done()]


class Whole(Step, frozen=True):
    """Sends the answer of its steps as one object."""

    steps: Sequence[Step]

    async def play(self, envelope: Envelope, write: Write) -> None:
        frames = bytearray()

        async def collect(data: bytes) -> None:
            frames.extend(data)

        for step in self.steps:
            await step.play(envelope, collect)
        await write(encode_json(envelope.folded(bytes(frames))))


Play = Callable[[Call], Sequence[Step]]


def opening() -> Step:
    return Delta({"role": "assistant", "content": ""})


def frame(value: Any) -> Step:
    return Raw(f"data: {encode_json(value).decode()}\n\n")


def status(number: int, message: str, kind: str, code: str | None = None, **headers: str) -> Play:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: [Status(number, named, error(message, kind, code=code))]


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def long(call: Call) -> list[Step]:
    return call.ended(call.whole(prose.long_answer()))


def reasoning(call: Call) -> list[Step]:
    thoughts = Deltas(list(tokens("reasoning_content", prose.THOUGHTS)), call.rate)
    return call.ended([opening(), thoughts, *call.whole()[1:]])


def tools(call: Call) -> list[Step]:
    calls = [each for k, (name, text) in enumerate(prose.TOOL_CALLS) for each in tool_call(k, name, text)]
    return call.ended([opening(), Deltas(calls, call.rate)], "tool_calls")


def refusal(call: Call) -> list[Step]:
    return call.ended(call.whole(prose.REFUSAL, "refusal"))


def fast(call: Call) -> list[Step]:
    return call.ended([opening(), Deltas(list(tokens("content", prose.long_answer())))])


def slow(call: Call) -> list[Step]:
    rate = 1.0 if call.rate == TOKENS_PER_SECOND else call.rate
    return call.ended([opening(), Deltas(list(tokens("content", prose.SHORT)), rate)])


def no_usage(call: Call) -> list[Step]:
    return [*call.whole(), Delta({}, 0, "stop"), Done()]


def malformed(call: Call) -> list[Step]:
    bad: list[Step] = [Raw('data: {"choices":[{\n\n'), Raw("data: 7\n\n"), frame({"choices": "none"}), Raw("data:\n\n")]
    return call.ended([*call.some(), *bad, *call.whole()[1:]])


def json(call: Call) -> list[Step]:
    whole = call.ended(call.whole(prose.SHORT))
    if not call.chat.stream:
        return whole
    return [Head({"content-type": "application/json"}), Whole(whole)]


def json_mode(call: Call) -> list[Step]:
    return call.ended(call.whole(prose.JSON_ANSWER))


def json_misfit(call: Call) -> list[Step]:
    return call.ended(call.whole(prose.JSON_MISFIT))


def content_type(call: Call) -> list[Step]:
    return [Head({"content-type": "text/plain"}), *call.ended(call.whole())]


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pings(call: Call) -> list[Step]:
    return [*call.some(), *pings_first(call)]


def pings_first(_: Call) -> list[Step]:
    return [Comment("ping"), Sleep(PING_S)] * PINGS


def byte_by_byte(call: Call) -> list[Step]:
    return [*call.some(), *byte_by_byte_first(call)]


def byte_by_byte_first(call: Call) -> list[Step]:
    """At one byte a second a chunk takes minutes: bytes arrive, and no content does."""
    data = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{prose.SHORT}"}}}}]}}\n\n'.encode()
    rate = 1.0 if call.rate == TOKENS_PER_SECOND else call.rate
    return [step for byte in data for step in (Raw(chr(byte)), Sleep(1 / rate))]


def html(_: Call) -> list[Step]:
    page = "<!doctype html><title>Sign in</title><p>This proxy requires a login.</p>"
    return [Head({"content-type": "text/html"}), Raw(page)]


def oversized(call: Call) -> list[Step]:
    return [*call.some(), *oversized_first(call)]


def oversized_first(_: Call) -> list[Step]:
    return [Raw('data: {"choices":[{"delta":{"content":"' + "x" * OVERSIZED + '"}}]}\n\n'), Hang()]


def error_at_first(_: Call) -> list[Step]:
    return [opening(), frame(error("The demo model broke.", code="overloaded"))]


def error_in_the_middle(call: Call) -> list[Step]:
    return [*call.some(), *error_at_first(call)[1:]]
