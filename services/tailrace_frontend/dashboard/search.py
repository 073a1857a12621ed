"""The generations of all owners, newest first, by qualifiers.

    status:failed model:demo owner:anna tag:team=blue error:upstream_timeout worker:1f6b since:2h gen_…

Qualifiers of one name are alternatives, those of different names must all hold. A value that ends with `*` is a
beginning. `status:waiting` is `status:queued`; a generation that is parked is one. A tag is a pair of the request's
metadata, `name=value`, or a name alone. `since` is a time span (`30s`, `15m`, `2h`, `3d`) or a time
(`2027-01-31T10:00Z`). A generation's id, or the id of its answer in another API, is the generation itself.

A search looks at the newest `MOST_HEADS` generations at most, and reports it: what it costs does not depend on how many
there are.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, get_args

import msgspec

from tailrace import keys
from tailrace.errors import InvalidValue
from tailrace.events import Status
from tailrace.ids import CHAT_COMPLETION_PREFIX, RESPONSE_PREFIX, generation_id_from, is_generation_id
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import Place, Queue
from tailrace.redis.server import checked

MOST_HEADS = 10_000
HEADS_AT_ONCE = 500
"""Heads that are read in one round trip."""

MAX_CHARACTERS = 500
SPAN = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
NAMES = ("status", "model", "owner", "tag", "error", "worker")
IN_RECORD = ("model", "owner", "tag")
SYNONYMS = {"waiting": "queued"}
COMPARED = ("created", "record", "status", "worker", "failure")

Head = Sequence[bytes | None]
"""The fields of a state that are compared; None where the generation is no longer kept."""


class Query(NamedTuple):
    """What is searched for. `values`: by qualifier, the alternatives. `since`: ms. `id`: the one that is meant."""

    values: dict[str, tuple[str, ...]]
    since: int = 0
    id: str = ""

    @classmethod
    def parse(cls, text: str, now_ms: int) -> "Query":
        """
        Raises:
            InvalidValue: a word is neither a qualifier nor an id.
        """
        if len(text) > MAX_CHARACTERS:
            raise InvalidValue.at("q", f"A search has at most {MAX_CHARACTERS} characters.")
        values: dict[str, tuple[str, ...]] = {}
        since, generation_id = 0, ""
        for word in text.split():
            name, colon, value = word.partition(":")
            if found := _as_id(word):
                generation_id = found
            elif name == "since" and value:
                since = _time_ms(value, now_ms)
            elif colon and name in NAMES and value:
                value = _status(value) if name == "status" else value
                values[name] = (*values.get(name, ()), value)
            else:
                known = ", ".join(f"{each}:" for each in (*NAMES, "since"))
                raise InvalidValue.at("q", f"{word!r} is no id of a generation, and no qualifier: {known}.")
        return cls(values, since, generation_id)

    def matches(self, head: Head) -> bool:
        """Whether a generation is one of those that are searched for."""
        if not self.values:
            return True
        _, record, *others = head
        fields = dict(
            zip(("status", "worker", "error"), (each.decode() if each else "" for each in others), strict=True)
        )
        if not all(_fits_any(name, fields[name], values) for name, values in self.values.items() if name in fields):
            return False
        asked = {name: self.values[name] for name in IN_RECORD if name in self.values}
        return not asked or _fits_record(record or b"{}", asked)


class _Request(msgspec.Struct):
    """What a search needs of a record."""

    model: str = ""
    owner: str = ""
    tags: list[str] = []


def _fits_record(record: bytes, asked: dict[str, tuple[str, ...]]) -> bool:
    if not any(_may_have(record, value) for value in next(iter(asked.values()))):
        return False
    try:
        known = msgspec.json.decode(record, type=_Request)
    except msgspec.MsgspecError:
        return False
    by_name = {"model": [known.model], "owner": [known.owner]}
    by_name["tag"] = [*known.tags, *(tag.partition("=")[0] for tag in known.tags)]
    return all(any(_fits_any(name, each, asked[name]) for each in by_name[name]) for name in asked)


@lru_cache(maxsize=256)
def _encoded(pattern: str) -> bytes:
    return msgspec.json.encode(pattern.removesuffix("*"))[1:-1]


def _may_have(record: bytes, pattern: str) -> bool:
    """Whether the value may be in a record, as it is stored; most records are not decoded."""
    return _encoded(pattern) in record


class Found(NamedTuple):
    """A page of what was found. `looked_at`: the generations that were compared. `after`: where the last of them is,
    if more may follow. `is_cut`: the search ended because it had looked at as many as it may."""

    states: Sequence[GenerationState]
    looked_at: int
    after: Place | None
    is_cut: bool


async def search(log: Log, queue: Queue, query: Query, limit: int, after: Place | None) -> Found:
    """Up to `limit` generations, after this place. Those that are no longer kept leave the list on the way."""
    found: list[str] = []
    looked_at, last = 0, after
    size = limit + 1 if not query.values else HEADS_AT_ONCE
    async for page in queue.index.list_all(after, min(size, HEADS_AT_ONCE)):
        heads = await _heads(log, [place.id for place in page])
        await queue.index.forget_unlisted(
            [place.id for place, head in zip(page, heads, strict=True) if head[0] is None]
        )
        for place, head in zip(page, heads, strict=True):
            if head[0] is not None:
                if int(head[0]) < query.since:
                    return Found(await _states(log, found), looked_at, None, is_cut=False)
                if query.matches(head):
                    if len(found) == limit:
                        return Found(await _states(log, found), looked_at, last, is_cut=False)
                    found.append(place.id)
            looked_at, last = looked_at + 1, place
        if looked_at >= MOST_HEADS:
            return Found(await _states(log, found), looked_at, last, is_cut=True)
    return Found(await _states(log, found), looked_at, None, is_cut=False)


async def _heads(log: Log, ids: Sequence[str]) -> list[Head]:
    """What a search compares: a tenth of what a whole state costs to decode."""
    return checked(await log.server.execute_many([("HMGET", keys.state(each), *COMPARED) for each in ids]))


async def _states(log: Log, ids: Sequence[str]) -> list[GenerationState]:
    """Those that are still kept."""
    return [state for state in await log.states(ids) if isinstance(state, GenerationState)] if ids else []


def _fits_any(name: str, value: str, patterns: Sequence[str]) -> bool:
    return any(_fits(name, value, each) for each in patterns)


def _fits(name: str, value: str, pattern: str) -> bool:
    """A worker is known by the beginning of its name (`ids.short_name`). What is not there begins with nothing."""
    if pattern.endswith("*") or name == "worker":
        return bool(value) and value.startswith(pattern.removesuffix("*"))
    return value == pattern


def _status(word: str) -> str:
    """
    Raises:
        InvalidValue: it is no status, and no beginning of one.
    """
    known = (*get_args(Status), *SYNONYMS)
    if not any(_fits("status", each, word) for each in known):
        raise InvalidValue.at("q", f"status: is one of {', '.join(known)}.")
    return SYNONYMS.get(word, word)


def _as_id(word: str) -> str:
    """The generation that the word names; empty where it names none."""
    if is_generation_id(word):
        return word
    forms = (generation_id_from(prefix, word) for prefix in (CHAT_COMPLETION_PREFIX, RESPONSE_PREFIX))
    return next(filter(None, forms), "")


def _time_ms(text: str, now_ms: int) -> int:
    if span := SPAN.fullmatch(text):
        return now_ms - 1000 * int(span[1]) * SECONDS[span[2]]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue.at("q", f"since:{text} is neither a time span (15m, 2h) nor a time (2027-01-31).") from None
    return round(1000 * (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
