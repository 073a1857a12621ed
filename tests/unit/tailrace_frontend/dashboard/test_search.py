"""Searches over all generations."""

import sys
from collections.abc import Sequence

import msgspec
import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from support.queues import queue_on
from tailrace import keys
from tailrace.errors import InvalidValue
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.queue import Place
from tailrace.redis.server import RedisServer
from tailrace_frontend.dashboard import Query, search

NOW = 1_800_000_000_000
ID = "gen_" + "a" * 26


TAGS = ["team=blue", 'user=Zoë "Z"']
HEAD = (str(NOW).encode(), msgspec.json.encode(record_of(id=ID, tags=TAGS)), b"failed", b"1f6bxyz", b"upstream_timeout")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("status:failed", True),
        ("status:running", False),
        ("status:running status:failed", True),
        ("status:failed model:demo owner:anna", True),
        ("status:failed model:other", False),
        ("model:de*", True),
        ("model:de", False),
        ("error:upstream_*", True),
        ("error:internal_error", False),
        ("worker:1f6b", True),
        ("worker:2f6b", False),
        ("status:fail*", True),
        ("tag:team=blue", True),
        ("tag:team", True),
        ("tag:te", False),
        ("tag:team=b*", True),
        ("tag:team=red tag:user", True),
        ("tag:team=red", False),
        ("tag:blue", False),
        ("tag:user=Zoë*", True),
        ("tag:team=blue owner:ben", False),
        ("tag:team=blue owner:anna model:demo", True),
    ],
)
def test_qualifiers_of_one_name_are_alternatives_and_others_must_all_hold(text: str, matches: bool) -> None:
    assert Query.parse(text, NOW).matches(HEAD) is matches


@pytest.mark.parametrize("text", ["error:*", "worker:*"])
def test_beginning_of_anything_is_not_that_of_nothing(text: str) -> None:
    assert Query.parse(text, NOW).matches(HEAD)
    assert not Query.parse(text, NOW).matches([*HEAD[:3], b"", None])


@pytest.mark.parametrize("word", ["bogus", "RUNNING", "x*"])
def test_status_is_one_of_a_few(word: str) -> None:
    with pytest.raises(InvalidValue, match="status: is one of queued, running"):
        Query.parse(f"status:{word}", NOW)


def test_waiting_is_a_word_for_queued() -> None:
    assert Query.parse("status:waiting", NOW).values == {"status": ("queued",)}


@pytest.mark.parametrize("word", [ID, "chatcmpl-" + "a" * 26, "resp_" + "a" * 26])
def test_id_in_any_form_is_the_generation(word: str) -> None:
    assert Query.parse(f" {word} ", NOW).id == ID


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("since:30s", NOW - 30_000),
        ("since:15m", NOW - 900_000),
        ("since:2h", NOW - 7_200_000),
        ("since:3d", NOW - 259_200_000),
        ("since:2027-01-31", 1_801_353_600_000),
        ("since:2027-01-31T10:00:00Z", 1_801_389_600_000),
    ],
)
def test_since_is_a_span_or_a_time(text: str, since: int) -> None:
    assert Query.parse(text, NOW).since == since


@pytest.mark.parametrize("text", ["bogus", "colour:red", "status:", "since:yesterday", ":", "x" * 501])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Query.parse(text, NOW)


class Stored:
    """Generations, one a millisecond."""

    def __init__(self, redis: Redis) -> None:
        self.log = Log(RedisServer(redis), 5000)
        self.queue = queue_on(redis)
        self.redis = redis

    async def add(self, count: int, owners: Sequence[str] = ("anna",), keep: int = 1) -> list[str]:
        """The ids, newest first. `keep`: one in so many has a state still."""
        ids = [new_generation_id() for _ in range(count)]
        pipeline = self.redis.pipeline(transaction=False)
        for n, generation_id in enumerate(ids):
            pipeline.zadd(keys.GENERATIONS, {generation_id: NOW + n})
            if n % keep == 0:
                record = record_of(id=generation_id, owner=owners[n % len(owners)], options=Options(60, 60))
                pipeline.hset(keys.state(generation_id), mapping=stored_state(record, NOW + n))
        await pipeline.execute()
        return ids[::-1]


def stored_state(record: object, created: int) -> dict[str, str | bytes | int]:
    return {
        "record": msgspec.json.encode(record), "created": created, "status": "completed", "epoch": 1, "attempt": 1,
        "seq": 4, "lease": 0, "deadline": created + 60_000, "job_id": "",
    }  # fmt: skip


async def test_pages_follow_each_other_without_a_gap_or_a_repetition(redis: Redis) -> None:
    stored = Stored(redis)
    ids = await stored.add(120)
    found: list[str] = []
    after = None
    while True:
        page = await search(stored.log, stored.queue, Query.parse("", NOW), 50, after)
        found += [each.record.id for each in page.states]
        after = page.after
        if after is None:
            break
    assert found == ids


async def test_search_finds_what_is_rare_and_continues_after_it(redis: Redis) -> None:
    stored = Stored(redis)
    await stored.add(600, owners=["anna"] * 99 + ["bob"])
    query = Query.parse("owner:bob", NOW)
    page = await search(stored.log, stored.queue, query, 4, None)
    assert len(page.states) == 4
    rest = await search(stored.log, stored.queue, query, 4, page.after)
    assert len(rest.states) == 2
    assert rest.after is None
    assert {each.record.owner for each in (*page.states, *rest.states)} == {"bob"}


async def test_search_looks_at_a_bounded_number_and_reports_it(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[search.__module__], "MOST_HEADS", 500)
    stored = Stored(redis)
    ids = await stored.add(800)
    page = await search(stored.log, stored.queue, Query.parse("owner:nobody", NOW), 50, None)
    assert (page.states, page.looked_at, page.is_cut) == ([], 500, True)
    assert page.after is not None
    assert page.after.id == ids[499]
    assert Place.parse(page.after.cursor) == page.after
    rest = await search(stored.log, stored.queue, Query.parse("owner:nobody", NOW), 50, page.after)
    assert (rest.looked_at, rest.is_cut, rest.after) == (300, False, None)


async def test_search_ends_where_older_ones_cannot_match(redis: Redis) -> None:
    stored = Stored(redis)
    ids = await stored.add(400)
    query = Query({}, since=NOW + 390)
    page = await search(stored.log, stored.queue, query, 50, None)
    assert [each.record.id for each in page.states] == ids[:10]
    assert page.looked_at < 100


async def test_generations_that_are_gone_leave_the_list(redis: Redis) -> None:
    stored = Stored(redis)
    await stored.add(100, keep=2)
    page = await search(stored.log, stored.queue, Query.parse("status:completed", NOW), 100, None)
    assert len(page.states) == 50
    assert await stored.redis.zcard(keys.GENERATIONS) == 50
