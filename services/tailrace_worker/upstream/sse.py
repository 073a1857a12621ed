"""Reads server-sent events: bytes of a socket in, payloads of `data:` out.

Rule 1: only LF, CR LF and CR end a line, also where a read cuts between CR and LF. U+2028 is text, and so are NUL and
invalid UTF-8: interpreting the bytes is the JSON parser's task.
Rule 2: however the bytes are cut into reads, the payloads are the same.
Rule 3: memory is bounded by one event, and the work is linear in the bytes: an event of many reads is joined once.

Comments, other fields and events without data are skipped: they only keep the connection alive. A field `error` is no
field of the standard, and counts as data: llama.cpp sent errors so until September 2025 (its pull request 16109).
"""

BOM = b"\xef\xbb\xbf"
FIELD = len(b"data: ")
ERROR = b"error:"


class EventTooLarge(ValueError):
    """An event is larger than the limit."""


class Splitter:
    """Splits one stream into payloads. `max_event`: the largest payload, in bytes."""

    __slots__ = ("_after_cr", "_data", "_line", "_line_size", "_max", "_size", "_start")

    def __init__(self, max_event: int) -> None:
        self._max = max_event
        self._start: bytes | None = b""  # bytes that may still become a BOM
        self._after_cr = False
        self._line: list[bytes] = []  # the line that has not ended, one element for each read
        self._line_size = 0
        self._data: list[bytes] = []  # lines of the event that has not ended
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads of the events that end in this chunk.

        Raises:
            EventTooLarge: an event, or a single line, is larger than `max_event`.
        """
        if self._start is not None:
            chunk = self._after_bom(chunk)
        if b"\r" in chunk or self._after_cr:
            chunk = self._with_lf(chunk)
        elif (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\n") == len(chunk) - 2 <= self._max
            and not (self._line or self._data)
        ):
            return [chunk[FIELD:-2]] if len(chunk) > FIELD + 2 else []  # one event in one read: nearly always
        return self._split(chunk)

    def close(self) -> list[bytes]:
        """The payload of an event that the end of the stream cut before its blank line. Call it once, at the end."""
        start, self._start = self._start or b"", None
        return self._split(start + b"\n\n")

    def _after_bom(self, chunk: bytes) -> bytes:
        chunk = (self._start or b"") + chunk
        if len(chunk) < len(BOM) and BOM.startswith(chunk):
            self._start = chunk
            return b""
        self._start = None
        return chunk.removeprefix(BOM)

    def _with_lf(self, chunk: bytes) -> bytes:
        """The chunk with LF for every line end; the LF of a CR LF that the last read cut is dropped."""
        if not chunk:
            return chunk
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _split(self, chunk: bytes) -> list[bytes]:
        *lines, rest = chunk.split(b"\n")
        payloads: list[bytes] = []
        if lines and self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line, self._line_size = [], 0
        for line in lines:
            self._check(len(line) - FIELD)
            if line:
                self._add(line)
            elif self._data:
                if payload := b"\n".join(self._data):
                    payloads.append(payload)
                self._data, self._size = [], 0
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
            self._check(self._line_size - FIELD)
        return payloads

    def _add(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[FIELD:] if line.startswith(b"data: ") else line[FIELD - 1 :]
        elif line == b"data":
            value = b""
        elif line.startswith(ERROR):
            value = line[len(ERROR) :].removeprefix(b" ")
        else:
            return
        self._size += len(value) + bool(self._data)
        self._check(self._size)
        self._data.append(value)

    def _check(self, size: int) -> None:
        if size > self._max:
            raise EventTooLarge(f"an event of more than {self._max} bytes")
