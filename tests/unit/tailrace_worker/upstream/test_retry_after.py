"""Delays before retries: random, doubling, and as long as the upstream asks for."""

import time
from email.utils import formatdate

import pytest

from tailrace_worker.upstream.retry_after import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_RETRY_AFTER_S,
    MAX_RETRY_AFTER_S,
    delay_before_retry,
    retry_after_of,
)

DRAWN = 2000


@pytest.mark.parametrize("retry", [0, 1, 2, 3, 4, 5, 50])
def test_delay_is_random_over_a_range_that_doubles_up_to_its_limit(retry: int) -> None:
    longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**retry)
    delays = sorted(delay or 0 for delay in (delay_before_retry({}, retry) for _ in range(DRAWN)))
    assert 0 <= delays[0] < 0.05 * longest_s
    assert 0.95 * longest_s < delays[-1] <= longest_s
    assert 0.4 * longest_s < delays[DRAWN // 2] < 0.6 * longest_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3), ({"retry-after": "0.2"}, 0.2), ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "100", "retry-after": "9"}, 0.1),
        ({"date": "Wed, 21 Oct 2026 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2026 07:28:07 GMT"}, 7),
    ],
)  # fmt: skip
def test_delay_is_at_least_what_the_upstream_asks_for(headers: dict[str, str], seconds: float) -> None:
    delays = [delay_before_retry(headers, 0) or 0 for _ in range(DRAWN)]
    assert min(delays) >= seconds
    assert max(delays) <= 1.25 * seconds
    assert max(delays) - min(delays) > 0.1 * min(seconds, FIRST_DELAY_S)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "121"}, {"retry-after-ms": "3600000"}, {"retry-after": "90000"}, {"retry-after-ms": "1e8"},
        {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"},
    ],
)  # fmt: skip
def test_too_long_a_delay_is_none(headers: dict[str, str]) -> None:
    assert delay_before_retry(headers, 0) is None
    assert delay_before_retry({"retry-after": str(LONGEST_RETRY_AFTER_S)}, 0) is not None


def test_clients_are_shown_a_day_at_most() -> None:
    assert retry_after_of({"retry-after": "1e9"}) == MAX_RETRY_AFTER_S


def test_date_counts_from_the_upstreams_clock_or_else_from_ours() -> None:
    later = formatdate(time.time() + 10, usegmt=True)
    assert 8 < (retry_after_of({"retry-after": later}) or 0) <= 10
    assert retry_after_of({"retry-after": later, "date": later}) is None
    assert 4 < (retry_after_of({"retry-after": later, "date": formatdate(time.time() + 5, usegmt=True)}) or 0) < 6


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "0",
        "-3",
        "nan",
        "inf",
        "Wed, 21 Oct 2020 07:28:00 GMT",
        "Wed, 99 Foo 2020",
        "\ud83d",
        "1e999",
    ],
)
def test_value_that_is_no_delay_counts_as_absent(value: str) -> None:
    assert retry_after_of({"retry-after": value}) is None
    assert delay_before_retry({"retry-after": value}, 0) is not None
