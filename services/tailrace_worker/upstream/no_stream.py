"""A 200 whose body is no event stream: recognized by its first bytes, because a `Content-Type` is often wrong.

JSON that is an answer or an error is one payload: some upstreams ignore `stream`, others send errors with status 200.
Everything else is `Unreadable`.
"""

from collections.abc import AsyncIterator

from tailrace import jsoncodec
from tailrace.events import Json
from tailrace_worker.upstream.error_texts import message_in
from tailrace_worker.upstream.errors import Unreadable

BLANKS = b"\xef\xbb\xbf \t\r\n"
"""A byte order mark, and what may stand between lines."""

FIELDS = (b":", b"data", b"event", b"id", b"retry")
"""Beginnings of a stream's lines."""

ANSWER_FIELDS = frozenset({"choices", "output", "error"})
"""Fields of which an answer of either API, or an error, has one."""

SHOWN_BYTES = 200


class Beginning:
    """The first bytes of a body.

    `text`: they are neither an event stream's nor JSON's. That is an error only where no payload follows
    (`check_end`), because a stream may begin with a line that is none of its fields.
    """

    def __init__(self) -> None:
        self.data = b""
        self.is_json = False
        self.text = b""

    def feed(self, data: bytes) -> bool:
        """Add a read; returns whether `data` and the kind of the body are known.

        Raises:
            Unreadable: the body is HTML or XML.
        """
        self.data = data = (self.data + data).lstrip(BLANKS)
        if data.startswith(b"<"):
            raise Unreadable("is HTML. Is OPENAI_BASE_URL right? It usually ends with /v1")
        if any(len(data) < len(field) and field.startswith(data) for field in FIELDS):
            return False
        self.is_json = data.startswith((b"{", b"["))
        if not data.startswith(FIELDS):
            self.text = data[:SHOWN_BYTES]
        return True

    def check_end(self) -> None:
        """The stream has ended without a payload.

        Raises:
            Unreadable: there was text that is no stream.
        """
        if self.text:
            raise Unreadable(f"is neither a stream nor JSON: {self.text.decode(errors='replace')!r}")


async def whole_json(begun: bytes, rest: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """The one payload of a body that is JSON.

    Raises:
        Unreadable: it has more than `max_bytes`, or is neither an answer nor an error.
    """
    body = bytearray(begun)
    async for data in rest:
        body += data
        if len(body) > max_bytes:
            raise Unreadable(f"is JSON of more than {max_bytes} bytes")
    try:
        value = jsoncodec.loads_tolerant(bytes(body))
    except ValueError:
        raise Unreadable("is neither a stream nor JSON") from None
    if isinstance(value, list) and len(value) == 1:  # Google's errors
        value, body = value[0], body[body.index(b"{") : body.rindex(b"}") + 1] if b"{" in body else body
    if not _is_answer(value):
        words = message_in(value)
        raise Unreadable(f"is JSON without an answer{f': {words}' if words else ''}")
    return bytes(body)


def _is_answer(value: Json | object) -> bool:
    return isinstance(value, dict) and (not ANSWER_FIELDS.isdisjoint(value) or value.get("object") == "error")
