"""What an upstream sends beside its words: read with tolerance, told when it changes, fit to be written.

An upstream's JSON may hold anything at any place. What has not the expected type is passed over and counted: one odd
field must not end an answer. Null says nothing, and so do an empty string, list and object.
"""

from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import Json

NOTHING: Json = {}
_encode = msgspec.json.Encoder().encode


def says_nothing(value: Any) -> bool:
    return not value and (value is None or isinstance(value, (str, list, dict)))


class Tolerant:
    """Reads values of the expected type. `odd` counts those that had another."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = 0

    def string(self, value: Any) -> str:
        """The string as it came, halves of surrogate pairs included."""
        if value is None or isinstance(value, str):
            return value or ""
        self.odd += 1
        return ""

    def name(self, value: Any) -> str:
        """A string that can be written: a name, an id, a reason."""
        return str(jsoncodec.replace_lone_surrogates(self.string(value)))

    def fields(self, value: Any) -> Json:
        if value is None or isinstance(value, dict):
            return value or NOTHING
        self.odd += 1
        return NOTHING

    def elements(self, value: Any) -> list[Any]:
        if value is None or isinstance(value, list):
            return value or []
        self.odd += 1
        return []

    def objects(self, value: Any) -> list[Json]:
        """The objects of a list."""
        return [told for each in self.elements(value) if (told := self.fields(each))]

    def index(self, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        self.odd += 1
        return None

    def others(self, told: Json, known: frozenset[str]) -> Json:
        """Fields that are none of the known, verbatim."""
        found = {key: value for key, value in told.items() if key not in known and not says_nothing(value)}
        return self.verbatim(found) if found else NOTHING

    def verbatim(self, fields: Json) -> Json:
        """The same fields, if they can be written: halves of surrogate pairs mended, beyond all depth left out."""
        try:
            _encode(fields)
        except UnicodeEncodeError:
            pass
        except RecursionError:
            self.odd += 1
            return NOTHING
        else:
            return fields
        try:
            return {str(key): value for key, value in jsoncodec.replace_lone_surrogates(fields).items()}
        except RecursionError:
            self.odd += 1
            return NOTHING


class Sticky:
    """Fields that every chunk may repeat: told when they change.

    What came first is told first, by itself: clients that keep the first of such a field keep the upstream's first. A
    value overwritten before the next entry is not told. `news`: the next entry must ask what it has to tell.
    """

    __slots__ = ("_first", "_told", "news", "now")

    def __init__(self) -> None:
        self.now: Json = {}
        self.news = True
        self._first: Json | None = None
        self._told: Json | None = None

    @property
    def untold(self) -> bool:
        return self.now != (self._told or NOTHING)

    def see(self, fields: Json) -> None:
        if self._first is None:
            self._first = fields
        for key, value in fields.items():
            if self.now.get(key) != value:
                self.now[key] = value
                self.news = True

    def take(self) -> Json:
        """What the next entry has to tell."""
        if self._told is None:
            told = self._told = dict(self._first or NOTHING)
        else:
            before = self._told
            told = {key: value for key, value in self.now.items() if before.get(key) != value}
            self._told = before | told
        self.news = self.untold
        return told


def meet(half: str, text: str) -> tuple[str, str]:
    """Text that can be written, and the half of a surrogate pair that it ends in: its partner may come with the next.

    Orphans become U+FFFD.
    """
    if not half:
        if text.isascii():
            return text, ""
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text, ""
    text = half + text
    if "\ud800" <= text[-1:] <= "\udbff":
        return str(jsoncodec.replace_lone_surrogates(text[:-1])), text[-1]
    return str(jsoncodec.replace_lone_surrogates(text)), ""
