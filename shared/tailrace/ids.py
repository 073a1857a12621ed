"""Identifiers of generations, jobs and log entries.

A generation's id has 130 random bits and cannot be guessed. An entry's id, `<epoch>-<seq>`, is its position in the log
and also the cursor that a client sends to resume, so it is parsed here as untrusted text.
"""

import base64
import re
import secrets
from typing import NamedTuple

from tailrace.errors import InvalidCursor

GENERATION = re.compile(r"gen_[a-z2-7]{26}", re.ASCII)
CURSOR = re.compile(r"([0-9]{1,15})-([0-9]{1,15})", re.ASCII)  # 15 digits: exact in Lua's and JavaScript's doubles


def new_generation_id() -> str:
    """A new id: `gen_` and 26 characters of lower-case base32 (130 random bits)."""
    return "gen_" + base64.b32encode(secrets.token_bytes(17)).decode().lower()[:26]


def is_generation_id(text: str) -> bool:
    """Whether the text has the form of a generation's id."""
    return GENERATION.fullmatch(text) is not None


def new_token() -> str:
    """A new unique name for a job, a run or a worker: 80 random bits."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


class EntryId(NamedTuple):
    """An entry's position: the epoch of the attempt that wrote it (ms of Redis' clock) and its last sequence number.

    Ids are ordered: every entry of a later epoch is after every entry of an earlier one.
    """

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """Parse a client's cursor.

        Raises:
            InvalidCursor: the text is not two decimal numbers of at most 15 digits with one `-` between them.
        """
        match = CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor
        return cls(int(match[1]), int(match[2]))


START = EntryId(0, -1)
"""The cursor before the first entry of any log: sequence numbers begin at 0."""
