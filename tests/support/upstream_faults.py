"""Everything that an upstream does wrong, as scripts of the demo upstream, and its row in the tables of errors.

A fault is played before any content, and after some. `Stream` has the frames of one dialect, so that each fault exists
in every dialect for which there is one in `STREAMS`.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from tailrace_worker.upstream.client import MAX_EVENT_BYTES
from tailrace_worker.upstream.conditions import ConditionName, InterruptionName

Step = dict[str, Any]
Steps = list[Step]

KEPT = "So far"
"""The content before a fault."""

ADDED = " so good"

IN_THE_LOG_S = 0.2
"""After this long the content is in the log; an attempt that fails before that leaves no `restarted`."""


TOKEN: Any = {"token": "x", "logprob": -0.5, "bytes": None, "top_logprobs": []}


class Stream(Protocol):
    """The frames of a dialect, as bytes."""

    done_is_end: bool
    """Whether `[DONE]` alone ends an answer that is whole."""

    def nothing(self) -> bytes:
        """A frame without content."""

    def empty(self) -> bytes:
        """An empty delta, beside it a field of the choice."""

    def content(self, text: str) -> bytes: ...

    def end(self, reason: str = "stop") -> bytes: ...

    def error(self, error: Any) -> bytes: ...

    def whole(self, text: str) -> bytes:
        """The body of an answer without `stream`."""


class ChatStream:
    done_is_end = True

    def nothing(self) -> bytes:
        return _frame({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": []})

    def empty(self) -> bytes:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None, "logprobs": {"content": [TOKEN]}}
        return _frame({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})

    def content(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def end(self, reason: str = "stop") -> bytes:
        return self._chunk({}, reason)

    def error(self, error: Any) -> bytes:
        return _frame({"error": error})

    def whole(self, text: str) -> bytes:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()

    def _chunk(self, delta: Any, reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _frame({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


class ResponsesStream:
    done_is_end = False

    def nothing(self) -> bytes:
        return _event("in_progress", response=self._response("in_progress"))

    def empty(self) -> bytes:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        return _event("output_text.delta", **place, delta="", logprobs=[TOKEN])

    def content(self, text: str) -> bytes:
        return _event("output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=text)

    def end(self, reason: str = "stop") -> bytes:
        status = "failed" if reason == "error" else "completed"
        return _event(status, response=self._response(status))

    def error(self, error: Any) -> bytes:
        return _frame({"type": "error", "error": error})

    def whole(self, text: str) -> bytes:
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        return json.dumps(self._response("completed") | {"output": [message]}).encode()

    def _response(self, status: str) -> Any:
        return {"id": "resp_1", "object": "response", "model": "m", "status": status, "output": [], "error": None}


STREAMS: Mapping[str, Stream] = {"chat": ChatStream(), "responses": ResponsesStream()}
"""By dialect."""

DONE = b"data: [DONE]\n\n"
PAUSE: Step = {"sleep": IN_THE_LOG_S}


def _frame(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _event(name: str, **fields: Any) -> bytes:
    return _frame({"type": f"response.{name}", **fields})


def raw(*data: bytes) -> Steps:
    return [{"raw_base64": base64.b64encode(each).decode()} for each in data]


Expected = ConditionName | InterruptionName | Literal["completed", "ended"]


class Fault(NamedTuple):
    """`play`: the fault's steps. `before` and `after`: its rows, by where it happens; `completed`: it is no fault;
    `ended`: that depends on the dialect; None: it cannot happen there. `code`: the upstream's own, where it is sent on.
    `text`: the text of an answer that is completed in spite of it: where the fault is before the content, and after
    it. `has_content`: whether `play` has the content before it as well."""

    name: str
    play: Callable[[Stream], Steps]
    before: Expected | None = None
    after: Expected | None = None
    code: str = ""
    text: tuple[str, str] = ("", KEPT)
    has_content: bool = False

    def script(self, stream: Stream, *, after: bool) -> Steps:
        """Steps of a whole answer with this fault."""
        content = [*raw(stream.content(KEPT)), PAUSE] if after and not self.has_content else []
        return [*content, *self.play(stream)]


def status(number: int, expected: ConditionName, error: Any = None, code: str = "", **headers: str) -> Fault:
    """An answer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    step = {"status": number, "headers": named} | ({} if error is None else {"json": {"error": error}})
    return Fault(" ".join(["status", str(number), code or expected, *named]), lambda _: [step], expected, code=code)


