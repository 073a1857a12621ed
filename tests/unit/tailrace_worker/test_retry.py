import pytest

from tailrace.errors import RedisRefused, RedisUnavailable
from tailrace_worker import retry
from tailrace_worker.retry import retry_transient


async def test_a_call_is_repeated_until_redis_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_S", 0)
    failures = [RedisUnavailable() for _ in range(3)]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    assert await retry_transient(call) == "answer"
    assert not failures


async def test_an_answer_that_is_an_error_is_not_asked_for_again() -> None:
    asked = 0

    async def call() -> None:
        nonlocal asked
        asked += 1
        raise RedisRefused(detail="no")

    with pytest.raises(RedisRefused):
        await retry_transient(call)
    assert asked == 1
