"""Questions to all frontends, on a server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from redis.asyncio import Redis

from support.api import eventually
from tailrace import keys
from tailrace.queue import Queue
from tailrace.queue import roll_call as module
from tailrace.queue.roll_call import Answers, Question, RollCall

READERS = Question("readers", "gen_" + "a" * 26)
Join = Callable[[Callable[[Question], Awaitable[bytes]]], Awaitable[RollCall]]


@pytest.fixture
async def join(queue: Queue) -> AsyncIterator[Join]:
    """Adds a frontend that answers so."""
    calls, subscribers = [], []

    async def join(answer: Callable[[Question], Awaitable[bytes]]) -> RollCall:
        subscriber = queue.server.subscriber()
        subscriber.start()
        subscribers.append(subscriber)
        call = RollCall(queue.server, answer)
        call.listen(subscriber)
        calls.append(call)
        await eventually(lambda: _receivers(queue, len(calls)))
        return call

    yield join
    for call, subscriber in zip(calls, subscribers, strict=True):
        await call.close()
        await subscriber.close()


async def _receivers(queue: Queue, expected: int) -> bool:
    """Whether so many receive questions. (This one is of no kind that exists.)"""
    return int(await queue.server.execute("SPUBLISH", keys.FRONTENDS_ASKED, b'{"kind":"future"}')) == expected


async def about(question: Question) -> bytes:
    return question.about.encode()


async def test_every_frontend_answers_the_one_that_asks(join: Join, redis: Redis) -> None:
    first, second = await join(about), await join(about)
    for call in (first, second):
        assert await call.ask(READERS) == Answers([READERS.about.encode()] * 2, 2)
    (name, *_) = [key async for key in redis.scan_iter("tailrace:frontends:answers:*")]
    assert 0 < await redis.pttl(name) <= module.ANSWERS_LIFE_MS


async def test_those_who_ask_the_same_share_the_answers(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = 0

    async def answer(_: Question) -> bytes:
        nonlocal answered
        answered += 1
        return b"%d" % answered

    call = await join(answer)
    assert await asyncio.gather(*(call.ask(READERS) for _ in range(50))) == [Answers([b"1"], 1)] * 50
    assert await call.ask(Question("status")) == Answers([b"2"], 1), "another question"
    monkeypatch.setattr(module, "SHARED_S", 0.0)
    assert await call.ask(READERS) == Answers([b"3"], 1)


async def test_frontend_that_does_not_answer_is_missing(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()

    async def hang(_: Question) -> bytes:
        await never.wait()
        return b""

    call = await join(about)
    await join(hang)
    monkeypatch.setattr(module, "WAIT_S", 0.1)
    assert await call.ask(READERS) == Answers([READERS.about.encode()], 2)


async def test_question_of_a_later_version_is_no_error(join: Join, queue: Queue) -> None:
    call = await join(about)
    for message in (b'{"kind":"future"}', b"\xff", b""):
        await queue.server.execute("SPUBLISH", keys.FRONTENDS_ASKED, message)
    assert (await call.ask(msgspec.structs.replace(READERS, token="mine"))).asked == 1
