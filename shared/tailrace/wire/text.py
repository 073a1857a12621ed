"""Plain text: the spoken text of choice 0, and nothing else.

It has no word for an end that is not one, nor for a restart: the connection is cut instead.
"""

from tailrace.events import Entry, GenerationRecord, Refusal, Text


def encode(_: GenerationRecord, entry: Entry) -> bytes:
    event = entry.event
    return event.text.encode() if isinstance(event, Text | Refusal) and not event.choice else b""
