"""Names of things: generations, dispatches, and entries of a log.

A generation's id is unguessable (130 random bits): whoever holds it has been given it. An entry's id is its place in
the log, `<epoch>-<seq>`, and at the same time the cursor a client hands back, so it is parsed here as untrusted text.
"""

import base64
import re
import secrets
from typing import NamedTuple

from tailrace.errors import InvalidCursor

GENERATION = re.compile(r"gen_[a-z2-7]{26}", re.ASCII)
CURSOR = re.compile(r"([0-9]{1,15})-([0-9]{1,15})", re.ASCII)  # 15 digits: exact in Lua's and JavaScript's doubles


def new_generation_id() -> str:
    """`gen_` and 26 characters of lower-case base32 (130 bits)."""
    return "gen_" + base64.b32encode(secrets.token_bytes(17)).decode().lower()[:26]


def is_generation_id(text: str) -> bool:
    return GENERATION.fullmatch(text) is not None


def new_token() -> str:
    """A fresh name for a dispatch, a run or a worker: 80 random bits."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


class EntryId(NamedTuple):
    """An entry's place: the attempt that wrote it (ms of Redis' clock) and the last number it takes."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """Read a client's cursor.

        Raises:
            InvalidCursor: anything but two decimal numbers of at most 15 digits with one `-` between them.
        """
        match = CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor
        return cls(int(match[1]), int(match[2]))


START = EntryId(0, -1)
"""The cursor before the first entry of any log: numbers begin at 0."""
