import time
from typing import Any, cast

import pytest

from support.logs import record
from tailrace.errors import InvalidRequest
from tailrace.events import Failure, Options
from tailrace.failures import failure
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace_frontend.generations import Generations, IdempotencyKey
from tailrace_frontend.http.openai.retries import RETRY_COUNT, RETRY_WINDOW_S, is_over, key_of, next_key

OPTIONS = Options(deadline_s=60, retention_s=30)
BODY = b'["/v1/chat/completions",{}]'
KEY = IdempotencyKey("key", BODY)
RETRY = IdempotencyKey("retry", BODY, 180)


class StubGenerations:
    def __init__(self, done: StoredDone | None) -> None:
        self._done = done

    async def end(self, _: GenerationState) -> StoredDone | None:
        return self._done


def key(**headers: str) -> IdempotencyKey | None:
    return key_of({name.replace("_", "-"): value for name, value in headers.items()}, BODY, OPTIONS)


def state(status: Any = "failed") -> GenerationState:
    return GenerationState(record(), status, 1, 1, 3, 0, 9, "job")


def test_request_without_a_key_and_a_count_has_no_repetitions() -> None:
    assert key() is None


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", "٣"])
def test_count_that_is_no_number_does_not_count(count: str) -> None:
    assert key(x_stainless_retry_count=count) is None


def test_key_of_the_caller_precedes_the_count() -> None:
    assert key(idempotency_key="k", x_stainless_retry_count="1") == IdempotencyKey("k", BODY)
    for given in ("", "k" * 256):
        with pytest.raises(InvalidRequest):
            key(idempotency_key=given)


def test_first_request_claims_its_body_anew_and_a_repetition_does_not() -> None:
    first, again, third = (key(x_stainless_retry_count=count) for count in ("0", "1", "17"))
    assert first is not None
    assert first.is_new
    assert first.life_s == OPTIONS.deadline_s + RETRY_WINDOW_S
    assert again == third == first._replace(is_new=False)
    assert key(x_stainless_retry_count="00") == first


def test_key_depends_on_all_of_the_body() -> None:
    headers = {RETRY_COUNT: "1"}
    keys = [key_of(headers, body, OPTIONS) for body in (b"1", b"2", b"1")]
    assert keys[0] == keys[2] != keys[1]


def test_next_key_is_the_same_for_all_repetitions_and_claims_nothing_anew() -> None:
    first = key(x_stainless_retry_count="0")
    assert first is not None
    following = next_key(first, state())
    assert following == next_key(first._replace(is_new=False), state())
    assert following.key != first.key
    assert (following.body, following.life_s, following.is_new) == (BODY, first.life_s, False)


@pytest.mark.parametrize(
    ("error", "over"),
    [
        (None, False),
        (failure("upstream_rate_limited"), True),
        (Failure("Slow down.", "busy", status=429), True),
        (failure("client_disconnected"), True),
        (failure("upstream_error"), False),
        (failure("cancelled"), False),
    ],
)
@pytest.mark.parametrize("given", [KEY, RETRY])
async def test_refusal_for_now_is_no_answer_to_a_later_request(
    given: IdempotencyKey, error: Failure | None, over: bool
) -> None:
    log = StubGenerations(StoredDone("failed" if error else "completed", time.time(), error=error))
    assert await is_over(cast("Generations", log), state(), given) is over


@pytest.mark.parametrize(("given", "over"), [(KEY, False), (RETRY, True)])
async def test_answer_of_long_ago_is_one_to_a_key_and_none_to_a_count(given: IdempotencyKey, over: bool) -> None:
    log = StubGenerations(StoredDone("completed", time.time() - RETRY_WINDOW_S - 1))
    assert await is_over(cast("Generations", log), state("completed"), given) is over


async def test_generation_that_runs_or_whose_end_was_lost_is_not_over() -> None:
    assert not await is_over(cast("Generations", StubGenerations(None)), state("running"), RETRY)
    assert not await is_over(cast("Generations", StubGenerations(None)), state("failed"), RETRY)
