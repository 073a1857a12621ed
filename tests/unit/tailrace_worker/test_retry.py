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
