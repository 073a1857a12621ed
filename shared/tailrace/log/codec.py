"""Events as the log stores them: readable in `XRANGE`, and small.

The field names the kind and its place, and holds the value; a second field `extra` follows where there is one:

    item_opened:0              {"type":"text","choices":[0]}
    text:0                     Let me look.
    text:4/1                   a piece of item 4, of choice 1 (choice 0 is not written)
    reasoning:0:reasoning      the suffix is the upstream's own key, where it is not `reasoning_content`
    tool_arguments:2:0:call_x  item, tool ordinal, call id; the id comes last because some hold a `:`
    tool_arguments:2:0/custom:call_x    the same of a custom tool, whose input is no JSON
    text:4@3.1                 item 4 is part 1 of item 3 in Responses
    reasoning:4@3.1!summary:rs_x
                               form and reference of a Responses upstream's reasoning; after `!summary.9` the reference
                               follows the 9 characters of the key

A delta's value is its bare text: a few bytes over its length, where the upstream's chunk has 250 to 320. All other
values are JSON. Between processes the same rows travel as msgpack (`pack`, `unpack`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.errors import CorruptEntry
from tailrace.events import (
    KINDS,
    NO_EXTRA,
    Delta,
    Entry,
    Event,
    Extra,
    Failure,
    FinalStatus,
    Finish,
    Format,
    Item,
    ItemClosed,
    ItemOpened,
    Json,
    Reasoning,
    Stream,
    Text,
    Timings,
    ToolArguments,
    Upstream,
)  # fmt: skip
from tailrace.ids import EntryId


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry as stored. It never changes: a retry sends the same bytes."""

    epoch: int
    seq: int
    field: str
    value: str
    extra: str = ""

    @property
    def id(self) -> EntryId:
        return EntryId(self.epoch, self.seq)

    @property
    def size(self) -> int:
        """Bytes of content, without what Redis adds."""
        return byte_length(self.field) + byte_length(self.value) + byte_length(self.extra)


def byte_length(text: str) -> int:
    """Bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def to_row(entry: Entry) -> Row:
    field, value = encode(entry.event)
    extra = "" if entry.extra is NO_EXTRA else jsoncodec.dumps(entry.extra).decode()
    return Row(entry.id.epoch, entry.id.seq, field, value, extra)


def from_row(row: Row) -> Entry:
    """Raises CorruptEntry if the row was not written by `to_row`."""
    extra = _extra(row.extra) if row.extra else NO_EXTRA
    return Entry(EntryId(row.epoch, row.seq), decode(row.field, row.value), extra)


def is_readable(event: Event, extra: Extra) -> bool:
    """Whether the event can be stored and read again: msgspec checks no types when it encodes."""
    try:
        from_row(to_row(Entry(EntryId(0, 0), event, extra)))
    except (CorruptEntry, ValueError, TypeError, RecursionError):
        return False
    return True


def encode(event: Event) -> tuple[str, str]:
    """Field and value of an event."""
    if type(event) is Text and event.place is None:  # nearly all of them
        return _text_field(event.item, event.choice), event.text
    match event:
        case Delta():
            return _delta_field(event), event.text
        case ItemOpened():
            place = _place(event.item, event.choice)
            return f"item_opened:{place}", _json(event, "item", "choice")
        case ItemClosed(whole=whole):
            more = {} if event.is_last else {"is_last": False}
            more |= {"earlier": msgspec.to_builtins(event.earlier)} if event.earlier else {}
            return f"item_closed:{_place(whole.item, whole.choice)}", _json(whole, "item", "choice", more=more)
    return event.kind, _json(event)


def decode(field: str, value: str) -> Event:
    """Raises CorruptEntry if there is no such kind, or the value does not fit it."""
    try:
        # A field may have a long id of the upstream's, which the cache would keep.
        reader = _reader(field) if len(field) <= MAX_CACHED_FIELD else _reader.__wrapped__(field)
        return reader(value)
    except (ValueError, TypeError, KeyError, msgspec.MsgspecError, RecursionError) as error:
        raise CorruptEntry(f"unreadable entry {field[:40]!r}") from error


MAX_CACHED_FIELD = 256
"""Characters."""


@lru_cache(maxsize=4096)
def _reader(field: str) -> Callable[[str], Event]:
    """The decoder of a field's values. A log has few fields and many entries."""
    kind, _, place = field.partition(":")
    if kind in WHOLE:
        return partial(msgspec.json.decode, type=WHOLE[kind])
    head, _, suffix = place.partition(":")
    head, has_form, form = head.partition("!")
    head, at_place, place = head.partition("@")
    item, _, choice = head.partition("/")
    if kind == "text" and not at_place:
        return partial(_text, int(item), int(choice)) if choice else partial(Text, int(item))
    at: dict[str, Any] = {"item": int(item), "choice": int(choice or 0)}
    if kind == "item_opened":
        return lambda value: msgspec.convert(at | _object(value), ItemOpened)
    if kind == "item_closed":
        return lambda value: _closed(at | _object(value))
    if at_place:
        index, _, part = place.partition(".")
        at["place"] = (int(index), int(part))
    if has_form:
        return partial(_delta, Reasoning, at | _form_of(form, suffix))
    return partial(_delta, DELTAS[kind], at | _of_kind(DELTAS[kind], suffix))


