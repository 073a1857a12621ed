"""What the checker makes of the streams of OpenAI's routes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from system.checker import Plan
from system.openai_client import Place, Stream, has_all_tokens, places

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"g1:0@5 "}}],"sequence_number":3}\n\n'
NO_NUMBER = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"Cancelled.","type":"t","param":null,"code":"%b"}}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"g1:0@5 "}\n\n'
END = b'event: response.%b\ndata: {"type":"response.%b","response":{"status":"%b"},"sequence_number":9}\n\n'
COMPLETED = END % (b"completed", b"completed", b"completed")
CANCELLED = END % (b"incomplete", b"incomplete", b"cancelled")


class Exchange:
    """Stands for the one of a connection, in one piece."""

    status, end = 200, "whole"

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.headers = {"x-tailrace-generation": "gen_x"}

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.sent

    def close(self) -> None:
        pass


async def received(sent: bytes) -> Stream:
    exchange: Any = Exchange(sent)
    stream = Stream(exchange)
    await stream.read()
    return stream


@pytest.mark.parametrize(
    ("sent", "ends"),
    [
        (CHUNK + DONE, ["completed"]),
        (CHUNK + ERROR % b"cancelled", ["cancelled"]),
        (CHUNK + ERROR % b"upstream_error", ["failed"]),
        (CHUNK, []),
        (DELTA + COMPLETED + DONE, ["completed"]),
        (DELTA + CANCELLED + DONE, ["cancelled"]),
        (DELTA + CANCELLED + COMPLETED + DONE, ["cancelled", "completed"]),
    ],
)
async def test_stream_has_the_ends_that_were_sent(sent: bytes, ends: list[str]) -> None:
    assert (await received(sent)).ends == ends


@pytest.mark.parametrize(
    ("sent", "is_right"),
    [
        (CHUNK + DONE, True),
        (CHUNK + DONE + CHUNK, False),
        (CHUNK + DONE + DONE, False),
        (DELTA + COMPLETED + DONE, True),
        (DELTA + COMPLETED, False),
        (DELTA + COMPLETED + DELTA + DONE, False),
        (DELTA + DONE, False),
    ],
)
async def test_stream_must_end_with_its_terminal_event(sent: bytes, is_right: bool) -> None:
    assert (await received(sent)).ends_as_it_should is is_right


@pytest.mark.parametrize("sent", [CHUNK + DONE, DELTA + COMPLETED + DONE])
async def test_stream_has_the_text(sent: bytes) -> None:
    stream = await received(sent)
    assert (stream.text, stream.generation_id, stream.first_text.is_set()) == ("g1:0@5 ", "gen_x", True)


def test_places_are_behind_the_frames_that_have_a_number() -> None:
    assert places(NO_NUMBER + CHUNK + CANCELLED + DONE) == [
        Place(3, len(NO_NUMBER + CHUNK)),
        Place(9, len(NO_NUMBER + CHUNK + CANCELLED)),
    ]


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [("g1:0@5 g1:1@6 ", True), ("g1:0@5 ", False), ("g1:1@6 g1:0@5 ", False), ("g1:0@5 g2:1@6 ", False),
     ("g1:0@5 g1:1@6 x", False)],
)  # fmt: skip
def test_text_is_whole_with_each_token_once_and_in_order(text: str, is_whole: bool) -> None:
    assert has_all_tokens(text, Plan("g1", 2)) is is_whole
