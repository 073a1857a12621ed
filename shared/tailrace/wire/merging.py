"""Catching up: the same log in fewer frames.

Only adjacent deltas of one place merge, and only those without `extra`; structure never does. The merged frame carries
the last id, so the cursor of whoever stops there is right, and the fold of what was told is the same from every cursor.
"""

from tailrace.events import NO_EXTRA, Delta, Entry


def merged(entries: list[Entry]) -> list[Entry]:
    """The same log in fewer entries: adjacent deltas of one place become one, under the last one's id."""
    told: list[Entry] = []
    parts: list[str] = []
    for entry in entries:
        event = entry.event
        if entry.extra is NO_EXTRA and isinstance(event, Delta):
            if parts and event.continues(told[-1].event):
                parts.append(event.text)
                told[-1] = Entry(entry.id, event)
                continue
            _close(told, parts)
            parts = [event.text]
        else:
            _close(told, parts)
            parts = []
        told.append(entry)
    _close(told, parts)
    return told


def _close(told: list[Entry], parts: list[str]) -> None:
    if len(parts) > 1:
        last = told[-1]
        assert isinstance(last.event, Delta)
        told[-1] = Entry(last.id, last.event.with_text("".join(parts)))
