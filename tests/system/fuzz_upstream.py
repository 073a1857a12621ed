"""The fuzz of the upstream's side: bytes of a stream, right, wrong and cut anywhere.

A stream begins as the chunks of a random vendor, or as the events of a random Response, with random values in the
places of some fields; then bytes of it change. The translator of its dialect must not raise, whatever it reads; what it
makes must be entries that every format can send, and whose fold is the output.
"""

import json
from typing import Any

from hypothesis import strategies as st

from support.chat_chunks import chunk
from support.logs import RECORDS, REQUEST, LogBuilder, record
from support.random_responses import random_answers
from support.random_streams import random_streams
from tailrace.events import Done
from tailrace.log.output import Output
from tailrace.translation import DialectName
from tailrace.wire import WIRE_FORMATS
from tailrace_worker.upstream.dialects import DIALECTS
from tailrace_worker.upstream.redaction import unchanged
from tailrace_worker.upstream.sse import EventTooLarge, Splitter

MAX_EVENT = 4096

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10),
    st.sampled_from(["", "x" * 5000, "stop", "error", "\ud83d", 10**40, -1, 128, "0"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
DELTA_FIELDS = ["content", "reasoning_content", "reasoning", "refusal", "tool_calls", "annotations", "role",
                "function_call", "audio", "reasoning_details"]  # fmt: skip
CALL_FIELDS = ["index", "id", "type", "function", "custom", "extra_content"]
CHOICE_FIELDS = ["index", "delta", "finish_reason", "logprobs", "message", "usage"]
CHUNK_FIELDS = ["id", "model", "choices", "usage", "error", "object", "created", "system_fingerprint", "x_groq"]


def _objects(names: list[str], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields: of a known form, or of none."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(known[name], known[name], VALUES) if name in known else VALUES for name in names}
    )


FUNCTIONS = _objects(["name", "arguments"], name=st.sampled_from(["look", ""]), arguments=st.sampled_from(["{", "}"]))
CALLS = st.lists(_objects(CALL_FIELDS, index=st.integers(-1, 3), function=FUNCTIONS), max_size=3)
DELTAS = _objects(DELTA_FIELDS, content=st.text(max_size=5), tool_calls=CALLS)
CHOICES = st.lists(_objects(CHOICE_FIELDS, index=st.integers(-1, 3), delta=DELTAS), max_size=3)
CHUNKS = _objects(CHUNK_FIELDS, choices=CHOICES)


def _payload(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


ODD_CHUNKS = st.one_of(CHUNKS, VALUES, CHUNKS.map(lambda fields: chunk() | fields)).map(_payload)
LINES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"data: [DONE]\n\n", b": ping\n\n", b"data:\n\n", b"data\n\n", b"\r", b"\n", b"\xef\xbb\xbf",
                     b"event: error\ndata: {}\n\n", b"data: {\n\n", b"data: " + b"[" * 2000 + b"\n\n", b"\x00" * 20,
                     b"data: " + b"x" * MAX_EVENT + b"y\n\n"]),
)  # fmt: skip
ITEM_FIELDS = ["id", "type", "status", "role", "content", "summary", "call_id", "name", "arguments", "input", "action",
               "encrypted_content"]  # fmt: skip
PART_FIELDS = ["type", "text", "refusal", "annotations", "logprobs"]
EVENT_FIELDS = ["item_id", "output_index", "content_index", "summary_index", "sequence_number", "delta", "text",
                "arguments", "logprobs", "annotation", "error", "obfuscation"]  # fmt: skip
EVENT_NAMES = ["created", "in_progress", "output_item.added", "output_item.done", "content_part.added",
               "content_part.done", "output_text.delta", "output_text.done", "output_text.annotation.added",
               "refusal.delta", "reasoning_text.delta", "reasoning_summary_part.added",
               "reasoning_summary_text.delta", "reasoning_summary_text.done", "function_call_arguments.delta",
               "function_call_arguments.done", "custom_tool_call_input.delta", "web_search_call.searching", "completed",
               "incomplete", "failed", "x"]  # fmt: skip
