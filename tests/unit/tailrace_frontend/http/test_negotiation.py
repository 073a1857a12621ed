import pytest

from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.http.negotiation import native_format, wants_events


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", "native"),
        ("*/*", "native"),
        ("text/event-stream", "native"),
        ("application/x-ndjson", "ndjson"),
        ("Application/X-NDJSON; q=0.5", "ndjson"),
        ("application/x-ndjson, application/x-ndjson;q=0.1", "ndjson"),
        ("text/plain", "text"),
        ("text/plain;charset=utf-8", "text"),
        ("text/plain, */*", "native"),
        ("text/plain, application/x-ndjson", "native"),
        ("application/x-ndjson, text/event-stream", "native"),
        ("application/json", "native"),
        (",,,", "native"),
    ],
)
def test_format_is_sse_unless_another_one_is_accepted_alone(accept: str, name: str) -> None:
    assert native_format(accept) is WIRE_FORMATS[name]


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream;q=0.9", True),
        ("application/json, text/event-stream", True),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_events_are_wanted_where_accept_names_them(accept: str, wants: bool) -> None:
    assert wants_events(accept) is wants
