"""One line when a server leaves, reminders with growing pauses, one line when it is back."""

import logging
import socket
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.redis import outage
from tailrace.redis.outage import OutageLog, level_of, place_of, reason_of
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

REFUSED = ConnectionRefusedError(111, "Connection refused")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outage, "time", clock)
    return clock


def test_outage_is_logged_once_with_its_reason_and_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outages = OutageLog("Redis at redis://here/0 (TAILRACE_REDIS_URL)")
    for _ in range(20):
        outages.report_failure("commands", REFUSED)
        clock.now += 0.4
    for _ in range(2):
        outages.report_success("commands")
    assert caplog.messages == [
        "Redis at redis://here/0 (TAILRACE_REDIS_URL) does not respond: connection refused. Waiting for it …",
        "Redis at redis://here/0 (TAILRACE_REDIS_URL) is back after 8.0 s",
    ]


def test_long_outage_is_repeated_with_growing_pauses(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outages = OutageLog("Redis")
    began = clock.now
    reminders: list[float] = []
    while clock.now < began + 3600:
        outages.report_failure("commands", REFUSED)
        if len(caplog.messages) > len(reminders):
            reminders.append(clock.now - began)
        clock.now += 0.5
    assert reminders[:8] == [0, 10, 30, 70, 150, 310, 630, 1230]
    assert len(reminders) == 11
    assert caplog.messages[1] == "Redis does not respond for 10 s: connection refused. Waiting for it …"


def test_server_is_back_when_commands_and_subscriber_are(caplog: pytest.LogCaptureFixture) -> None:
    outages = OutageLog("Redis")
    outages.report_failure("subscriber", REFUSED)
    outages.report_failure("commands", REFUSED)
    outages.report_success("commands")
    assert outages.is_away
    outages.report_success("subscriber")
    assert [message.split()[1] for message in caplog.messages] == ["does", "is"]


def test_outage_of_a_server_without_a_name_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    outages = OutageLog()
    outages.report_failure("commands", REFUSED)
    outages.report_success("commands")
    assert caplog.messages == []


def caused_by(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (caused_by(RedisConnectionError("Error 111 connecting"), REFUSED), "connection refused"),
        (caused_by(RedisConnectionError("x"), socket.gaierror(-2, "x")), "the name of its host has no address"),
        (RedisConnectionError("Multiple exceptions: [Errno 111] Connect call failed ('::1')"), "connection refused"),
        (RedisTimeoutError("Timeout connecting to server"), "no reply in time"),
        (TimeoutError(), "no reply in time"),
        (RedisConnectionError("closed by the server"), "closed by the server"),
    ],
)
def test_reason_is_that_of_the_operating_system(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://anna:hunter2@cache:6379/1?password=hunter3", "redis://cache:6379/1"),
        ("redis+sentinel://:hunter2@a:1,b:2/primary/0", "redis+sentinel://a:1,b:2/primary/0"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ],
)
def test_place_of_a_server_has_no_password(url: str, place: str) -> None:
    assert place_of(url) == place


def test_outage_is_below_the_level_of_other_errors() -> None:
    assert level_of(RedisUnavailable()) == level_of(RedisConnectionError()) == logging.DEBUG
    assert level_of(RedisFull()) == level_of(RedisRefused(detail="no")) == logging.WARNING


async def test_server_logs_its_outage_and_its_return(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedded = EmbeddedServer(tmp_path)
    server = RedisServer.connect(embedded.url.replace("//", "//default:hunter2@"), "TAILRACE_REDIS_URL")
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await server.execute("PING")
    embedded.start()
    for _ in range(2):
        await server.execute("PING")
    await server.close()
    embedded.stop()
    place = f"Redis at {embedded.url} (TAILRACE_REDIS_URL)"
    assert caplog.messages[0] == f"{place} does not respond: connection refused. Waiting for it …"
    assert caplog.messages[1].startswith(f"{place} is back after ")
    assert len(caplog.messages) == 2
