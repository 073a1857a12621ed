"""Content negotiation: which representation an `Accept` header asks for, and which view of an answer `?view=`."""

from tailrace.errors import InvalidValue
from tailrace.events import GenerationRecord
from tailrace.wire import JSON_VALUES, WIRE_FORMATS, WireFormat, sse

JSON_VIEW = "json"
ALTERNATIVES = ("ndjson", "text")
"""Formats that a client gets by accepting their media type and no other."""


def wants_events(accept: str) -> bool:
    """Whether the client reads event streams, and therefore retry hints, too."""
    return sse.MEDIA_TYPE in accept.lower()


def wants_html(accept: str) -> bool:
    """Whether the client names HTML: browsers do where a person has opened an address, scripts do not."""
    return "text/html" in accept.lower()


def wants_value(view: str | None) -> bool:
    """Whether the client asks for the JSON value of the answer, rather than for its events or items.

    Raises:
        InvalidValue: there is no such view.
    """
    if view in (None, ""):
        return False
    if view != JSON_VIEW:
        raise InvalidValue.at("view", f"must be {JSON_VIEW}.")
    return True


def check_value(record: GenerationRecord) -> None:
    """
    Raises:
        InvalidValue: the generation has no JSON value, because its request asks for none.
    """
    if not record.structured:
        raise InvalidValue.at("view", "the request of this generation asks for no JSON (response_format, text.format).")


def native_format(accept: str, view: str | None = None) -> WireFormat:
    """The format of `/v1/generations/{id}/events`: SSE, unless the client accepts NDJSON or plain text alone. With a
    `view` it is that of the view, which is NDJSON.

    Raises:
        InvalidValue: there is no such view.
    """
    if wants_value(view):
        return JSON_VALUES
    accepted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    for name in ALTERNATIVES:
        if accepted == {WIRE_FORMATS[name].media_type}:
            return WIRE_FORMATS[name]
    return WIRE_FORMATS["native"]
