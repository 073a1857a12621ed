"""What `tailrace doctor` makes of its measurements."""

from collections.abc import Sequence
from typing import Any

import pytest

from tailrace_cli import proxy_findings
from tailrace_cli.proxy_findings import Finding, Outcome
from tailrace_cli.proxy_probe import FileResult, Received, StreamResult
from tailrace_cli.proxy_remedies import REMEDIES

INTERVAL_MS = 100
RECEIVED = {"last-event-id": "7-7", "idempotency-key": "tailrace-doctor", "authorization": "Bearer"}


def hello(**changed: Any) -> Received:
    data = {"version": "1", "keepalive_s": 15.0, "http_version": "1.1", "time": 1000.0, "received": RECEIVED}
    return Received("hello", data | changed, 0.01)


def stream(
    came_s: Sequence[float], *, whole: bool = True, lasted_s: float = 2.0, silent_s: float = 0.0,
    headers: dict[str, str] | None = None, first: Received | None = None,
) -> StreamResult:  # fmt: skip
    """Beats, one each `INTERVAL_MS`, that came at these times."""
    names = ["beat"] * len(came_s)
    if whole and names:
        names[-1] = "end"
    events = [
        Received(name, {"at_ms": INTERVAL_MS * number}, at_s)
        for number, (name, at_s) in enumerate(zip(names, came_s, strict=True), 1)
    ]
    if whole and not names:
        events = [Received("end", {"at_ms": 0.0}, lasted_s)]
    return StreamResult(headers or {}, [first or hello(), *events], lasted_s, silent_s, has_hint=whole)


def outcome_of(finding: Finding) -> tuple[str, Outcome]:
    return finding.name, finding.outcome


