"""The delay before a request is sent to an upstream again.

An upstream that is overloaded receives the retries of all workers. So a delay is random over its whole range ("full
jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and doubles from retry to retry.
`Retry-After` (RFC 9110, section 10.2.3: seconds, or a date) and `retry-after-ms` (Azure, OpenAI) are the least delay:
what is random comes on top.
"""

import contextlib
import math
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 8.0
"""Of a delay that no upstream asked for: 0 to 0.5 s before the first retry, 0 to 8 s from the fifth on."""

LONGEST_RETRY_AFTER_S = 120.0
"""A request whose upstream asks for a longer delay is not sent again: it would hold its place at the worker. (OpenAI's
SDK gives up at the same length.)"""

MAX_RETRY_AFTER_S = 24 * 3600
"""What clients see of a longer one, such as that of a monthly quota."""


def delay_before_retry(headers: Mapping[str, str], retry: int) -> float | None:
    """Seconds until the request may be sent again; None: the upstream asks for too long a delay. `retry`: counted from
    0. `headers`: of the upstream's answer; empty where there was none."""
    asked_s = retry_after_of(headers)
    if asked_s is not None and asked_s > LONGEST_RETRY_AFTER_S:
        return None
    longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(retry, 10))
    if asked_s is None:
        return random.uniform(0, longest_s)  # noqa: S311 - no secret
    return asked_s + random.uniform(0, min(longest_s, asked_s / 4))  # noqa: S311


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds; None where the answer asks for none, or for a time that has passed."""
    for name, a_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        with contextlib.suppress(ValueError, OverflowError):
            return _checked(float(headers.get(name, "")) / a_second)
    if at := _epoch_seconds(headers.get("retry-after", "")):
        return _checked(at - (_epoch_seconds(headers.get("date", "")) or time.time()))
    return None


def _checked(seconds: float) -> float | None:
    return min(seconds, MAX_RETRY_AFTER_S) if math.isfinite(seconds) and seconds > 0 else None


def _epoch_seconds(date: str) -> float | None:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(date).timestamp()
    return None
