"""Identifiers of generations, jobs, requests and log entries.

A generation's id has 130 random bits and cannot be guessed. Each API has a prefix of its own for it (`gen_`,
`chatcmpl-`, `resp_`); the rest is the same. An entry's id, `<epoch>-<seq>`, is its position in the log and also the
cursor that a client sends to resume, so it is parsed here as untrusted text.
"""

import base64
import re
import secrets

import msgspec

from tailrace.errors import InvalidCursor

GENERATION_PREFIX, CHAT_COMPLETION_PREFIX, RESPONSE_PREFIX = "gen_", "chatcmpl-", "resp_"
MESSAGE_PREFIX = "msg_"
"""Of the AI SDK's messages."""

ITEM_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
"""Of the items of a Response, by their type; `<prefix>_<26 characters>_<place>`."""

GENERATION = re.compile(r"gen_[a-z2-7]{26}", re.ASCII)
CURSOR = re.compile(r"([0-9]{1,15})-([0-9]{1,15})", re.ASCII)  # 15 digits: exact in Lua's and JavaScript's doubles


def new_generation_id() -> str:
    """A new id of a generation."""
    return new_id(GENERATION_PREFIX)


def new_id(prefix: str) -> str:
    """A new id: the prefix, and 26 characters of lower-case base32 (130 random bits)."""
    return prefix + base64.b32encode(secrets.token_bytes(17)).decode().lower()[:26]


def is_generation_id(text: str) -> bool:
    """Whether the text has the form of a generation's id."""
    return GENERATION.fullmatch(text) is not None


def id_as(prefix: str, generation_id: str) -> str:
    """The generation's id in the form of another API: the same 26 characters behind that API's prefix (`chatcmpl-`)."""
    return prefix + generation_id.removeprefix(GENERATION_PREFIX)


def generation_id_from(prefix: str, text: str) -> str | None:
    """The id of the generation that has this id in the form of `prefix`; None where the text has not that form."""
    generation_id = GENERATION_PREFIX + text.removeprefix(prefix)
    return generation_id if text.startswith(prefix) and is_generation_id(generation_id) else None


def new_request_id() -> str:
    """A new name for one request, for logs: `req_` and 80 random bits."""
    return "req_" + new_token()


def new_token() -> str:
    """A new unique name for a job, a run or a worker: 80 random bits."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def short_name(token: str) -> str:
    """A token as people see it, in logs and beside an answer: its first four characters distinguish a few workers."""
    return token[:4]


class EntryId(msgspec.Struct, frozen=True, order=True, gc=False):
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
