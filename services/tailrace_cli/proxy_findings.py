"""What the measurements of `proxy_probe` mean: one finding for each check, in words."""

import statistics
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tailrace.events import Json
from tailrace_cli.proxy_probe import CURSOR, PROBE_KEY, SENT, FileResult, StreamResult
from tailrace_cli.proxy_remedies import REMEDIES, Remedies

BEATS = 4
"""A proxy has to wait for so many keep-alives: three may be lost, or late."""

LONGEST_WAIT_S = 60
"""Of `?wait=`."""

CLOCK_S = 10.0
"""By which clocks may differ: tokens of an issuer and expiries of keys are judged by the frontend's."""

SAME_CUT = 0.25
"""A silent stream and one that is not were cut by the same limit, if their lengths differ by less than this share."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Outcome(StrEnum):
    """How a check ended. `WARNING`: something works, and less well than it could."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """The outcome of one check; `measured`: its figures, for programs."""

    name: str
    outcome: Outcome
    message: str
    measured: Mapping[str, Any] = {}

    @property
    def remedies(self) -> Remedies:
        """What to change, by proxy."""
        return REMEDIES.get(self.name, {}) if self.outcome in (Outcome.WARNING, Outcome.FAULT) else {}


def lags_ms(stream: StreamResult) -> list[float]:
    """How much later than the fastest event each one came, by the times that the frontend has put into them."""
    beats = [(each.at_s * 1000, each.data["at_ms"]) for each in stream.events if each.name in ("beat", "end")]
    fastest = min((at - sent for at, sent in beats), default=0.0)
    return [at - sent - fastest for at, sent in beats]


def unbuffered(stream: StreamResult, interval_ms: int) -> Finding:
    """Whether events came before the next one was sent: half of them, so that one hold-up is none of the proxy's."""
    lags = lags_ms(stream)
    if not lags:
        return Finding("unbuffered", Outcome.FAULT, "no event has come through: the stream was cut, or is held back")
    median, most = statistics.median(lags), max(lags)
    measured = {
        "events": len(lags), "interval_ms": interval_ms, "lag_p50_ms": round(median, 1), "lag_max_ms": round(most, 1),
    }  # fmt: skip
    if not stream.is_whole:
        return Finding("unbuffered", Outcome.FAULT, f"the stream was cut after {stream.lasted_s:.1f} s", measured)
    late = f"{_ms(median)} late, at most {_ms(most)}"
    if median > interval_ms:
        message = f"events are held back: sent one each {interval_ms} ms, they came {late}"
        return Finding("unbuffered", Outcome.FAULT, message, measured)
    early = sum(lag < interval_ms for lag in lags)
    message = f"{early} of {len(lags)} events, one each {interval_ms} ms, came before the next was sent: {late}"
    return Finding("unbuffered", Outcome.OK, message, measured)


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def wanted_silence_s(keepalive_s: float) -> int:
    """For how long a proxy should stand silence."""
    return round(max(BEATS * keepalive_s, LONGEST_WAIT_S)) + 5


def silence(silent: StreamResult, beating: StreamResult | None, planned_s: int, keepalive_s: float) -> list[Finding]:
    """How long silence may last, and a response. `beating`: a stream of events beside the silent one, as long as that
    was to be; None: it was not cut when the silent one had been."""
    if beating is None:
        length = Finding("length", Outcome.OK, "a response in which bytes come lasts longer than that")
        return [_silence(silent, planned_s, keepalive_s), length]
    lasted = beating.lasted_s
    if beating.is_whole:
        message = f"a response may last {lasted:.0f} s and more"
        length = Finding("length", Outcome.OK, message, {"lasted_s": round(lasted, 1)})
        return [_silence(silent, planned_s, keepalive_s), length]
    message = f"every response is cut after {lasted:.0f} s, whether bytes come or not"
    length = Finding("length", Outcome.FAULT, message, {"cut_after_s": round(lasted, 1)})
    if silent.is_whole or silent.lasted_s > (1 - SAME_CUT) * lasted:
        return [Finding("silence", Outcome.SKIPPED, "it cannot be seen, because every response is cut"), length]
    return [_silence(silent, planned_s, keepalive_s), length]


def _silence(silent: StreamResult, planned_s: int, keepalive_s: float) -> Finding:
    beat = f"a frontend is silent for up to {keepalive_s:g} s"
    if silent.is_whole:
        return Finding("silence", Outcome.OK, f"{planned_s} s and more; {beat}", {"allowed_s": planned_s, "cut": False})
    lasted = silent.silent_s
    measured = {"allowed_s": round(lasted, 1), "cut": True}
    if lasted <= keepalive_s:
        message = f"a stream is cut after {lasted:.1f} s without a byte, and {beat}: every stream that waits is cut"
        return Finding("silence", Outcome.FAULT, message, measured)
    message = f"a stream is cut after {lasted:.0f} s without a byte; {beat}"
    if lasted < (BEATS - 0.5) * keepalive_s:
        return Finding("silence", Outcome.WARNING, f"{message}, and a keep-alive may be late or lost", measured)
    if lasted < LONGEST_WAIT_S + 1:
        message = f"{message}, and an answer to ?wait={LONGEST_WAIT_S} may come later than that"
        return Finding("silence", Outcome.WARNING, message, measured)
    return Finding("silence", Outcome.OK, message, measured)


