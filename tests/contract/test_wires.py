"""Wire formats are pure: every reader, from every cursor, on every frontend, gets the same bytes.

The cases are logs built by hand for every case of an answer, and the logs of every upstream's stream.
"""

from itertools import pairwise
from pathlib import Path

import pytest

from support.logs import REQUEST, caught_up, stored
from support.wire_parsing import Case, content_of, each_case, encoded
from tailrace.events import Done
from tailrace.log.output import Output
from tailrace.wire import WIRE_FORMATS, Frame

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts" / "wire"
TRANSCRIBED = ["text", "calls", "custom-calls", "reasoning", "failed", "cancelled", "restarted", "annotations"]

OF_OPENAI: dict[str, Frame] = {"restart": None, "gone": None, "retry": None, "keep-alive": b": ping\n\n"}
CONTROL: dict[str, dict[str, Frame]] = {
    "native": {
        "restart": b'event: restarted\ndata: {"reason":"log_changed"}\n\n',
        "gone": b'event: gone\ndata: {"reason":"expired"}\n\n',
        "retry": b"retry: 1234\n: why\n\n",
        "keep-alive": b": \n\n",
    },
    "ndjson": {
        "restart": b'{"event":"restarted","data":{"reason":"log_changed"}}\n',
        "gone": b'{"event":"gone","data":{"reason":"expired"}}\n',
        "retry": None,
        "keep-alive": b"\n",
    },
    "text": {"restart": None, "gone": None, "retry": None, "keep-alive": b""},
    "openai-chat": OF_OPENAI,
    "openai-responses": OF_OPENAI,
    "openai-responses-obfuscated": OF_OPENAI,
    "ui-messages": {
        "restart": None,
        "gone": (
            b'data: {"type":"error","errorText":"This generation is no longer stored (expired)."}\n\ndata: [DONE]\n\n'
        ),
        "retry": None,
        "keep-alive": b": ping\n\n",
    },
}
"""Frames that are not in the log; None where the format aborts the connection."""


@pytest.mark.parametrize("name", WIRE_FORMATS)
@each_case
def test_format_yields_the_same_bytes_from_every_cursor(case: Case, name: str) -> None:
    wire = WIRE_FORMATS[name]
    frames = [wire.bind(case.record, REQUEST)(entry) for entry in case.entries]
    for cut in range(len(case.entries) + 1):
        rest = [wire.bind(case.record, REQUEST)(entry) for entry in stored(case.entries[cut:])]
        assert frames[:cut] + rest == frames


@pytest.mark.parametrize("name", WIRE_FORMATS)
@each_case
def test_format_aborts_or_ends_only_at_the_kinds_that_it_names(case: Case, name: str) -> None:
    wire = WIRE_FORMATS[name]
    assert Done in wire.ends_at
    for entry in case.entries:
        assert wire.bind(case.record, REQUEST)(entry) is not None or isinstance(entry.event, wire.ends_at)


@pytest.mark.parametrize("name", [name for name in WIRE_FORMATS if WIRE_FORMATS[name].coalesces])
@each_case
def test_format_has_the_same_content_where_a_catch_up_is_coalesced(case: Case, name: str) -> None:
    full = content_of(WIRE_FORMATS[name], case.record, case.entries)
    for cut in range(len(case.entries) + 1):
        parts = case.entries[:cut] + caught_up(case.entries[cut:])
        assert content_of(WIRE_FORMATS[name], case.record, parts) == full


@pytest.mark.parametrize("name", WIRE_FORMATS)
@pytest.mark.parametrize("log", TRANSCRIBED)
def test_transcript(name: str, log: str) -> None:
    case = Case(f"{log}, asking")
    assert encoded(WIRE_FORMATS[name], case.record, case.entries) == (TRANSCRIPTS / name / log).read_bytes()


@pytest.mark.parametrize("log", ["refusal", "length"])
def test_transcript_of_ui_messages(log: str) -> None:
    case = Case(f"{log}, asking")
    sent = encoded(WIRE_FORMATS["ui-messages"], case.record, case.entries)
    assert sent == (TRANSCRIPTS / "ui-messages" / log).read_bytes()


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_control_frames_are_these(name: str) -> None:
    wire = WIRE_FORMATS[name]
    assert CONTROL[name] == {
        "restart": wire.encode_restart(),
        "gone": wire.encode_gone("expired"),
        "retry": wire.encode_retry("why", 1234),
        "keep-alive": wire.keep_alive,
    }


@pytest.mark.parametrize("name", ["cancelled", "failed", "truncated", "failed-at-once", "cancelled-while-queued"])
def test_text_aborts_where_the_answer_is_not_whole(name: str) -> None:
    case = Case(f"{name}, plain")
    assert WIRE_FORMATS["text"].bind(case.record, None)(case.entries[-1]) is None


@each_case
def test_logs_are_dense_and_end_in_their_own_output(case: Case) -> None:
    assert case.entries[0].id.seq == case.entries[0].seq_span - 1
    assert all(after.is_contiguous_after(before.id) for before, after in pairwise(case.entries))
    output = Output(case.entries[:-1], logprobs=case.record.logprobs)
    assert output.build_done(case.done.status, case.done.at).output == case.done.output
