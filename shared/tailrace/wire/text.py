"""Plain text: the text and the refusals of choice 0, and nothing else.

The format has no frame for a failure or a restart, so both abort the connection.
"""

from tailrace.events import Done, Entry, GenerationRecord, Refusal, Restarted, Text


def encode(_: GenerationRecord, entry: Entry) -> bytes | None:
    """The entry's text; None where the answer is not whole."""
    match entry.event:
        case Text(text=text, choice=0) | Refusal(text=text, choice=0):
            return text.encode()
        case Restarted() | Done(status="failed" | "cancelled"):
            return None
        case Done(error=error) if error is not None:
            return None
    return b""