def request_headers(stream: StreamResult, *, has_key: bool) -> list[Finding]:
    """Whether the frontend has received what was sent."""
    hello = stream.hello
    if hello is None:
        return []
    received: Json = hello.data["received"]
    cursor = received.get("last-event-id")
    key = received.get("idempotency-key")
    findings = [
        _passes("last_event_id", "Last-Event-ID", cursor, CURSOR, "a client that reconnects begins again"),
        _passes(
            "idempotency_key", "Idempotency-Key", key, SENT["idempotency-key"], "a POST that is repeated creates twice"
        ),
    ]
    if received.get("authorization") == "Bearer":
        how = "the key is accepted" if has_key else f"a made-up key ({PROBE_KEY}) arrives"
        findings.append(Finding("authorization", Outcome.OK, f"Authorization passes: {how}"))
    else:
        findings.append(key_missing(received.get("authorization")))
    return findings


def _passes(name: str, header: str, received: str | None, sent: str, otherwise: str) -> Finding:
    if received == sent:
        return Finding(name, Outcome.OK, f"{header} passes")
    how = "is removed" if received is None else "is changed"
    return Finding(name, Outcome.FAULT, f"{header} {how}: {otherwise}")


def key_missing(scheme: str | None = None) -> Finding:
    """The finding where the frontend did not receive the key."""
    how = "is removed" if scheme is None else f"is replaced, by one of the kind {scheme}"
    return Finding("authorization", Outcome.FAULT, f"Authorization {how}: the frontend does not receive the key")


def uncompressed(stream: StreamResult) -> Finding:
    """Whether events come as they were sent."""
    encoding = stream.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return Finding("uncompressed", Outcome.OK, "event streams are not compressed")
    return Finding(
        "uncompressed", Outcome.FAULT,
        f"event streams are compressed ({encoding}), against Cache-Control: no-transform: events may wait for more",
    )  # fmt: skip


def http_version(stream: StreamResult) -> Finding:
    """Which protocol the frontend is spoken to with."""
    hello = stream.hello
    version = hello.data["http_version"] if hello else ""
    if version == "1.0":
        message = (
            "the proxy speaks HTTP/1.0 to the frontend, in which a stream that is cut looks like one that has ended"
        )
        return Finding("http_version", Outcome.WARNING, message)
    return Finding("http_version", Outcome.OK, f"the frontend is asked with HTTP/{version}")


def files(result: FileResult) -> Finding:
    """Whether compressed responses come as they were sent."""
    if not result.is_equal:
        message = "a compressed response is not what it is uncompressed"
        return Finding("files", Outcome.FAULT, message)
    how = f"compressed ({result.encoding})" if result.encoding else "uncompressed, which the proxy has brought about"
    return Finding("files", Outcome.OK, f"files come intact, {how}")


def http2(protocol: str, url: str) -> Finding:
    """Whether browsers speak HTTP/2 here: with HTTP/1.1 they open six streams."""
    if protocol == "h2":
        return Finding("http2", Outcome.OK, "HTTP/2: a browser's streams share a connection", {"protocol": protocol})
    six = "a browser opens six streams at most, and its other requests wait behind them"
    if protocol:
        return Finding("http2", Outcome.FAULT, f"no HTTP/2 ({protocol}): {six}", {"protocol": protocol})
    if urlsplit(url).hostname in LOOPBACK:
        return Finding("http2", Outcome.SKIPPED, f"no TLS, and so no HTTP/2: {six}", {"protocol": ""})
    return Finding("http2", Outcome.WARNING, f"no TLS, and so no HTTP/2: {six}", {"protocol": ""})


def clock(stream: StreamResult, received_at: float) -> Finding:
    """By how much the frontend's clock differs; `received_at`: when its time came, by the clock here."""
    hello = stream.hello
    if hello is None:
        return Finding("clock", Outcome.SKIPPED, "no time has come")
    ahead = hello.data["time"] - received_at
    measured = {"ahead_s": round(ahead, 2)}
    which = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) > CLOCK_S:
        message = f"the frontend's clock is {abs(ahead):.0f} s {which} the one here; expiries of keys go by it"
        return Finding("clock", Outcome.WARNING, message, measured)
    return Finding("clock", Outcome.OK, f"the frontend's clock is {abs(ahead):.2f} s {which} the one here", measured)
