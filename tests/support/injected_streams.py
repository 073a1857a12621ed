"""Streams whose texts hold what frames are made of, in every framing that a server may choose, cut anywhere."""

import json
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from support.chat_chunks import Json
from support.logs import RECORDS
from support.random_streams import TOKENS, random_stream

INJECTIONS = (
    "\n", "\r", "\r\n", "\n\n", "\r\r", "data:", "data: ", "\ndata: [DONE]\n\n", "data: {}\n\n", "id:", "\nid: 9-9\n",
    "event: done\n", "retry: 0\n", ": ping\n\n", "[DONE]", "\x00", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\ufeff",
    '"}', '\\"', "\\", "\\n", "</script>", "\ud83d", "\ude00", "😀", '","content":"', '"content":"x"', "\x7f",
)  # fmt: skip
"""Texts that a framing without escapes would take for its own."""

HALVES = ("\ud83d", "\ude00")


@dataclass
class InjectedStream:
    """An answer's chunks, the reads in which its body arrives, and the record by which it is encoded."""

    seed: int
    chunks: list[Json]
    reads: list[bytes]
    how: str


def injected_stream(seed: int) -> InjectedStream:
    random = Random(seed)
    own = "".join(chr(random.randrange(0xD800)) for _ in range(random.randrange(6)))
    chunks = random_stream(random, (*TOKENS, *INJECTIONS, *INJECTIONS, own))
    if random.random() < 0.3:
        text, element = (_without_halves(random.choice(INJECTIONS)) for _ in range(2))
        chunks[0] |= {"x_vendor": {"text": text, "list": [element]}}
    body = _body(random, chunks)
    return InjectedStream(seed, chunks, _cut(random, body), random.choice(list(RECORDS)))


def _without_halves(text: str) -> str:
    """Fields pass through one by one: half of a surrogate pair has no other half to wait for."""
    return "" if text in HALVES else text


def _body(random: Random, chunks: list[Json]) -> bytes:
    """The frames, in one framing of those that the standard permits."""
    end = random.choice(("\n", "\n", "\r\n", "\r"))
    field = random.choice(("data: ", "data:"))
    separators = random.choice(((",", ":"), (", ", ": ")))
    frames = [random.choice(("", "", "\ufeff"))]
    for chunk in chunks:
        if random.random() < 0.25:
            frames.append(random.choice((": ping", "event: message", "id: 7", "retry: 9", "", ": ping" + end)) + end)
        text = _json(random, chunk, separators)
        frames += [f"{field}{line}{end}" for line in text.split("\n")] + [end]
    done = f"{field}[DONE]" + random.choice((end + end, end, ""))
    return "".join([*frames, random.choice((done, done, ""))]).encode()


def _json(random: Random, chunk: Json, separators: tuple[str, str]) -> str:
    """A chunk in ASCII, as text with everything that JSON need not escape, or over several lines."""
    is_indented = random.random() < 0.1
    ascii_ = json.dumps(chunk, separators=separators, indent=1 if is_indented else None)
    text = json.dumps(chunk, separators=separators, indent=1 if is_indented else None, ensure_ascii=False)
    has_halves = any("\ud800" <= character <= "\udfff" for character in text)
    return ascii_ if has_halves or random.random() < 0.5 else text


def _cut(random: Random, body: bytes) -> list[bytes]:
    size = random.choice((0, 0, 1, 2, 3, 7, 50))
    if size:
        return [body[at : at + size] for at in range(0, len(body), size)]
    cuts = sorted(random.randrange(len(body) + 1) for _ in range(random.choice((0, 1, 4, 20))))
    return [body[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def injected_streams() -> st.SearchStrategy[InjectedStream]:
    """A number draws a stream: Hypothesis would take a hundred times as long to draw every choice by itself, and a
    stream of a smaller number is no smaller."""
    return st.integers(0, 2**64 - 1).map(injected_stream)
