"""Wire formats: the serializations of a log that clients read.

A format is a pure function of the generation's record (for some formats: and of its request) and one entry. The worker
puts into each entry everything that a format needs from earlier entries. A reader can therefore begin anywhere, on
any frontend, and gets the same bytes.

A new format is one file in this package, one row in `WIRE_FORMATS`, and one transcript in the tests. The row answers
every question that a reader has about the format, so no reader branches on it:

    bind              the encoder of one generation's entries
    needs_request     whether `bind` needs the generation's request
    coalesces         whether adjacent deltas may be sent as one frame when a reader catches up; where clients resume
                      behind a frame's number they may not: what follows it would be divided differently
    ends_at           the kinds of event after which the response ends
    headers           response headers beside the usual ones of an event stream
    keep_alive        bytes without meaning, for a silent stream; empty: the format has none
    encode_restart    "discard everything; the log follows from its beginning"
    encode_gone       "the log no longer exists", as the last frame
    encode_retry      "reconnect after so many ms", as the last frame
    after_number      an entry's frames behind a sequence number, where a client can resume inside an entry

Frames may be None: the format cannot express the fact, and the connection is aborted instead. A client then sees a
broken connection, and never a partial answer that looks complete.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tailrace.events import Done, Entry, Event, GenerationRecord, Json, Restarted
from tailrace.wire import json_value, native, openai_chat, openai_responses, sse, text, ui_message_object, ui_messages
from tailrace.wire.openai_response_object import Context

Frame = bytes | None
"""One entry's bytes: empty where the format has no frame for the event, None where the connection must be aborted."""

Encode = Callable[[Entry], Frame]
"""The encoder of one generation's entries. The result is None only for kinds in the format's `ends_at`."""

Bind = Callable[[GenerationRecord, Json | None], Encode]
"""Makes an encoder. The request is None unless the format has `needs_request`."""


def _whole(frames: bytes, _: Entry, __: int) -> bytes:
    """The format's clients resume after entries only."""
    return frames


def _cannot(*_: object) -> None:
    """The format cannot express it."""


@dataclass(frozen=True, eq=False)  # compared by identity: frames are looked up by format for every event
class WireFormat:
    """One row of the table; its fields are explained on top of this module.

    A format whose `ends_at` has `Restarted` cannot take back what it has sent: a response that has sent something ends
    there, and a response that has sent nothing begins after the last `restarted`.
    """

    media_type: str
    bind: Bind
    needs_request: bool = False
    coalesces: bool = True
    ends_at: tuple[type[Event], ...] = (Done,)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    keep_alive: bytes = sse.COMMENT
    encode_restart: Callable[[], Frame] = _cannot
    encode_gone: Callable[[str], Frame] = _cannot
    encode_retry: Callable[[str, int], Frame] = _cannot
    after_number: Callable[[bytes, Entry, int], bytes] = _whole


def _of_record(encode: Callable[[GenerationRecord, Entry], Frame]) -> Bind:
    return lambda record, _: partial(encode, record)


def _responses(*, obfuscates: bool) -> WireFormat:
    def bind(record: GenerationRecord, request: Json | None) -> Encode:
        assert request is not None, "the format needs the request"
        return partial(openai_responses.encode, Context.of(record, request, obfuscates=obfuscates))

    return WireFormat(
        sse.MEDIA_TYPE,
        bind,
        needs_request=True,
        coalesces=False,
        keep_alive=sse.PING,
        after_number=openai_responses.after_number,
    )


def _of_ui_message(record: GenerationRecord, request: Json | None) -> Encode:
    assert request is not None, "the format needs the request"
    return partial(ui_messages.encode, ui_message_object.context(record, request))


WIRE_FORMATS: dict[str, WireFormat] = {
    "native": WireFormat(
        sse.MEDIA_TYPE,
        _of_record(native.encode),
        encode_restart=native.encode_restart,
        encode_gone=native.encode_gone,
        encode_retry=sse.retry_frame,
    ),
    "ndjson": WireFormat(
        "application/x-ndjson",
        _of_record(native.encode_line),
        keep_alive=b"\n",
        encode_restart=native.encode_restart_line,
        encode_gone=native.encode_gone_line,
    ),
    "text": WireFormat("text/plain", _of_record(text.encode), ends_at=(Done, Restarted), keep_alive=b""),
    "openai-chat": WireFormat(
        sse.MEDIA_TYPE,
        _of_record(openai_chat.encode),
        coalesces=False,
        ends_at=(Done, Restarted),
        keep_alive=sse.PING,
        after_number=openai_chat.after_number,
    ),
    "openai-responses": _responses(obfuscates=False),
    "openai-responses-obfuscated": _responses(obfuscates=True),
    "ui-messages": WireFormat(
        sse.MEDIA_TYPE,
        _of_ui_message,
        needs_request=True,
        ends_at=(Done, Restarted),
        headers=ui_messages.HEADERS,
        keep_alive=sse.PING,
        encode_gone=ui_messages.encode_gone,
    ),
}

JSON_VALUES = WireFormat(
    "application/x-ndjson",
    lambda *_: json_value.JsonLines(),
    keep_alive=b"\n",
    encode_restart=json_value.encode_restart,
    encode_gone=json_value.encode_gone,
)
"""The answer as a JSON value while it is written, for generations whose request asks for JSON. The format has no row in
the table: its encoder keeps what precedes an entry, so each connection has one of its own (`json_value`)."""
