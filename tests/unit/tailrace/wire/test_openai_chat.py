"""Single frames of the Chat Completions format; whole answers are in the contract tests."""

import json

import pytest

from support.logs import EPOCH, LogBuilder, record
from tailrace.events import Done, Entry, Extra, Finish, Text
from tailrace.failures import failure
from tailrace.ids import EntryId
from tailrace.wire import openai_chat, sse
from tailrace.wire.openai_chat import encode

RECORD = record()


def chunks_of(done: Done, extra: Extra) -> list[dict[str, object]]:
    frame = encode(RECORD, Entry(EntryId(EPOCH, 5), done, extra))
    assert frame.endswith(sse.END)
    return [json.loads(each.removeprefix(b"data: ")) for each in frame.removesuffix(sse.END).split(b"\n\n") if each]


def test_done_without_a_finish_reason_sends_the_last_fields_of_the_chunk_alone() -> None:
    done = Done("completed", 1.0, [Finish(0, None)])
    (chunk,) = chunks_of(done, Extra(chunk_fields={"service_tier": "flex"}))
    assert (chunk["choices"], chunk["service_tier"]) == ([], "flex")


def test_done_with_a_finish_reason_carries_the_last_fields_of_the_chunk_once() -> None:
    done = Done("completed", 1.0, [Finish(0, "stop")])
    (chunk,) = chunks_of(done, Extra(chunk_fields={"service_tier": "flex"}))
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert chunk["service_tier"] == "flex"


@pytest.mark.parametrize(("status", "code"), [("failed", "server_error"), ("cancelled", "cancelled")])
def test_done_without_an_error_ends_an_answer_that_is_not_whole_with_one(status: str, code: str) -> None:
    """A sweeper that completes an end begun by another process knows the status alone."""
    *_, done = LogBuilder(RECORD).start().end(status)  # type: ignore[arg-type]
    frame = encode(RECORD, done)
    assert json.loads(frame.removeprefix(b"data: "))["error"]["code"] == code
    assert sse.END not in frame


def test_frames_after_a_number_are_those_of_later_entries_and_the_end() -> None:
    number = 7
    for seq, sent in ((6, b""), (7, b""), (8, b"frames")):
        assert openai_chat.after_number(b"frames", Entry(EntryId(1, seq), Text(0, "x")), number) == sent
    done = Done("completed", 1.0, [Finish(0, "stop")], None, None)
    assert openai_chat.after_number(b"frames", Entry(EntryId(1, 7), done), number) == sse.END
    failed = Done("failed", 1.0, [], None, failure("upstream_error"))
    assert b'"code":"upstream_error"' in openai_chat.after_number(b"frames", Entry(EntryId(1, 7), failed), number)
