"""The Responses format: what an entry's frames are behind a number, and padding. The rest is in the contract tests."""

import pytest

from support.logs import EPOCH, REQUEST, record
from support.named_logs import LOGS
from tailrace import jsoncodec
from tailrace.events import NO_EXTRA, Entry, Extra, ItemOpened, Text, ToolArguments
from tailrace.ids import EntryId
from tailrace.wire import openai_responses, sse
from tailrace.wire.openai_response_object import Context
from tailrace.wire.openai_responses import PADDED_BYTES, after_number

RECORD = record()
CONTEXT = Context.of(RECORD, REQUEST)
OBFUSCATED = Context.of(RECORD, REQUEST, obfuscates=True)


@pytest.mark.parametrize("name", LOGS)
def test_frames_behind_a_number_are_those_with_a_higher_one(name: str) -> None:
    for entry in LOGS[name](RECORD):
        frames = openai_responses.encode(CONTEXT, entry)
        parts = frames.removesuffix(sse.END).split(b"\n\n")[:-1]
        end = sse.END if frames.endswith(sse.END) else b""
        first = entry.id.seq - entry.seq_span + 1
        for number in range(first - 2, entry.id.seq + 3):
            kept = [part for k, part in enumerate(parts) if first + k > number]
            assert after_number(frames, entry, number) == b"".join(part + b"\n\n" for part in kept) + end


@pytest.mark.parametrize("text", ["", "a", " the", "0123456789abcdef", "0123456789abcdefg", "🜁", "é" * 40])
def test_padding_makes_deltas_equally_long(text: str) -> None:
    for event in (Text(0, text), ToolArguments(0, text, call="c"), ToolArguments(0, text, call="c", custom=True)):
        entry = Entry(EntryId(EPOCH, 7), event)
        frame = openai_responses.encode(OBFUSCATED, entry)
        value = jsoncodec.loads(frame.split(b"data: ")[1])
        assert len((value["delta"] + value.pop("obfuscation")).encode()) % PADDED_BYTES == 0
        assert value == jsoncodec.loads(openai_responses.encode(CONTEXT, entry).split(b"data: ")[1])


def test_padding_is_for_deltas_only() -> None:
    for entry in LOGS["calls"](RECORD):
        for line in openai_responses.encode(OBFUSCATED, entry).split(b"\n"):
            if line.startswith(b"data: {"):
                event = jsoncodec.loads(line.removeprefix(b"data: "))
                assert ("obfuscation" in event) == event["type"].endswith(".delta")


def test_field_of_an_upstream_with_the_name_of_a_delta_is_not_padded() -> None:
    entry = Entry(EntryId(EPOCH, 9), ItemOpened(0, "text"), Extra(frames={"0": {"delta": {"a": 1}}}))
    frame = openai_responses.encode(OBFUSCATED, entry)
    assert frame == openai_responses.encode(CONTEXT, entry)
    assert b'"delta":{"a":1}' in frame


@pytest.mark.parametrize("text", ["", " word", '\u2028"\\\n', "日本 😀\x00"])
@pytest.mark.parametrize("place", [None, (3, 1)])
def test_plain_text_is_framed_like_any_other_event(text: str, place: tuple[int, int] | None) -> None:
    context, event = Context.of(record(), REQUEST), Text(4, text, place=place)
    (value,) = openai_responses.ENCODERS[Text](context, event, NO_EXTRA)
    frame = sse.event_frame(value["type"], value | {"sequence_number": 9})
    assert openai_responses.encode(context, Entry(EntryId(EPOCH, 9), event)) == frame
