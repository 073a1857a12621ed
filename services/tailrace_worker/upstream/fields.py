"""Lenient reading of an upstream's JSON, for every dialect.

An upstream's JSON may hold any value at any place. A value of an unexpected type is skipped and counted, because one
malformed field must not end an answer. Null, an empty string, an empty list and an empty object carry no information
and count as absent.
"""

from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import Json

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

    __slots__ = ("malformed",)

    def __init__(self) -> None:
        self.malformed = 0

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
        """The same fields, encodable: lone surrogates become U+FFFD.

        Fields that are nested too deeply for the encoder count as malformed and are dropped.
        """
        try:
            _encode(fields)
        except UnicodeEncodeError:
            pass
        except RecursionError:
            self.malformed += 1
            return NOTHING
        else:
            return fields
        try:
            return {str(key): value for key, value in jsoncodec.replace_lone_surrogates(fields).items()}
        except RecursionError:
            self.malformed += 1
            return NOTHING


class ChangedFields:
    """Tracks fields that every chunk may repeat, so that the log holds only their changes.

    The first changes taken are those of the first update alone: clients that keep only the first value of such a field
    then keep the upstream's first. A value that is overwritten before the next entry is never written.

    `current` holds the latest values. `has_changes`: the next entry must call `take_changes`.
    """

    __slots__ = ("_first", "_sent", "current", "has_changes")

    def __init__(self) -> None:
        self.current: Json = {}
        self.has_changes = True
        self._first: Json | None = None
        self._sent: Json | None = None

    @property
    def is_pending(self) -> bool:
        """Whether values have changed since changes were last taken."""
        return self.current != (self._sent or NOTHING)

    def update(self, fields: Json) -> None:
        """Record the fields of one chunk; a field that is missing keeps its value."""
        if self._first is None:
            self._first = fields
        for key, value in fields.items():
            if self.current.get(key) != value:
                self.current[key] = value
                self.has_changes = True

    def take_changes(self) -> Json:
        """The changes that the next entry carries."""
        if self._sent is None:
            changes = self._sent = dict(self._first or NOTHING)
        else:
            sent = self._sent
            changes = {key: value for key, value in self.current.items() if sent.get(key) != value}
            self._sent = sent | changes
        self.has_changes = self.is_pending
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