def error(expected: ConditionName, value: Any, code: str = "") -> Fault:
    """An error object in a stream."""
    return Fault(f"error {json.dumps(value)}", lambda stream: raw(stream.error(value)), expected, "error", code)


STATUSES: Sequence[Fault] = (
    status(400, "rejected"),
    status(400, "rejected", {"message": "No.", "code": "context_length_exceeded"}, "context_length_exceeded"),
    status(400, "rejected", {"message": "No.", "code": 7, "type": {"a": 1}, "param": [1]}, "7"),
    status(401, "key", {"message": "Bad key sk-up***cret"}),
    status(402, "quota"),
    status(403, "key"),
    status(404, "absent"),
    status(408, "timed_out"),
    status(409, "conflict"),
    status(413, "rejected"),
    status(422, "rejected"),
    status(429, "rate_limited"),
    status(429, "quota", {"message": "Pay.", "type": "insufficient_quota", "code": "insufficient_quota"}),
    status(500, "failed"),
    status(503, "failed"),
    status(529, "failed", {"message": "Overloaded", "type": "overloaded_error"}),
    status(503, "failed", {"message": "no gzip"}, content_encoding="gzip"),
    status(302, "redirect", location="/v1/elsewhere"),
    status(307, "redirect", location="http://127.0.0.1:1/v1/chat/completions"),
)

GZIP: Step = {"head": {"content-encoding": "gzip"}}


def _gzipped(*parts: bytes) -> list[bytes]:
    """One gzip stream, each part readable as it arrives."""
    packer = zlib.compressobj(wbits=31)
    return [packer.compress(each) + packer.flush(zlib.Z_SYNC_FLUSH) for each in parts]


def _with_pause(content: Step, rest: Step) -> Steps:
    return [GZIP, content, PAUSE, rest]


LARGE = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)

BODIES: Sequence[Fault] = (
    Fault("HTML", lambda _: [{"head": {"content-type": "text/html"}}, {"raw": "<html>Sign in</html>"}], "unreadable"),
    Fault("text", lambda _: [{"raw": "Bad Gateway"}], "unreadable"),
    Fault("JSON without an answer", lambda _: [{"raw": '{"status":"ok"}'}], "unreadable"),
    Fault("JSON that is an error", lambda _: [{"raw": '{"error":{"message":"Busy","code":503}}'}], "failed"),
    Fault("a list with an error", lambda _: [{"raw": '[{"error":{"message":"No.","code":400}}]'}], "rejected"),
    Fault(
        "JSON that is the answer",
        lambda stream: [{"head": {"content-type": "application/json"}}, *raw(stream.whole("Hi"))],
        "completed", text=("Hi", ""),
    ),
    Fault("an empty body", lambda _: [{"eof": True}], "empty"),
    Fault(
        "a stream of another type",
        lambda stream: [{"head": {"content-type": "text/html"}}, *raw(stream.content("Hi"), stream.end(), DONE)],
        "completed", text=("Hi", ""),
    ),
    Fault("gzip that is none", lambda _: [GZIP, {"raw": "garbage"}], "unreadable"),
    Fault(
        "gzip that ends in other bytes",
        lambda stream: [GZIP, *raw(*_gzipped(stream.content(KEPT))), PAUSE, *raw(b"\xff" * 100)],
        after="unreadable", has_content=True,
    ),
    Fault(
        "an event beyond the limit",
        lambda _: [GZIP, *raw(gzip.compress(LARGE))],
        "unreadable",
    ),
    Fault(
        "an event beyond the limit after some",
        lambda stream: _with_pause(*raw(*_gzipped(stream.content(KEPT), LARGE))),
        after="unreadable", has_content=True,
    ),
)  # fmt: skip


