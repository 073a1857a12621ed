import time

import pytest

from tailrace.events import FailedRequest
from tailrace_worker.request_history import KEPT, RequestHistory


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_failed_request_has_its_time_since_the_creation_and_the_delay_until_the_next_one(clock: Clock) -> None:
    requests = RequestHistory(waited=2.0)
    requests.upstream = "gpu"
    requests.begin()
    clock.now += 0.5
    requests.fail("upstream_error")
    assert requests.failed == [FailedRequest(2.5, "upstream_error", "gpu")]
    clock.now += 1.25
    requests.upstream = "openai"
    requests.begin()
    clock.now += 1
    requests.begin()
    assert requests.failed == [FailedRequest(2.5, "upstream_error", "gpu", 1.25)], "the delay is that of the next one"
    assert requests.retries == 2


def test_first_request_of_an_attempt_is_no_retry(clock: Clock) -> None:
    requests = RequestHistory()
    assert requests.retries == 0
    requests.begin()
    assert requests.retries == 0


def test_last_failure_of_an_attempt_has_the_delay_until_the_next_attempt_asks(clock: Clock) -> None:
    requests = RequestHistory(waited=9.0, failed=[FailedRequest(7.0, "upstream_timeout")])
    clock.now += 0.5
    requests.begin()
    assert requests.failed == [FailedRequest(7.0, "upstream_timeout", None, 2.5)]


def test_last_failed_requests_are_kept(clock: Clock) -> None:
    requests = RequestHistory()
    for number in range(KEPT + 3):
        requests.begin()
        requests.fail(f"code_{number}")
    assert [each.code for each in requests.failed] == [f"code_{number}" for number in range(3, KEPT + 3)]
    assert requests.retries == KEPT + 2
