import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from support.queues import LONGEST_LIFE_S, queue_on
from tailrace import keys
from tailrace.errors import IdempotencyKeyReused
from tailrace.events import GenerationRecord, Options
from tailrace.ids import new_generation_id
from tailrace.queue import Claim, Queue
from tailrace.queue.index import CLAIM_GRACE_S


def new_record(created: int = 1_000_000, owner: str = "anna", deadline_s: int = 3600) -> GenerationRecord:
    return record_of(id=new_generation_id(), created=created, owner=owner, options=Options(deadline_s, 900))


async def claimed(queue: Queue, owner: str, key: str, body: bytes, generation_id: str) -> str:
    """The generation that the key stands for."""
    claim = Claim.of(generation_id, body)
    return claim.held_by((await queue.load(owner, key, claim, 60)).claimed)


async def listed(queue: Queue, owner: str, after: str | None = None) -> list[str]:
    return [each async for page in queue.index.list_owned(owner, after) for each in page]


# Claims


async def test_key_stands_for_the_generation_it_was_first_used_for(queue: Queue) -> None:
    assert [await claimed(queue, "anna", "key", b"{}", f"gen {n}") for n in range(3)] == ["gen 0"] * 3


async def test_key_claimed_by_many_at_once_stands_for_one_generation(queue: Queue) -> None:
    claims = await asyncio.gather(*(claimed(queue, "anna", "key", b"{}", f"gen {n}") for n in range(20)))
    assert len(set(claims)) == 1


async def test_key_is_refused_for_another_body(queue: Queue) -> None:
    await claimed(queue, "anna", "key", b"{}", "gen 0")
    with pytest.raises(IdempotencyKeyReused):
        await claimed(queue, "anna", "key", b"[]", "gen 1")
    assert await claimed(queue, "anna", "key", b"{}", "gen 2") == "gen 0"


async def test_key_of_another_owner_is_another_key(queue: Queue) -> None:
    assert await claimed(queue, "anna", "key", b"{}", "gen 0") == "gen 0"
    assert await claimed(queue, "bob", "key", b"[]", "gen 1") == "gen 1"
    assert await claimed(queue, "anna", "other", b"[]", "gen 2") == "gen 2"


async def test_key_that_is_claimed_anew_stands_for_the_new_generation(queue: Queue) -> None:
    assert await claimed(queue, "anna", "key", b"{}", "gen 0") == "gen 0"
    for n in (1, 2):
        load = await queue.load("anna", "key", Claim.of(f"gen {n}", b"{}"), 60, replaces=True)
        assert load.claimed is None
    assert await claimed(queue, "anna", "key", b"{}", "gen 3") == "gen 2"


async def test_claim_expires_and_holds_no_body(redis: Redis, queue: Queue) -> None:
    await claimed(queue, "anna", "key", b'{"secret":"hunter2"}', "gen 0")
    (name,) = await redis.keys()
    assert 0 < await redis.ttl(name) <= 60 + CLAIM_GRACE_S
    assert b"hunter2" not in await redis.get(name)


# Owners


async def test_list_is_newest_first_from_any_generation(queue: Queue) -> None:
    records = [new_record(1_000_000 + n) for n in range(250)]
    for record in records:
        await queue.index.register(record)
    await queue.index.register(new_record(owner="bob"))
    newest_first = [record.id for record in reversed(records)]
    assert await listed(queue, "anna") == newest_first
    for n in (0, 99, 100, 248, 249):
        assert await listed(queue, "anna", newest_first[n]) == newest_first[n + 1 :]
    assert await listed(queue, "anna", new_generation_id()) == []
    assert await listed(queue, "carol") == []


async def test_list_skips_no_generation_while_others_are_forgotten(queue: Queue) -> None:
    records = [new_record(1_000_000 + n) for n in range(350)]
    for record in records:
        await queue.index.register(record)
    newest_first = [record.id for record in reversed(records)]
    met, forgotten = [], set()
    async for page in queue.index.list_owned("anna", None):
        met += page
        forgotten.update(page[::3])
        await queue.index.forget("anna", page[::3])
    assert met == newest_first
    assert await listed(queue, "anna") == [each for each in newest_first if each not in forgotten]


async def test_list_skips_no_generation_while_another_reader_forgets_earlier_ones(queue: Queue) -> None:
    records = [new_record(1_000_000 + n) for n in range(350)]
    for record in records:
        await queue.index.register(record)
    pages: list[list[str]] = []
    async for page in queue.index.list_owned("anna", None):
        pages.append(page)
        if len(pages) == 2:
            await queue.index.forget("anna", pages[0])
    assert [each for page in pages for each in page] == [record.id for record in reversed(records)]


async def test_list_has_each_generation_of_one_millisecond_once(queue: Queue) -> None:
    records = [new_record() for _ in range(250)]
    for record in records:
        await queue.index.register(record)
    met = await listed(queue, "anna")
    assert met == sorted((record.id for record in records), reverse=True)
    assert await listed(queue, "anna", met[130]) == met[131:]