TYPES = st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "web_search_call", "x"])
PART_TYPES = st.sampled_from(["output_text", "refusal", "summary_text", "reasoning_text", "x"])
INDEXES = st.integers(-1, 3)
ITEMS = _objects(
    ITEM_FIELDS, type=TYPES, content=st.lists(_objects(PART_FIELDS, type=PART_TYPES), max_size=2),
    arguments=st.sampled_from(["{", "}"]),
)  # fmt: skip
RESPONSES = _objects(["id", "model", "status", "output", "usage", "error"], output=st.lists(ITEMS, max_size=2))
EVENTS = _objects(
    [*EVENT_FIELDS, "item", "part", "response"], item=ITEMS, part=_objects(PART_FIELDS, type=PART_TYPES),
    response=RESPONSES, item_id=st.sampled_from(["a", "b", ""]), output_index=INDEXES, content_index=INDEXES,
    summary_index=INDEXES, delta=st.text(max_size=5),
)  # fmt: skip
ODD_EVENTS = st.tuples(st.sampled_from(EVENT_NAMES), EVENTS).map(
    lambda drawn: _payload({"type": f"response.{drawn[0]}"} | drawn[1])
)


def _parts(right: st.SearchStrategy[Any], odd: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    return st.tuples(
        st.one_of(st.just([]), right.map(lambda values: [_payload(each) for each in values])),
        st.lists(st.one_of(odd, odd, LINES), max_size=8),
        st.randoms(use_true_random=False),
    )


def _reads(drawn: Any) -> list[bytes]:
    """Chunks and odd lines in random order, one byte in some of them changed, cut into reads."""
    right, odd, random = drawn
    parts = right + odd
    if random.random() < 0.5:
        random.shuffle(parts)
    data = bytearray(b"".join(parts))
    for _ in range(random.choice((0, 0, 1, 4))):
        if data:
            data[random.randrange(len(data))] = random.randrange(256)
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 1, 5))))
    return [bytes(data[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if begin < end]


STREAMS: dict[DialectName, st.SearchStrategy[list[bytes]]] = {
    "chat": _parts(random_streams(), ODD_CHUNKS).map(_reads),
    "responses": _parts(random_answers(), ODD_EVENTS).map(_reads),
}
"""Reads of a socket, by dialect."""


class TranslatorFuzz:
    """Translates streams of a dialect, folds and encodes what they become."""

    def __init__(self, dialect: DialectName) -> None:
        self.dialect = dialect
        self.read = 0
        self.entries = 0
        self.wrong: list[str] = []

    def run(self, reads: list[bytes]) -> None:
        self.read += 1
        name = list(RECORDS)[self.read % len(RECORDS)]
        try:
            self._run(reads, RECORDS[name])
        except Exception as error:  # noqa: BLE001 - any is a finding
            self.wrong.append(f"{name}: {error!r}: {reads!r}"[:3000])

    def _run(self, reads: list[bytes], changes: dict[str, Any]) -> None:
        kept = record(**changes)
        translator = DIALECTS[self.dialect].translator(
            first_item=0, first_index=0, logprobs=kept.logprobs, redact=unchanged
        )
        log = LogBuilder(kept, 3).start()
        for payload in _payloads(reads):
            log.add(*translator.read(payload))
        log.add(*translator.close())
        end: dict[str, Any] = {"usage": translator.usage, "extra": translator.extra, "upstream": translator.upstream}
        end["response"] = translator.response
        status = "failed" if translator.failure else translator.status
        entries = log.end(status, *translator.finish, error=translator.failure, **end)
        self.entries += len(entries)
        done = entries[-1].event
        assert isinstance(done, Done)
        fold = Output(entries[:-1], logprobs=kept.logprobs)
        assert fold.build_done(done.status, done.at).output == done.output, "the fold is not the output"
        for wire in WIRE_FORMATS.values():
            encode = wire.bind(kept, REQUEST)
            for entry in entries:
                assert encode(entry) is not None or type(entry.event) in wire.ends_at


def _payloads(reads: list[bytes]) -> list[bytes]:
    """The payloads up to an event that is too large, as the worker reads them."""
    splitter, payloads = Splitter(MAX_EVENT), list[bytes]()
    try:
        for data in reads:
            payloads += splitter.feed(data)
        payloads += splitter.close()
    except EventTooLarge:
        pass
    return payloads
