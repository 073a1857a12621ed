"""What every event stream of ours has on HTTP, and how one ends that should be opened again."""

import random

HEADERS = [
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def come_again(why: str) -> bytes:
    """The end of an event stream that a client should reopen: in one to three seconds, not all at once."""
    return b"retry: %d\n: %b\n\n" % (random.randint(1000, 3000), why.encode())  # noqa: S311 - spreads load
