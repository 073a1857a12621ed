"""The lines of a JSON value, at every point of a text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.logs import LogBuilder, caught_up, record, text_opened, texts
from tailrace.events import Entry, Event, Finish, ItemOpened, Reasoning, Refusal, Text
from tailrace.wire import JSON_VALUES, json_value
from tailrace.wire.json_value import JsonLines, ParsedText, parse

RECORD = record(structured=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=12,
)


def lines_of(entries: list[Entry], lines: JsonLines | None = None) -> list[dict[str, Any]]:
    encode = lines or JSON_VALUES.bind(RECORD, None)
    sent = b"".join(encode(entry) or b"" for entry in entries)
    assert sent.count(b"\n") == len(sent.splitlines())
    return [json.loads(line) for line in sent.splitlines()]


def log_of(*events: Event, status: Any = "completed") -> list[Entry]:
    return LogBuilder(RECORD, coalesce=1).start().add(*events).end(status, Finish(0, "stop"))


def written(text: str) -> list[Entry]:
    """A log whose answer is these pieces, separated by `|`."""
    return log_of(text_opened(), *texts(text))


def test_line_is_sent_for_each_change_of_the_value() -> None:
    *lines, end = lines_of(written('{"ci|ty"|: "Par|is", "n|": 1|2|}| '))
    assert [(line["value"], line["is_complete"]) for line in lines] == [
        ({}, False),
        ({"city": "Par"}, False),
        ({"city": "Paris"}, False),
        ({"city": "Paris", "n": 1}, False),
        ({"city": "Paris", "n": 12}, False),
        ({"city": "Paris", "n": 12}, True),
    ]
    assert end["value"] == {"city": "Paris", "n": 12}
    assert end["is_complete"]
    assert end["done"]["status"] == "completed"
    assert "output" not in end["done"]


def test_line_has_the_id_of_the_last_entry_in_it() -> None:
    entries = written('{"a|": 1}')
    lines = lines_of(entries)
    assert [line["id"] for line in lines] == [str(entry.id) for entry in entries[3:]]


@given(VALUES)
def test_every_prefix_of_a_value_parses_and_the_whole_is_the_value(value: Any) -> None:
    text = json.dumps(value).encode()
    for end in range(len(text)):
        prefix = parse(text[:end], ended=False)
        assert prefix.error is None, text[:end]
        json.dumps(prefix.value, allow_nan=False)
    assert parse(text, ended=True) == ParsedText(value, is_complete=True)
    is_closed = isinstance(value, dict | list)
    assert parse(text, ended=False).is_complete is is_closed


@given(st.text(), st.text())
def test_any_text_is_answered(text: str, more: str) -> None:
    (*_, end) = lines_of(log_of(text_opened(), Text(0, text), Text(0, more)))
    try:
        whole = json.loads(text + more, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        assert not end["is_complete"]
    else:
        assert end["value"] == whole


@pytest.mark.parametrize("text", ["Sure, here it is", "```json\n{", "{'a'", "[1, NaN]", '{"a": "x\ny"}', "[" * 300])
def test_text_that_is_no_json_is_an_error(text: str) -> None:
    *_, line, end = lines_of(written(text))
    assert line["error"]
    assert not line["is_complete"]
    assert (end["error"], end["is_complete"]) == (line["error"], False)


def test_value_stays_where_later_text_is_no_json() -> None:
    *_, end = lines_of(written('{"a": 1,| "b": oh no'))
    assert end["value"] == {"a": 1}
    assert end["error"]


def test_text_behind_a_whole_value_revokes_its_end() -> None:
    *lines, end = lines_of(written('{"a": 1}| and more'))
    assert [line["is_complete"] for line in lines] == [True, False]
    assert (end["value"], end["is_complete"]) == ({"a": 1}, False)
    assert "trailing" in end["error"]


def test_cut_text_is_no_whole_value_at_the_end() -> None:
    *_, end = lines_of(written('{"a": [1, 2'))
    assert (end["value"], end["is_complete"]) == ({"a": [1, 2]}, False)
    assert end["error"].startswith("EOF")


def test_refusal_has_no_value() -> None:
    refusal = ItemOpened(0, "refusal", 0, [0])
    *lines, end = lines_of(log_of(refusal, Refusal(0, "I can"), Refusal(0, "not.")))
    assert [line["refusal"] for line in lines] == ["I can", "I cannot."]
    assert (end["value"], end["refusal"], end["is_complete"]) == (None, "I cannot.", False)
    assert "error" not in end


def test_only_the_text_of_choice_0_counts() -> None:
    entries = log_of(
        ItemOpened(0, "reasoning", 0, [0]), Reasoning(0, "{"), ItemOpened(1, "text", 1, [1]), Text(1, "[", choice=1),
        ItemOpened(2, "text", 0), Text(2, "[7]"),
    )  # fmt: skip
    assert lines_of(entries)[0]["value"] == [7]


def test_restart_takes_the_value_back() -> None:
    log = LogBuilder(RECORD, coalesce=1).start().add(text_opened(), *texts('{"a": 1')).restart()
    entries = log.add(text_opened(1), Text(1, '{"b": 2}')).end("completed", Finish(0, "stop"))
    before, restarted, after, _ = lines_of(entries)
    assert before["value"] == {"a": 1}
    assert (restarted["value"], restarted["restarted"]["reason"]) == (None, "worker_lost")
    assert (after["value"], "restarted" in after) == ({"b": 2}, False)


def test_reader_that_resumes_gets_the_rest_of_the_lines() -> None:
    entries = written('{"ci|ty"|: "Par|is", "n|": 1|2|}| ')
    whole = lines_of(entries)
    for cut in range(len(entries) + 1):
        lines = JsonLines()
        for entry in caught_up(entries[:cut]):
            lines.add(entry)
        lines.line()
        had = [line for line in whole if line["id"] in {str(entry.id) for entry in entries[:cut]}]
        assert had + lines_of(entries[cut:], lines) == whole


def test_log_from_its_beginning_takes_everything_back() -> None:
    entries, lines = written('{"a|": 1}'), JsonLines()
    assert lines_of(entries, lines) == lines_of(entries, lines)


def test_entries_that_are_added_together_become_one_line() -> None:
    entries, lines = written('{"a|": 1|, "b": 2'), JsonLines()
    for entry in entries[:-1]:
        lines.add(entry)
    assert json.loads(lines.line()) == {"id": str(entries[-2].id), "value": {"a": 1, "b": 2}, "is_complete": False}
    assert lines.line() == b""


def test_control_lines_have_a_value_and_no_id() -> None:
    assert json.loads(json_value.encode_restart()) == {
        "value": None, "is_complete": False, "restarted": {"reason": "log_changed"},
    }  # fmt: skip
    assert json.loads(json_value.encode_gone("expired")) == {
        "value": None, "is_complete": False, "gone": {"reason": "expired"},
    }  # fmt: skip
    assert JSON_VALUES.encode_retry("why", 1) is None
