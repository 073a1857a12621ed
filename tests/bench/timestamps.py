"""When an event was written, in its own text: `@` and the monotonic clock in µs, as sixteen digits.

CLOCK_MONOTONIC is one clock for all processes of a machine. The text is the same on every side of a comparison, so
that none moves more bytes than another.
"""

import re
import time

WIDTH = 17
STAMP = re.compile(rb"@(\d{16})")


def now_us() -> int:
    return time.monotonic_ns() // 1000


def stamped() -> str:
    """The text of an event that is written now: a stamp, and a token's worth of text."""
    return f"@{now_us():016d} told"


def found(data: bytes) -> tuple[list[int], bytes]:
    """The stamps in what was read, and the beginning of one whose rest is still to come."""
    begun = data.rfind(b"@")
    rest = data[begun:] if begun > len(data) - WIDTH and begun >= 0 else b""
    return [int(stamp) for stamp in STAMP.findall(data)], rest
