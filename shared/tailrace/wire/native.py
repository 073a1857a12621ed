"""The native formats, SSE and NDJSON: the log as it is, with all ten kinds of event.

    id: 1795235902664-4                 and as one line of NDJSON:
    event: text
    data: {"text":" the"}               {"id":"1795235902664-4","event":"text","data":{"text":" the"}}

`data` holds the event's fields; `item` and `choice` only where they are not 0. `created` also carries the generation's
`id`, so that a client whose POST was answered with the log itself can reconnect. `done` comes without the
output, which the reader already has.

A frame without an `id` (a synthetic `restarted`, or `gone`) is not part of the log and leaves the cursor where it is.
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
from tailrace.wire import sse

RETRY_MS = 1000
"""Sent with `created`: an `EventSource` whose connection breaks reconnects after so long. (Chromium's own is 3 s.)"""

LOG_CHANGED = Restarted(reason="log_changed")
"""The log no longer continues what the client has: the log follows from its beginning."""


def encode(record: GenerationRecord, entry: Entry) -> bytes:
    """One Server-Sent Event."""
    at, event = entry.id, entry.event
    if type(event) is Text and entry.extra is NO_EXTRA and not event.item and not event.choice:
        text = jsoncodec.dumps(event.text)
        return b'id: %d-%d\nevent: text\ndata: {"text":%b}\n\n' % (at.epoch, at.seq, text)
    retry = b"retry: %d\n" % RETRY_MS if isinstance(event, Created) else b""
    frame = sse.event_frame(event.kind, _entry_data(record, entry))
    return b"id: %d-%d\n%b%b" % (at.epoch, at.seq, retry, frame)


def encode_restart() -> bytes:
    """`restarted`, without an id."""
    return sse.event_frame(LOG_CHANGED.kind, data(LOG_CHANGED))


def encode_gone(reason: str) -> bytes:
    """`gone`, without an id: the log was deleted, has expired or was lost."""
    return sse.event_frame("gone", {"reason": reason})


def encode_line(record: GenerationRecord, entry: Entry) -> bytes:
    """One line of NDJSON."""
    return _line({"id": str(entry.id), "event": entry.event.kind, "data": _entry_data(record, entry)})


def encode_restart_line() -> bytes:
    """`encode_restart` as NDJSON."""
    return _line({"event": LOG_CHANGED.kind, "data": data(LOG_CHANGED)})


def encode_gone_line(reason: str) -> bytes:
    """`encode_gone` as NDJSON."""
    return _line({"event": "gone", "data": {"reason": reason}})


def _line(value: dict[str, Any]) -> bytes:
    return jsoncodec.dumps(value) + b"\n"


def _entry_data(record: GenerationRecord, entry: Entry) -> dict[str, Any]:
    value = data(entry.event, entry.extra)
    return {"id": record.id} | value if isinstance(entry.event, Created) else value


def data(event: Event, extra: Extra = NO_EXTRA) -> dict[str, Any]:
    """The event's fields as JSON. `extra` stands beside them where there is any."""
    value: dict[str, Any]
    match event:
        case ItemClosed(whole=whole):
            value = msgspec.to_builtins(whole)
        case Done() | Restarted():
            value = msgspec.to_builtins(event)
            value.pop("output", None)
        case Delta(item=0):
            value = msgspec.to_builtins(event)
            del value["item"]
        case _:
            value = msgspec.to_builtins(event)
    if extra is not NO_EXTRA:
        value["extra"] = msgspec.to_builtins(extra)
    return value