def _drip(stream: Stream) -> Steps:
    """An event of which a byte arrives every 0.1 s."""
    return [step for byte in stream.content(ADDED) for step in (*raw(bytes([byte])), {"sleep": 0.1})]


PING: Steps = [{"comment": "ping"}, {"sleep": 0.1}]

SILENCES: Sequence[Fault] = (
    Fault("silence", lambda _: [{"hang": True}], "silent", "silent"),
    Fault("pings", lambda _: PING * 200, "silent", "silent"),
    Fault("chunks without content", lambda stream: [*raw(stream.nothing()), {"sleep": 0.1}] * 200, "silent", "silent"),
    Fault("empty deltas", lambda stream: [*raw(stream.empty()), {"sleep": 0.1}] * 200, None, "silent"),
    Fault("a byte at a time", _drip, "silent", "silent"),
)

BREAKS: Sequence[Fault] = (
    Fault("a broken connection", lambda _: [{"reset": True}], "cut", "cut"),
    Fault("the end of the stream", lambda _: [{"eof": True}], "empty", "truncated"),
    Fault("[DONE] alone", lambda _: raw(DONE), "empty", "ended"),
    Fault("bytes after [DONE]", lambda stream: raw(DONE + stream.content("x")), "empty", "ended"),
    Fault(
        "bytes after the end",
        lambda stream: raw(stream.content(ADDED), stream.end(), DONE, stream.content("x")),
        "completed", "completed", text=(ADDED, KEPT + ADDED),
    ),
    Fault(
        "a broken connection behind the end",
        lambda stream: [*raw(stream.content(ADDED), stream.end()), {"reset": True}],
        "completed", "completed", text=(ADDED, KEPT + ADDED),
    ),
    Fault(
        "a broken connection behind the end alone",
        lambda stream: [*raw(stream.end()), {"reset": True}],
        "completed", "completed", text=("", KEPT),
    ),
    Fault(
        "silence behind the end",
        lambda stream: [*raw(stream.content(ADDED), stream.end()), {"hang": True}],
        "completed", "completed", text=(ADDED, KEPT + ADDED),
    ),
    Fault("invalid JSON alone", lambda _: raw(b"data: {\n\n", b"data: \xff\xfe\n\n"), "unreadable", "truncated"),
    Fault(
        "invalid JSON among chunks",
        lambda stream: raw(b"data: {\n\n", b"data: \xff\xfe\n\n", b"x\n\n", stream.content(ADDED), stream.end(), DONE),
        "completed", "completed", text=(ADDED, KEPT + ADDED),
    ),
    Fault(
        "invalid UTF-8",
        lambda stream: raw(stream.content("~").replace(b"~", b"\xff"), stream.end(), DONE),
        "completed", "completed", text=("\ufffd", KEPT + "\ufffd"),
    ),
    Fault("a finish reason that is an error", lambda stream: raw(stream.end("error")), "failed", "error"),
)  # fmt: skip

ERRORS: Sequence[Fault] = (
    error("failed", {"message": "Busy"}),
    error("failed", {"message": "Busy", "code": 502, "metadata": {"provider_name": "x"}}),
    error("failed", {"message": "Busy", "type": "overloaded_error"}, "overloaded_error"),
    error("rate_limited", {"message": "Slow down.", "code": "429"}),
    error("quota", {"message": "Pay.", "type": "insufficient_quota", "code": 429}),
    error("key", {"message": "Bad key sk-up***cret", "code": "invalid_api_key"}),
    error("rejected", {"message": "No.", "type": "invalid_request_error", "code": "too_long"}, "too_long"),
    error("error_in_stream", {"message": "No.", "code": "tripped"}, "tripped"),
    error("error_in_stream", {"message": {"a": 1}, "code": 7, "type": [1]}, "7"),
    error("failed", "Busy"),
)

FAULTS: Sequence[Fault] = (*STATUSES, *BODIES, *SILENCES, *BREAKS, *ERRORS)
