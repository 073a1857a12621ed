import asyncio

import pytest

from tailrace.errors import RedisRefused, RedisUnavailable
from tailrace_worker import retry
from tailrace_worker.retry import retry_transient


async def test_retry_repeats_a_call_until_redis_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_S", 0)
    failures = [RedisUnavailable() for _ in range(3)]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    assert await retry_transient(call) == "answer"
    assert not failures


async def test_retry_does_not_repeat_a_call_that_redis_refused() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise RedisRefused(detail="no")

    with pytest.raises(RedisRefused):
        await retry_transient(call)
    assert calls == 1


async def test_pauses_of_a_start_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    failures = [RedisUnavailable() for _ in range(6)]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert await retry_transient(call, longest_s=2.0) == "answer"
    expected = (0.2, 0.4, 0.8, 1.6, 2, 2)
    assert all(0.75 <= pause / each <= 1.25 for each, pause in zip(expected, pauses, strict=True))