def times(count: int, late_s: float = 0.0) -> list[float]:
    return [0.1 * number + late_s for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("came_s", "expected"),
    [
        (times(20), Outcome.OK),
        ([*times(10), 1.9, *[0.1 * number for number in range(12, 21)]], Outcome.OK),
        ([2.0] * 20, Outcome.FAULT),
        ([1.0] * 10 + [2.0] * 10, Outcome.FAULT),
        ([0.5 * (number // 5 + 1) for number in range(20)], Outcome.FAULT),
    ],
    ids=["at once", "one is late", "all at the end", "in two parts", "in four parts"],
)
def test_stream_is_buffered_if_half_of_its_events_come_after_the_next_was_sent(
    came_s: list[float], expected: Outcome
) -> None:
    assert outcome_of(proxy_findings.unbuffered(stream(came_s), INTERVAL_MS)) == ("unbuffered", expected)


def test_delay_of_the_way_is_no_buffer() -> None:
    finding = proxy_findings.unbuffered(stream(times(20, late_s=0.9)), INTERVAL_MS)
    assert finding.outcome is Outcome.OK
    assert finding.measured["lag_max_ms"] == 0


def test_stream_that_is_cut_or_empty_is_a_fault() -> None:
    for result in (stream(times(5), whole=False), stream([], whole=False)):
        assert proxy_findings.unbuffered(result, INTERVAL_MS).outcome is Outcome.FAULT


@pytest.mark.parametrize(
    ("cut_s", "keepalive_s", "expected"),
    [
        (10.0, 15.0, Outcome.FAULT),
        (15.0, 15.0, Outcome.FAULT),
        (30.0, 15.0, Outcome.WARNING),
        (60.0, 15.0, Outcome.WARNING),
        (75.0, 15.0, Outcome.OK),
        (100.0, 15.0, Outcome.OK),
        (100.0, 30.0, Outcome.WARNING),
        (75.0, 90.0, Outcome.FAULT),
    ],
)
def test_silence_has_to_be_allowed_for_four_keep_alives_and_the_longest_wait(
    cut_s: float, keepalive_s: float, expected: Outcome
) -> None:
    silent = stream([], whole=False, lasted_s=cut_s, silent_s=cut_s)
    found, length = proxy_findings.silence(silent, None, 400, keepalive_s)
    assert outcome_of(found) == ("silence", expected)
    assert found.measured == {"allowed_s": cut_s, "cut": True}
    assert outcome_of(length) == ("length", Outcome.OK)


def test_silence_that_nothing_ends_is_allowed() -> None:
    findings = proxy_findings.silence(stream([], lasted_s=65), stream(times(3), lasted_s=65), 65, 15.0)
    assert [outcome_of(each) for each in findings] == [("silence", Outcome.OK), ("length", Outcome.OK)]


def test_limit_of_every_response_is_not_taken_for_one_of_silence() -> None:
    silent = stream([], whole=False, lasted_s=30.0, silent_s=30.0)
    beating = stream(times(3), whole=False, lasted_s=30.4)
    findings = proxy_findings.silence(silent, beating, 65, 15.0)
    assert [outcome_of(each) for each in findings] == [("silence", Outcome.SKIPPED), ("length", Outcome.FAULT)]
    shorter = stream([], whole=False, lasted_s=10.0, silent_s=10.0)
    findings = proxy_findings.silence(shorter, beating, 65, 15.0)
    assert [outcome_of(each) for each in findings] == [("silence", Outcome.FAULT), ("length", Outcome.FAULT)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, set()),
        ({"last-event-id": None}, {"last_event_id"}),
        ({"last-event-id": "1-1"}, {"last_event_id"}),
        ({"idempotency-key": None}, {"idempotency_key"}),
        ({"authorization": None}, {"authorization"}),
        ({"authorization": "Basic"}, {"authorization"}),
    ],
)
def test_header_that_does_not_arrive_as_it_was_sent_is_a_fault(
    changed: dict[str, str | None], expected: set[str]
) -> None:
    received = {name: value for name, value in (RECEIVED | changed).items() if value is not None}
    findings = proxy_findings.request_headers(stream([], first=hello(received=received)), has_key=True)
    assert {each.name for each in findings if each.outcome is Outcome.FAULT} == expected
    assert len(findings) == 3


def test_compressed_stream_is_a_fault() -> None:
    assert proxy_findings.uncompressed(stream([])).outcome is Outcome.OK
    assert proxy_findings.uncompressed(stream([], headers={"content-encoding": "gzip"})).outcome is Outcome.FAULT


def test_http_1_0_to_the_frontend_is_a_warning() -> None:
    assert proxy_findings.http_version(stream([])).outcome is Outcome.OK
    assert proxy_findings.http_version(stream([], first=hello(http_version="1.0"))).outcome is Outcome.WARNING


def test_file_has_to_be_what_it_is_uncompressed() -> None:
    assert proxy_findings.files(FileResult("gzip", is_equal=True)).outcome is Outcome.OK
    assert proxy_findings.files(FileResult("", is_equal=True)).outcome is Outcome.OK
    assert proxy_findings.files(FileResult("gzip", is_equal=False)).outcome is Outcome.FAULT


@pytest.mark.parametrize(
    ("protocol", "url", "expected"),
    [
        ("h2", "https://chat.example.org", Outcome.OK),
        ("http/1.1", "https://chat.example.org", Outcome.FAULT),
        ("", "http://chat.example.org", Outcome.WARNING),
        ("", "http://127.0.0.1:8080", Outcome.SKIPPED),
        ("", "http://[::1]:8080", Outcome.SKIPPED),
    ],
)
def test_browsers_need_http2(protocol: str, url: str, expected: Outcome) -> None:
    assert proxy_findings.http2(protocol, url).outcome is expected


def test_clock_may_differ_by_a_few_seconds() -> None:
    for ahead_s, expected in ((0.5, Outcome.OK), (-9, Outcome.OK), (11, Outcome.WARNING), (-3600, Outcome.WARNING)):
        finding = proxy_findings.clock(stream([], first=hello(time=1000.0 + ahead_s)), received_at=1000.0)
        assert finding.outcome is expected
        assert finding.measured == {"ahead_s": ahead_s}


def test_silence_that_is_wanted_exceeds_four_keep_alives_and_the_longest_wait() -> None:
    assert [proxy_findings.wanted_silence_s(beat) for beat in (1, 15, 30)] == [65, 65, 125]


def test_each_check_has_a_remedy_for_each_proxy() -> None:
    proxies = {"nginx", "HAProxy", "Caddy", "AWS ALB", "Cloudflare"}
    assert {name: set(remedies) for name, remedies in REMEDIES.items()} == dict.fromkeys(REMEDIES, proxies)
    assert Finding("silence", Outcome.FAULT, "").remedies == REMEDIES["silence"]
    assert Finding("silence", Outcome.OK, "").remedies == {}
