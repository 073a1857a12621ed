"""The line of every key and value in a TOML file: for messages about values, which `tomllib` gives no position for.

The text is valid TOML already, so only its marks, texts and ends of lines count. Each character is read once.
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""A place in the document: names of keys, and indexes in arrays."""

TOKEN = re.compile(
    r'''
    (?P<text> """(?:[^"\\]++|\\.|"{1,2}(?!"))*"{3,5} | \'\'\'(?:[^']++|'{1,2}(?!'))*'{3,5}
            | "(?:[^"\\\n]++|\\.)*" | '[^'\n]*+' )
    | (?P<end> \n )
    | (?P<mark> [\[\]{}=,.] )
    | (?P<bare> [^\s\[\]{}=,."'#]++ )
    | (?P<comment> \#[^\n]*+ )
    ''',
    re.VERBOSE | re.DOTALL,
)
"""What is in no group (blanks) separates tokens. No group is repeated possessively: before CPython 3.11.5, one with a
negative lookahead then matches other text than it should (gh-100061)."""


def line_numbers(text: str, places: Collection[Path] | None = None) -> dict[Path, int]:
    """The line, from 1, at which each key or element begins; of a table, its header. `places`: the only ones that are
    asked for, with what contains them; None: all."""
    return _Reader(text, places).read()


def line_of(lines: Mapping[Path, int], path: Sequence[str | int]) -> int:
    """The line of the innermost key or element on this path that has one; 1 where none has."""
    place = tuple(path)
    return next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), 1)


class _Reader:
    """Reads a document from its beginning to its end. `_kind`, `_word`: the next token; `_line`: where it begins."""

    def __init__(self, text: str, places: Collection[Path] | None) -> None:
        self._tokens = TOKEN.finditer(text)
        self._wanted = None if places is None else {each[:end] for each in places for end in range(len(each) + 1)}
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}  # of the tables that each array has so far
        self._kind, self._word, self._line, self._ends = "", "", 1, 0
        self._next()

    def read(self) -> dict[Path, int]:
        table: Path | None = ()
        while True:
            self._skip_ends()
            if not self._kind:
                return self._lines
            if self._word == "[":
                table = self._header()
            else:
                self._value(self._key(table))

    def _next(self) -> None:
        self._line, self._ends = self._line + self._ends, 0
        for match in self._tokens:
            if match.lastgroup != "comment":
                self._kind, self._word = match.lastgroup or "", match[0]
                self._ends = self._word.count("\n")
                return
        self._kind = self._word = ""

    def _skip_ends(self) -> None:
        while self._kind == "end":
            self._next()

    def _names(self, end: str) -> list[str]:
        """The names of a key, up to the mark behind it."""
        names: list[str] = []
        while self._word != end or self._kind != "mark":
            if self._kind == "text":
                names += tomllib.loads(f"{self._word} = 0")
            elif self._kind == "bare":
                names.append(self._word)
            self._next()
        self._next()
        return names

    def _header(self) -> Path | None:
        """The table of a header; None for one that is not asked for."""
        line = self._line
        self._next()
        is_array = self._word == "[" and self._kind == "mark"
        if is_array:
            self._next()
        names = self._names("]")
        if is_array:
            self._next()
        path: Path | None = ()
        for position, name in enumerate(names):
            path = self._note(path, name, line)
            if path is None:
                return None
            if is_array and position == len(names) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = self._note(path, self._counts[path] - 1, line)
        return path

    def _key(self, path: Path | None) -> Path | None:
        line = self._line
        for name in self._names("="):
            path = self._note(path, name, line)
        return path

    def _value(self, path: Path | None) -> None:
        """Read a value, and note the keys and elements in it."""
        word, is_mark = self._word, self._kind == "mark"
        self._next()
        if is_mark and word in "[{":
            self._elements(path, is_array=word == "[")
        else:
            while self._kind == "bare" or self._word == ".":  # the rest of a number or a date
                self._next()

    def _elements(self, path: Path | None, *, is_array: bool) -> None:
        index = 0
        while True:
            self._skip_ends()
            word, is_mark = self._word, self._kind == "mark"
            if is_mark and word in "]},":
                self._next()
                if word != ",":
                    return
            elif is_array:
                self._value(self._note(path, index, self._line))
                index += 1
            else:
                self._value(self._key(path))

    def _note(self, path: Path | None, name: Any, line: int) -> Path | None:
        """The place of a key or element in what contains it, with its line; None for one that is not asked for."""
        if path is None:
            return None
        place = (*path, name)
        if self._wanted is not None and place not in self._wanted:
            return None
        self._lines.setdefault(place, line)
        return place
