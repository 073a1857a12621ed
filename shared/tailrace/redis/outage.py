"""The log lines for a server that does not respond: one when it leaves, reminders, and one when it is back.

Every loop of a process notices an outage, several times a second. Without one place that reports it, a worker without
Redis wrote 1,472 equal lines in ten minutes.
"""

import logging
import os
import re
import socket
import time
from urllib.parse import urlsplit

from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.errors import RedisUnavailable
from tailrace.redis.connection import TRANSIENT_ERRORS

FIRST_REMINDER_S, LAST_REMINDER_S = 10.0, 600.0
"""The pause before the first reminder, which doubles with each one up to the last."""

NUMBER = re.compile(r"\[Errno (\d+)\]|Error (\d+) connecting")

logger = logging.getLogger(__name__)


class OutageLog:
    """Logs the outages of one server. `name`: of the server, for an operator; "" where another one logs them.

    Commands and the subscriber have connections of their own. The server is away while it does not respond to one of
    them, and back when it responds to both.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._sources: set[str] = set()
        self._since = self._reminder_at = 0.0
        self._pause_s = FIRST_REMINDER_S

    @property
    def is_away(self) -> bool:
        """Whether the server does not respond."""
        return bool(self._sources)

    def report_failure(self, source: str, error: BaseException) -> None:
        """The server did not respond to `source`."""
        now, is_new = time.monotonic(), not self._sources
        self._sources.add(source)
        if is_new:
            self._since, self._pause_s = now, FIRST_REMINDER_S
        elif now < self._reminder_at:
            return
        else:
            self._pause_s = min(2 * self._pause_s, LAST_REMINDER_S)
        self._reminder_at = now + self._pause_s
        if self._name:
            waited = "" if is_new else f" for {now - self._since:.0f} s"
            logger.warning("%s does not respond%s: %s. Waiting for it …", self._name, waited, reason_of(error))

    def report_success(self, source: str) -> None:
        """The server has responded to `source`."""
        if source in self._sources:
            self._sources.discard(source)
            if self._name and not self._sources:
                logger.warning("%s is back after %.1f s", self._name, time.monotonic() - self._since)


def level_of(error: Exception) -> int:
    """The level at which a loop logs an error of Redis that it survives: an outage is in the log already."""
    return logging.DEBUG if isinstance(error, (RedisUnavailable, *TRANSIENT_ERRORS)) else logging.WARNING


def reason_of(error: BaseException) -> str:
    """Why a server does not respond: the operating system's reason, if the chain of causes has one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "the name of its host has no address"
        if isinstance(cause, TimeoutError | RedisTimeoutError):
            return "no reply in time"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    if numbers := NUMBER.search(str(error)):
        return os.strerror(int(numbers[1] or numbers[2])).lower()
    return str(error)


def place_of(url: str) -> str:
    """A server's address without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
