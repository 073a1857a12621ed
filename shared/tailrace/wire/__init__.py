"""Wires: the formats in which a log is told.

A wire is a pure, memoryless function of the head and one entry. Whatever a format needs to know about earlier entries,
the worker has put into the entry; so a reader may begin anywhere, on any node, and gets the same bytes. A new format
is one file, one row in `WIRES`, one transcript in the tests.
"""

from collections.abc import Callable
from typing import NamedTuple

from tailrace.events import Entry, Head
from tailrace.wire import native, openai_chat, openai_responses, text

Encode = Callable[[Head, Entry], bytes]
"""An entry's bytes on the wire; empty if the wire has no word for it."""


class Wire(NamedTuple):
    """`merges`: adjacent deltas may be told as one frame on catch-up. `restarts`: it has a word for `restarted`; where
    it has none, a reader begins behind the last one, and a live one is cut. `keep_alive`: bytes that say nothing.
    `cuts`: ends that it cannot tell, so that the connection is cut instead of ended cleanly.
    """

    media_type: str
    encode: Encode
    merges: bool
    restarts: bool
    keep_alive: bytes
    cuts: frozenset[str] = frozenset()


WIRES: dict[str, Wire] = {
    "native": Wire("text/event-stream", native.encode, True, True, b": \n\n"),
    "ndjson": Wire("application/x-ndjson", native.encode_line, True, True, b"\n"),
    "text": Wire("text/plain", text.encode, True, False, b"", frozenset({"failed", "cancelled"})),
    "openai-chat": Wire("text/event-stream", openai_chat.encode, True, False, b": \n\n"),
    "openai-responses": Wire("text/event-stream", openai_responses.encode, False, True, b": \n\n"),
}