async def test_many_generations_are_forgotten_in_slices(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [new_record() for _ in range(3)]
    for record in records:
        await queue.index.register(record)
    longest, execute = 0, queue.server.execute

    async def measured(*command: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(command))
        return await execute(*command)

    monkeypatch.setattr(queue.server, "execute", measured)
    vanished = [records[0].id, *(f"gen_{n}" for n in range(1200)), records[2].id]
    await queue.index.forget("anna", vanished)
    assert 0 < longest < 520
    assert await listed(queue, "anna") == [records[1].id]


async def test_generations_that_are_no_longer_kept_leave_the_list_with_the_next_creations(
    redis: Redis, queue: Queue
) -> None:
    now = await queue.server.now()
    kept = new_record(now)
    await queue.index.register(kept)
    for n in range(600):
        await queue.index.register(new_record(now - 4_600_000 + n))
    assert await redis.zcard(keys.owned("anna")) == 601
    await queue.load("anna")
    assert await redis.zcard(keys.owned("anna")) == 101, "so many at once"
    await queue.load("anna")
    assert await listed(queue, "anna") == [kept.id]
    assert await redis.zcard(keys.stored_until("anna")) == 1


async def test_forgotten_generation_leaves_its_owners_list_only(queue: Queue) -> None:
    record, other = new_record(), new_record()
    await queue.index.register(record)
    await queue.index.register(other)
    await queue.index.forget("anna", [])
    await queue.index.forget("bob", [record.id])
    assert set(await listed(queue, "anna")) == {record.id, other.id}
    await queue.index.forget("anna", [record.id])
    assert await listed(queue, "anna") == [other.id]


async def test_lists_expire_after_the_longest_life(redis: Redis, queue: Queue) -> None:
    for deadline_s in (3600, 10):
        await queue.index.register(new_record(deadline_s=deadline_s))
    for name in (keys.owned("anna"), keys.unfinished_of("anna")):
        assert LONGEST_LIFE_S - 60 < await redis.ttl(name) <= LONGEST_LIFE_S


async def test_list_drops_generations_older_than_the_longest_life(redis: Redis) -> None:
    queue = queue_on(redis, longest_life_s=100)
    now = await queue.server.now()
    await redis.zadd(keys.owned("anna"), {"gen_old": now - 101_000, "gen_kept": now - 99_000})
    record = new_record(now)
    await queue.index.register(record)
    assert await listed(queue, "anna") == [record.id, "gen_kept"]


async def test_registering_drops_few_of_many_old_generations(redis: Redis) -> None:
    queue = queue_on(redis, longest_life_s=100)
    now = await queue.server.now()
    await redis.zadd(keys.owned("anna"), {f"gen_{n}": now - 101_000 for n in range(700)})
    for left in (201, 2):
        await queue.index.register(new_record(now))
        assert await redis.zcard(keys.owned("anna")) == left


async def test_count_drops_generations_past_their_deadline(queue: Queue) -> None:
    now = await queue.server.now()
    for age in (105_001, 99_000):
        await queue.index.register(new_record(now - age, deadline_s=100))
    assert (await queue.load("anna")).own == 2
    assert await queue.index.unfinished_of("anna", now) == 1
    await queue.index.register(new_record(now))
    assert (await queue.load("anna")).own == 2, "registering removes them"


# Chats


async def test_chat_maps_to_its_newest_generation(queue: Queue) -> None:
    assert await queue.index.newest_of_chat("chat", "anna") is None
    older, newer = new_record(1000), new_record(1001)
    for record, replaced in ((older, None), (older, None), (newer, older.id)):
        assert await queue.index.set_newest_of_chat("chat", record) == replaced
        assert await queue.index.newest_of_chat("chat", "anna") == record.id
    assert await queue.index.set_newest_of_chat("chat", older) is None
    assert await queue.index.newest_of_chat("chat", "anna") == newer.id, "a repeated request changes nothing"


async def test_chat_of_another_owner_is_another_chat(queue: Queue) -> None:
    record = new_record()
    await queue.index.set_newest_of_chat("chat", record)
    assert await queue.index.newest_of_chat("chat", "bob") is None
    assert await queue.index.newest_of_chat("other", "anna") is None


async def test_chat_is_forgotten_with_its_generation(redis: Redis, queue: Queue) -> None:
    await queue.index.set_newest_of_chat("chat\ud800", new_record(deadline_s=100))
    (name,) = await redis.keys()
    assert 990 < await redis.ttl(name) <= 1000 + CLAIM_GRACE_S


# All generations


async def test_list_of_all_has_every_owners_generations_newest_first(queue: Queue) -> None:
    records = [new_record(1_000_000 + n // 2, owner=("anna", "bob")[n % 2]) for n in range(7)]
    for record in records:
        await queue.index.register(record)
    for size in (1, 3, 100):
        pages = [page async for page in queue.index.list_all(None, size)]
        assert max(map(len, pages)) <= size
        places = [each for page in pages for each in page]
        ids = [place.id for place in places]
        assert sorted(ids) == sorted(record.id for record in records)
        assert ids[0] == records[-1].id
        assert [each async for page in queue.index.list_all(places[2], size) for each in page] == places[3:]


async def test_generations_that_are_no_longer_kept_leave_the_list_of_all(redis: Redis) -> None:
    queue = queue_on(redis, longest_life_s=100)
    old, kept, gone = (new_record(created) for created in (1_000_000, 1_090_000, 1_095_000))
    for record in (old, kept, gone):
        await queue.index.register(record)
    await queue.index.register(new_record(1_101_000))
    assert old.id not in [each.id async for page in queue.index.list_all(None, 10) for each in page]
    await queue.index.forget_unlisted([gone.id])
    await queue.index.forget_unlisted([])
    assert gone.id not in [each.id async for page in queue.index.list_all(None, 10) for each in page]
    await queue.index.forget("anna", [kept.id])
    assert await redis.zcard(keys.GENERATIONS) == 1
