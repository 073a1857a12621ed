"""The native wires: the log as it is, every one of the ten kinds told.

    id: 1795235902664-4                 and as one line of NDJSON:
    event: text
    data: {"text":" the"}               {"id":"1795235902664-4","event":"text","data":{"text":" the"}}

`data` is the event with its place: `item` and `choice` where they are not 0. `created` tells the generation's `id` too,
so that a client that was answered with the log itself knows where to come again. `done` comes without the output, which
the reader has. What is told without an `id` (a synthetic `restarted`, `gone`) is not in the log and moves no cursor.
"""

from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import (
    NO_EXTRA,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    GenerationRecord,
    ItemClosed,
    Restarted,
    Text,
)

RETRY_MS = 1000
"""Told with `created`: an `EventSource` whose connection is cut comes again after so long. (Chromium's own is 3 s.)"""

FORGET = Restarted(reason="log_changed")
"""Told to a reader whose cursor the log no longer continues: what follows is the log from its beginning."""


def encode(record: GenerationRecord, entry: Entry) -> bytes:
    """One Server-Sent Event."""
    if type(entry.event) is Text and not entry.event.item and not entry.event.choice and entry.extra is NO_EXTRA:
        text = jsoncodec.dumps(entry.event.text)
        return b'id: %d-%d\nevent: text\ndata: {"text":%b}\n\n' % (*entry.id, text)
    retry = b"retry: %d\n" % RETRY_MS if isinstance(entry.event, Created) else b""
    return b"id: %d-%d\n%b%b" % (*entry.id, retry, frame(entry.event.kind, _told(record, entry)))


def encode_line(record: GenerationRecord, entry: Entry) -> bytes:
    """One line of NDJSON."""
    return line(str(entry.id), entry.event.kind, _told(record, entry))


def _told(record: GenerationRecord, entry: Entry) -> dict[str, Any]:
    value = data(entry.event, entry.extra)
    return {"id": record.id} | value if isinstance(entry.event, Created) else value


def frame(event: str, value: Any) -> bytes:
    """A Server-Sent Event without an id."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), jsoncodec.dumps(value))


def line(entry_id: str | None, event: str, value: Any) -> bytes:
    named = {"id": entry_id} if entry_id else {}
    return jsoncodec.dumps(named | {"event": event, "data": value}) + b"\n"


def data(event: Event, extra: Extra = NO_EXTRA) -> dict[str, Any]:
    """The event as JSON tells it."""
    value: dict[str, Any]
    match event:
        case ItemClosed(whole=whole):
            value = msgspec.to_builtins(whole)
        case Done():
            value = msgspec.to_builtins(event)
            value.pop("output", None)
        case Delta(item=0):
            value = msgspec.to_builtins(event)
            del value["item"]
        case Restarted():
            value = msgspec.to_builtins(event)
            value.pop("output", None)
        case _:
            value = msgspec.to_builtins(event)
    if extra is not NO_EXTRA:
        value["extra"] = msgspec.to_builtins(extra)
    return value