def _of_kind(kind: type[Delta], suffix: str) -> dict[str, Any]:
    """The fields of one kind, from behind its place."""
    if kind is ToolArguments:
        tool, _, call = suffix.partition(":")
        tool, _, custom = tool.partition("/")
        return {"tool": int(tool), "call": call, "custom": bool(custom)}
    return {"key": suffix} if kind is Reasoning and suffix else {}


def _form_of(form: str, suffix: str) -> dict[str, Any]:
    """The same of reasoning with a form or a reference."""
    form, _, length = form.partition(".")
    key, ref = suffix[: int(length or 0)], suffix[int(length or 0) :]
    return {"form": form, "ref": ref} | ({"key": key} if length else {})


def _delta(kind: type[Delta], at: dict[str, Any], value: str) -> Event:
    return kind(text=value, **at)


def _closed(value: dict[str, Any]) -> Event:
    is_last, earlier = value.pop("is_last", True), value.pop("earlier", [])
    return ItemClosed(msgspec.convert(value, Item), bool(is_last), msgspec.convert(earlier, list[Item]))


def _text(item: int, choice: int, value: str) -> Event:
    """Most entries are texts: positional arguments are twice as fast as keywords."""
    return Text(item, value, choice)


DELTAS: dict[str, type[Delta]] = {k.kind: k for k in KINDS if issubclass(k, Delta)}
WHOLE: dict[str, type[Event]] = {k.kind: k for k in KINDS if not issubclass(k, Delta | ItemOpened | ItemClosed)}


@lru_cache(maxsize=4096)
def _text_field(item: int, choice: int) -> str:
    return f"text:{_place(item, choice)}"


def _delta_field(delta: Delta) -> str:
    place = f"{delta.kind}:{_place(delta.item, delta.choice)}"
    if delta.place:
        place += f"@{delta.place[0]}.{delta.place[1]}"
    match delta:
        case Reasoning(key=key, form=form, ref=ref) if form or ref:
            own, length = ("", "") if key == "reasoning_content" else (key, f".{len(key)}")
            return f"{place}!{form}{length}:{own}{ref}"
        case Reasoning(key=key) if key != "reasoning_content":
            return f"{place}:{key}"
        case ToolArguments(tool=tool, call=call, custom=custom):
            return f"{place}:{tool}{'/custom' if custom else ''}:{call}"
    return place


def _place(item: int, choice: int) -> str:
    return f"{item}/{choice}" if choice else str(item)


def _json(value: msgspec.Struct, *without: str, more: Json | None = None) -> str:
    fields = msgspec.to_builtins(value)
    for name in without:
        fields.pop(name, None)
    return jsoncodec.dumps(fields | more if more else fields).decode()


def _object(value: str) -> dict[str, Any]:
    return msgspec.json.decode(value, type=dict[str, Any])


def _extra(value: str) -> Extra:
    try:
        return msgspec.json.decode(value, type=Extra)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptEntry from error


def stored_row(stored: Any) -> Row:
    """The row of a stream's entry as Redis sends it: the id, and the fields and values as a flat list."""
    entry_id, fields = stored
    epoch, _, seq = entry_id.partition(b"-")
    extra = fields[3] if len(fields) > 2 else b""
    return Row(int(epoch), int(seq), fields[0].decode(), fields[1].decode(), extra.decode())


class StoredDone(msgspec.Struct):
    """`done` as it is stored; the output, which may be megabytes, stays the bytes that Redis sent."""

    status: FinalStatus
    at: float
    output: msgspec.Raw = msgspec.Raw(b"[]")
    finish: list[Finish] = []
    usage: Json | None = None
    error: Failure | None = None
    timings: Timings = Timings()
    upstream: Upstream = Upstream()
    cost: float | None = None
    stream: Stream = Stream()
    format: Format | None = None
    continued: int = 0
    response: Json = {}


def stored_done(value: bytes | memoryview) -> StoredDone:
    """The end of a log from its stored value. The output is a view of it, not a copy.

    Raises:
        CorruptEntry: the value was not written by `to_row`.
    """
    try:
        return msgspec.json.decode(value, type=StoredDone)
    except msgspec.MsgspecError as error:
        raise CorruptEntry("unreadable done") from error


