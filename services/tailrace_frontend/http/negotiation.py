"""Content negotiation: which representation an `Accept` header asks for."""

from tailrace.wire import WIRE_FORMATS, WireFormat, sse

ALTERNATIVES = ("ndjson", "text")
"""Formats that a client gets by accepting their media type and no other."""


def wants_events(accept: str) -> bool:
    """Whether the client reads event streams, and therefore retry hints, too."""
    return sse.MEDIA_TYPE in accept.lower()


def native_format(accept: str) -> WireFormat:
    """The format of `/v1/generations/{id}/events`: SSE, unless the client accepts NDJSON or plain text alone."""
    accepted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    for name in ALTERNATIVES:
        if accepted == {WIRE_FORMATS[name].media_type}:
            return WIRE_FORMATS[name]
    return WIRE_FORMATS["native"]
