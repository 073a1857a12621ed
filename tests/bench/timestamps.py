"""The time at which an event was written, in its own text: `@` and the monotonic clock in µs, sixteen digits.

CLOCK_MONOTONIC is one clock for all processes of a machine. The text has the same length on every side of a
comparison, so no side moves more bytes than another.
"""

import re
import time

WIDTH = 17
TIMESTAMP = re.compile(rb"@(\d{16})")


def now_us() -> int:
    return time.monotonic_ns() // 1000


def timestamped_text() -> str:
    """The text of an event that is written now: a timestamp, and a token's worth of text."""
    return f"@{now_us():016d} text"


def find_timestamps(data: bytes) -> tuple[list[int], bytes]:
    """The timestamps in received data, and the beginning of one whose rest has not arrived."""
    begun = data.rfind(b"@")
    rest = data[begun:] if begun > len(data) - WIDTH and begun >= 0 else b""
    return [int(each) for each in TIMESTAMP.findall(data)], rest