def stored_size(stored: Sequence[Any]) -> int:
    """Bytes of content."""
    return sum(len(part) for _, fields in stored for part in fields)


def coalesce_rows(stored: Sequence[Any]) -> tuple[list[Entry], int]:
    """Fewer entries of the same content, and their size: adjacent deltas of one place become one, under the last id.

    Only deltas without `extra` merge, up to `RUN_BYTES`. A reader that stops at a merged entry has the right cursor,
    and the fold is the same from every cursor. The bytes of a run are joined before they are decoded: catching up costs
    what its frames cost, and not what its tokens would.
    """
    entries: list[Entry] = []
    size, place, start = 0, b"", 0
    for i, (_, fields) in enumerate(stored):
        if fields[0] == place and len(fields) == 2:
            continue
        if place:
            size += _join(stored[start:i], entries)
        if len(fields) == 2 and fields[0].partition(b":")[0] in DELTA_FIELDS:
            place, start = fields[0], i
        else:
            place = b""
            entries.append(from_row(stored_row(stored[i])))
            size += stored_size([stored[i]])
    if place:
        size += _join(stored[start:], entries)
    return entries, size


def merged(rows: Sequence[Row]) -> Iterator[Entry]:
    """The entries of a log, adjacent deltas of one place as one. The fold is the same, with less work for each row."""
    for (field, extra), run in groupby(rows, attrgetter("field", "extra")):
        if extra or field.partition(":")[0] not in DELTAS:
            yield from map(from_row, run)
        else:
            deltas = list(run)
            yield from_row(msgspec.structs.replace(deltas[-1], value="".join([row.value for row in deltas])))


RUN_BYTES = 64 * 1024
DELTA_FIELDS = {kind.encode() for kind in DELTAS}


def _join(run: Sequence[Any], entries: list[Entry]) -> int:
    """Add a run as one entry, or as more where it is large. Returns its size as stored."""
    texts = [fields[1] for _, fields in run]
    size = sum(map(len, texts))
    last, (place, _) = run[-1]
    if size > RUN_BYTES and len(run) > 1:
        half = len(run) // 2
        return _join(run[:half], entries) + _join(run[half:], entries)
    entries.append(from_row(stored_row((last, [place, b"".join(texts)]))))
    return size + len(run) * len(place)


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[Row])


STAMP = "text:-1"
"""The field of the row behind the others of a message: when it was sent, in epoch seconds by the sender's clock. It has
the id of the row before it, so that versions which do not know it take it for a repetition of that row, and drop it. It
is in messages alone, never in a log."""

STAMPED = 8
"""One row in so many has its message stamped: the rows whose sequence number it divides. A stamp costs 1.2 µs, 0.9 of
them at the reader (`bench.counting`); a histogram of delays needs no more than a sample."""


def pack(rows: Sequence[Row]) -> bytes:
    """Rows in one piece."""
    return _packer.encode(rows)


def stamp(sent_at: float) -> str:
    """The stamp's value; made once for all messages of a pipeline. `sent_at`: epoch seconds."""
    return f"{sent_at:.6f}"


def message(rows: Sequence[Row], sent: str) -> bytes:
    """Rows as one message, for the generation's channel; stamped if one of its rows is. `sent`: from `stamp`."""
    is_stamped = rows and rows[-1].seq // STAMPED > (rows[0].seq - 1) // STAMPED
    return stamped(rows, sent) if is_stamped else pack(rows)


def stamped(rows: Sequence[Row], sent: str) -> bytes:
    """Rows, of which there is at least one, and their stamp as one message. (The stamp's row is a plain tuple: 0.3 µs a
    message, where a `Row` took 0.9.)"""
    return _packer.encode([*rows, (rows[-1].epoch, rows[-1].seq, STAMP, sent)])


def take_stamp(rows: list[Row]) -> float | None:
    """Remove the stamp of a message from its rows: when it was sent; None where there is none."""
    if not rows or rows[-1].field != STAMP:
        return None
    try:
        return float(rows.pop().value)
    except ValueError:
        return None


def received(message: bytes) -> tuple[list[Entry], float | None]:
    """The entries of a message, and when it was sent, where it is stamped.

    Raises:
        CorruptEntry: the message was not made by `message`.
    """
    rows = unpack(message)
    sent_at = take_stamp(rows)
    return list(map(from_row, rows)), sent_at


def unpack(message: bytes) -> list[Row]:
    """Raises CorruptEntry if the message was not made by `pack`."""
    try:
        return _unpacker.decode(message)
    except msgspec.MsgspecError as error:
        raise CorruptEntry from error
