import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tailrace_worker import retry
from tailrace_worker.retry import retry_transient


async def test_a_call_is_repeated_until_redis_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_S", 0)
    failures = [RedisConnectionError(), OSError(), TimeoutError()]

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
        raise ResponseError("no")

    with pytest.raises(ResponseError):
        await retry_transient(call)
    assert asked == 1
