"""Takes the worker's keys out of what an upstream sends in an error: upstreams quote them, in any field.

A key stays secret when its upstream leaves `tailrace.toml`: a call that is under way may still quote it. So the keys
of a process are only ever added to.
"""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MIN_KEY_CHARACTERS = 8
"""Shorter keys are placeholders that also occur as ordinary words, so they are not redacted."""

MASKED_CHARACTERS = 4
"""Of the key's beginning or end: as much of it as upstreams quote."""

MAX_DEPTH = 100
"""What is nested deeper is replaced as a whole."""

KEY_LIKE = re.compile(r"\bsk-|\*{3}")

MASK = "***"

QUOTED_KEY = re.compile(r"(?<![\w-])[\w-]*+(?:(?:\*{3,}|\.{3,}|…)[\w-]*+)+")
"""A word of which the middle is masked, as upstreams quote keys. A search begins at the beginnings of words only: else
its time grows with the square of the length (7 s for 16 KB, measured)."""

MASKS = re.compile(r"\*{3,}|\.{3,}|…")

ACCOUNT = re.compile(r"\b(?:org-|proj_)\w{8,}")
"""Names of OpenAI's organizations and projects, which are in the messages of its rate limits."""

Redact = Callable[[Any], Any]
"""The same value (JSON, or a struct of it) without the keys."""


def unchanged(value: Any) -> Any:
    """The `Redact` of a process that has no key."""
    return value


class Redaction:
    """The keys that this process has ever used."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys: list[str] = []
        self.add(keys)

    def add(self, keys: Iterable[str]) -> None:
        known = {*self._keys, *(key for key in keys if len(key) >= MIN_KEY_CHARACTERS)}
        self._keys = sorted(known, key=len, reverse=True)

    def redacted(self, value: T) -> T:
        """The same JSON value or struct without the keys, what an upstream quotes of them (`sk-pr***wxyz`), and the
        names of its account's organization and project."""
        redacted: T = self._redacted(value, 0)
        return redacted

    def masked(self, word: str) -> str:
        """`***` for a word that has a key, its beginning or its end, or looks like one: for the log alone."""
        ends = (end for key in self._keys for end in (key[:MASKED_CHARACTERS], key[-MASKED_CHARACTERS:]))
        return MASK if any(end in word for end in ends) or KEY_LIKE.search(word) else word

    def _redacted(self, value: Any, depth: int) -> Any:
        match value:
            case str():
                return self._text(value)
            case dict() | list() if depth == MAX_DEPTH:
                return MASK
            case dict():
                return {self._text(str(name)): self._redacted(each, depth + 1) for name, each in value.items()}
            case list():
                return [self._redacted(each, depth + 1) for each in value]
            case msgspec.Struct():
                fields = msgspec.structs.asdict(value)
                shown = {name: self._redacted(each, depth) for name, each in fields.items()}
                return value if shown == fields else msgspec.structs.replace(value, **shown)
        return value

    def _text(self, text: str) -> str:
        for key in self._keys:
            text = _without_beginning(text.replace(key, MASK), key)
        if self._keys:
            text = QUOTED_KEY.sub(lambda word: MASK if self._quotes_key(word[0]) else word[0], text)
        return ACCOUNT.sub(MASK, text)

    def _quotes_key(self, word: str) -> bool:
        """Whether what stands around a mask in this word is of a key."""
        return any(self._is_quoted(beginning, end) for beginning, end in pairwise(MASKS.split(word)))

    def _is_quoted(self, beginning: str, end: str) -> bool:
        is_enough = len(beginning) + len(end) > 2
        return is_enough and any(key.startswith(beginning) and key.endswith(end) for key in self._keys)


def _without_beginning(text: str, key: str) -> str:
    """The text without the beginning of a key at its end: a long message is cut, maybe in a key."""
    at = text.rfind(key[:MIN_KEY_CHARACTERS], -len(key))
    return text[:at] + MASK if at >= 0 and key.startswith(text[at:]) else text
