"""Lenient reading of an upstream's JSON, for every dialect.

An upstream's JSON may hold any value at any place. A value of an unexpected type is skipped and counted, because one
malformed field must not end an answer. Null, an empty string, an empty list and an empty object carry no information
and count as absent.
"""

from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import Json

MAX_DEPTH = 200
"""Arrays and objects in each other. Answers of the API nest them deeper than the upstream has, and parsers have limits:
msgspec and Python's `json` of about 1,000."""

MAX_ITEMS = 2048
"""Items and calls of one answer, and elements of a list of which each is read for itself. More would take a thousand
times their size in memory, and a time that grows with the square of their number."""

MAX_HELD_BYTES = 8 * 1024 * 1024
"""Of the values of one answer that wait for an entry. The end of the log has those that none has carried."""

NOTHING: Json = {}
"""The one empty object: shared, never written to."""

_encode = msgspec.json.Encoder().encode


def is_empty(value: Any) -> bool:
    """Whether a JSON value carries no information. Zero and false do carry some."""
    return not value and (value is None or isinstance(value, (str, list, dict)))


class LenientReader:
    """Reads JSON values by their expected type; null reads as the type's empty value.

    `malformed` counts the values that had another type and were skipped.
    """

    __slots__ = ("_room", "malformed")

    def __init__(self) -> None:
        self.malformed = 0
        self._room = MAX_HELD_BYTES

    def text(self, value: Any) -> str:
        """A string as received, lone surrogates included: the other half of a pair may follow in the next chunk."""
        if isinstance(value, str):
            return value
        self.malformed += value is not None
        return ""

    def string(self, value: Any) -> str:
        """A string that can be encoded (a name, an id, a reason): lone surrogates become U+FFFD."""
        text = value if isinstance(value, str) else self.text(value)
        return text if text.isascii() else str(jsoncodec.replace_lone_surrogates(text))

    def fields(self, value: Any) -> Json:
        """A JSON object."""
        if value is None or isinstance(value, dict):
            return value or NOTHING
        self.malformed += 1
        return NOTHING

    def elements(self, value: Any) -> list[Any]:
        """A JSON array."""
        if value is None or isinstance(value, list):
            return value or []
        self.malformed += 1
        return []

    def objects(self, value: Any) -> list[Json]:
        """The non-empty objects of a JSON array."""
        if value is None:
            return []
        return [fields for each in self.elements(value) if (fields := self.fields(each))]

    def encodable_objects(self, value: Any) -> list[Json]:
        """The same, as `verbatim`."""
        found = self.objects(value)
        return self.verbatim({"objects": found}).get("objects", []) if found else found

    def first(self, elements: list[Any]) -> list[Any]:
        """The first `MAX_ITEMS` of a list. The others count as malformed."""
        if len(elements) <= MAX_ITEMS:
            return elements
        self.malformed += len(elements) - MAX_ITEMS
        return elements[:MAX_ITEMS]

    def hold(self, value: Any) -> int:
        """Count a value, which is encodable, and is kept until an entry carries it. Returns its bytes, which `release`
        takes then; 0: there is no room for it, and it counts as malformed."""
        size = len(_encode(value))
        if size > self._room:
            self.malformed += 1
            return 0
        self._room -= size
        return size

    def release(self, size: int) -> None:
        self._room += size

    def index(self, value: Any) -> int | None:
        """A non-negative integer; None where it is absent or malformed."""
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        self.malformed += 1
        return None

    def unknown_fields(self, fields: Json, known: frozenset[str]) -> Json:
        """The fields that are not among the known ones and not empty, verbatim."""
        if known.issuperset(fields):
            return NOTHING
        found = {key: value for key, value in fields.items() if key not in known and (value or not is_empty(value))}
        return self.verbatim(found) if found else NOTHING

    def verbatim(self, fields: Json) -> Json:
        """The same fields, encodable: lone surrogates become U+FFFD. A field that is nested deeper than `MAX_DEPTH`
        counts as malformed and is dropped."""
        try:
            data = _encode(fields)
        except (UnicodeEncodeError, RecursionError):
            is_encodable = False
        else:
            if len(data) <= 2 * MAX_DEPTH or data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
                return fields
            is_encodable = True
        kept = {name: value for name, value in fields.items() if jsoncodec.is_within_depth(value, MAX_DEPTH)}
        self.malformed += len(fields) - len(kept)
        if is_encodable:
            return kept
        return {str(name): value for name, value in jsoncodec.replace_lone_surrogates(kept).items()}

    def error(self, value: Any) -> Any:
        """An error object, or whatever stands in its place, as `verbatim`."""
        return self.verbatim(value) if isinstance(value, dict) else self.verbatim({"error": value}).get("error")


class ChangedFields:
    """Tracks fields that every chunk may repeat, so that the log holds only their changes.

    The first changes taken are those of the first update alone: clients that keep only the first value of such a field
    then keep the upstream's first. A value that is overwritten before the next entry is never written.

    `current` holds the latest values. `has_changes`: the next entry must call `take_changes`. The work of an update
    does not grow with the number of fields that there are already. What waits for an entry is held by the reader.
    """

    __slots__ = ("_changed", "_first", "_overwritten", "_reader", "_sent", "current", "has_changes")

    def __init__(self, reader: LenientReader) -> None:
        self.current: Json = {}
        self.has_changes = True
        self._reader = reader
        self._changed: dict[str, int] = {}  # the bytes of values that may differ from those that were sent
        self._overwritten = 0  # bytes of first values that have changed since
        self._first: Json | None = None
        self._sent: Json | None = None

    @property
    def is_pending(self) -> bool:
        """Whether values have changed since changes were last taken."""
        return self.current != (self._sent or NOTHING)

    def update(self, fields: Json) -> None:
        """Record the fields of one chunk; a field that is missing keeps its value."""
        for key, value in fields.items():
            if self.current.get(key) != value and (size := self._reader.hold(value)):
                self._overwrite(self._changed.get(key, 0))
                self.current[key], self._changed[key] = value, size
                self.has_changes = True
        if self._first is None:
            self._first = dict(self.current)

    def _overwrite(self, size: int) -> None:
        if self._sent is None:
            self._overwritten += size
        else:
            self._reader.release(size)

    def take_changes(self) -> Json:
        """The changes that the next entry carries."""
        sent, changed = self._sent, self._changed
        if sent is None:
            changes = dict(self._first or NOTHING)
            self._sent = dict(changes)
            self._changed = {key: changed[key] for key in changed if changes.get(key) != self.current[key]}
        else:
            changes = {key: self.current[key] for key in changed if sent.get(key) != self.current[key]}
            sent.update(changes)
            self._changed = {}
        self._reader.release(sum(changed.values()) - sum(self._changed.values()) + self._overwritten)
        self._overwritten = 0
        self.has_changes = bool(self._changed)
        return changes


def join_surrogates(pending: str, text: str) -> tuple[str, str]:
    """Join the high surrogate that ended the previous text with this one.

    Returns the encodable text, and the high surrogate that it ended in, if any: the low one may begin the next text.
    A surrogate without its other half becomes U+FFFD.
    """
    if not pending:
        if text.isascii():
            return text, ""
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text, ""
    text = pending + text
    if "\ud800" <= text[-1:] <= "\udbff":
        return str(jsoncodec.replace_lone_surrogates(text[:-1])), text[-1]
    return str(jsoncodec.replace_lone_surrogates(text)), ""
