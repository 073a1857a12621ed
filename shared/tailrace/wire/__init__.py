"""Wires: the formats in which a log is told.

A wire is a pure, memoryless function of the head and one entry. Whatever a format needs to know about earlier entries,
the worker has put into the entry; so a reader may begin anywhere, on any node, and gets the same bytes. A new format
is one file, one row in `WIRES`, one transcript in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tailrace.events import Entry, GenerationRecord, Json
from tailrace.wire import native, openai_chat, openai_responses, text
from tailrace.wire.openai_response_object import Context

Encode = Callable[[Entry], bytes]
"""An entry's bytes in a format; empty where the format has no event for it."""


@dataclass(frozen=True, eq=False)  # one is itself and no other: a tail looks its frames up by it, for each event
class Wire:
    """`merges`: adjacent deltas may be told as one frame on catch-up. `restarts`: it has a word for `restarted`; where
    it has none, a reader begins behind the last one, and a live one ends with it. `reconnects`: its clients come again
    on a `retry:` hint. `cuts`: it cannot tell an end that is none, so the connection is cut instead. `keep_alive`:
    bytes that say nothing.
    """

    media_type: str
    bind: Callable[[GenerationRecord, Json], Encode]
    merges: bool = True
    restarts: bool = False
    reconnects: bool = False
    cuts: bool = False
    keep_alive: bytes = b": \n\n"


def _of_record(encode: Callable[[GenerationRecord, Entry], bytes]) -> Callable[[GenerationRecord, Json], Encode]:
    return lambda record, _: partial(encode, record)


def _of_context(record: GenerationRecord, request: Json) -> Encode:
    return partial(openai_responses.encode, Context(record, request))


SSE = "text/event-stream"

WIRES: dict[str, Wire] = {
    "native": Wire(SSE, _of_record(native.encode), restarts=True, reconnects=True),
    "ndjson": Wire("application/x-ndjson", _of_record(native.encode_line), restarts=True, keep_alive=b"\n"),
    "text": Wire("text/plain", _of_record(text.encode), cuts=True, keep_alive=b""),
    "openai-chat": Wire(SSE, _of_record(openai_chat.encode)),
    "openai-responses": Wire(SSE, _of_context, merges=False, restarts=True),
}
