"""Framing of Server-Sent Events (HTML standard, section 9.2), shared by the formats that are sent as such."""

from typing import Any

from tailrace import jsoncodec

MEDIA_TYPE = "text/event-stream"

COMMENT = b": \n\n"
"""An empty comment: parsers skip it, proxies and clients see a live connection."""

PING = b": ping\n\n"
"""The comment of OpenAI's streams."""

END = b"data: [DONE]\n\n"
"""Last frame of OpenAI's streams."""


def data_frame(value: Any) -> bytes:
    """An event without a name; `value` as JSON."""
    return b"data: %b\n\n" % jsoncodec.dumps(value)


def event_frame(name: str, value: Any) -> bytes:
    """An event with a name; `value` as JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), jsoncodec.dumps(value))


def retry_frame(why: str, retry_ms: int) -> bytes:
    """Not an event: the reconnection time in ms, which `EventSource` obeys, and the reason as a comment."""
    return b"retry: %d\n: %b\n\n" % (retry_ms, why.encode())
