"""The sum of chunks, field by field; whole answers are in the contract tests."""

from typing import Any

import pytest

from support.logs import USAGE, LogBuilder, record, text_opened, texts
from tailrace.events import Extra, Finish, Item, ItemOpened, Json, Text
from tailrace.wire.chat_completion_object import ChatCompletion, add, joined, merge, message

RECORD = record()


def summed(*deltas: Json) -> Any:
    values: Json = {}
    for delta in deltas:
        add(values, delta)
    return joined(values)


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([{"content": "a"}, {"content": "b"}], {"content": "ab"}),
        ([{"id": "x", "type": "t", "role": "r", "name": "n"}] * 2, {"id": "x", "type": "t", "role": "r", "name": "n"}),
        ([{"a": {"b": "c", "d": 1}}, {"a": {"b": "e", "d": 2}}], {"a": {"b": "ce", "d": 2}}),
        ([{"a": 1}, {"a": None}], {"a": 1}),
        ([{"a": None}, {"a": "x"}, {"a": "y"}], {"a": "xy"}),
        ([{"a": [1]}, {"a": [2]}, {"a": []}], {"a": [1, 2]}),
        ([{"a": [{"b": "c"}]}, {"a": [{"b": "d"}]}], {"a": [{"b": "c"}, {"b": "d"}]}),
        (
            [{"a": [{"index": 1, "b": "c"}]}, {"a": [{"index": 0, "b": "x"}, {"index": 1, "b": "d"}]}],
            {"a": [{"index": 1, "b": "cd"}, {"index": 0, "b": "x"}]},
        ),
        ([{"a": "x"}, {"a": {"b": 1}}], {"a": {"b": 1}}),
        ([{"a": "x"}, {"a": [1]}, {"a": True}], {"a": True}),
    ],
)
def test_sum_of_deltas(deltas: list[Json], expected: Json) -> None:
    assert summed(*deltas) == expected


def test_sum_changes_none_of_the_deltas() -> None:
    one: Json = {"a": [{"index": 0, "b": "c"}], "d": {"e": "f"}, "g": [1]}
    other: Json = {"a": [{"index": 0, "b": "h"}], "d": {"e": "i"}, "g": [2]}
    assert summed(one, other) == {"a": [{"index": 0, "b": "ch"}], "d": {"e": "fi"}, "g": [1, 2]}
    assert one == {"a": [{"index": 0, "b": "c"}], "d": {"e": "f"}, "g": [1]}
    assert other == {"a": [{"index": 0, "b": "h"}], "d": {"e": "i"}, "g": [2]}


def test_other_fields_are_merged() -> None:
    first: Json = {"x_groq": {"id": "r", "seed": 7}, "citations": ["a"], "tier": None, "n": 1}
    last: Json = {"x_groq": {"id": "r", "usage": {"a": 1}}, "citations": ["b"], "tier": "flex", "n": 2}
    merged: Json = {}
    for fields in (first, last, {"tier": None}):
        merge(merged, fields)
    assert merged == {
        "x_groq": {"id": "r", "seed": 7, "usage": {"a": 1}}, "citations": ["b"], "tier": "flex", "n": 2
    }  # fmt: skip
    assert first["x_groq"] == {"id": "r", "seed": 7}


def test_lists_of_a_choice_are_joined() -> None:
    one: Json = {"token_ids": [1], "stop": 3}
    joined_fields: Json = {}
    for fields in (one, {"token_ids": [1, 2]}, {"token_ids": [3], "stop": None}):
        merge(joined_fields, fields, joins_lists=True)
    assert joined_fields == {"token_ids": [1, 1, 2, 3], "stop": 3}
    assert one == {"token_ids": [1], "stop": 3}


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"role": "assistant"}, ""),
        ({"reasoning_content": "Hm"}, ""),
        ({"content": "Hi"}, "Hi"),
        ({"refusal": "No."}, None),
        ({"audio": {"id": "a"}}, None),
        ({"tool_calls": [{"index": 0, "id": "c"}]}, None),
        ({"tool_calls": [{"index": 0, "id": "c"}], "content": ""}, None),
        ({"tool_calls": [{"index": 0, "id": "c"}], "content": "Wait"}, "Wait"),
    ],
)
def test_content_is_null_where_there_is_another_answer_than_a_text(delta: Json, content: str | None) -> None:
    value = message(delta)
    assert (value["role"], value["content"]) == ("assistant", content)
    assert all("index" not in call for call in value.get("tool_calls", ()))


def completion_of(log: LogBuilder, *finish: Finish, **end: Any) -> Json:
    completion = ChatCompletion(RECORD)
    for entry in log.end("completed", *finish, usage=USAGE, **end):
        completion.add(entry)
    return completion.as_json()


def test_object_has_the_choice_that_never_opened_an_item() -> None:
    log = LogBuilder(RECORD).start().add(text_opened(), *texts("Hi"))
    first, second = completion_of(log, Finish(0, "stop"), Finish(1, "content_filter", role=True))["choices"]
    assert (first["message"]["content"], first["finish_reason"]) == ("Hi", "stop")
    assert (second["message"]["content"], second["finish_reason"]) == ("", "content_filter")


def test_object_names_a_finish_reason_where_the_upstream_named_none() -> None:
    (choice,) = completion_of(LogBuilder(RECORD).start().add(text_opened(), *texts("Hi")), Finish(0, None))["choices"]
    assert choice["finish_reason"] == "stop"


def test_object_has_the_last_of_the_fields_of_chunks_and_choices() -> None:
    log = (
        LogBuilder(RECORD)
        .start()
        .add(
            (ItemOpened(0, "text", 0, [0]), Extra(chunk_fields={"system_fingerprint": "1"}, choice={"filter": 1})),
            (Text(0, "Hi"), Extra(chunk_fields={"system_fingerprint": "2"}, choice={"filter": 2})),
        )
    )
    value = completion_of(log, Finish(0, "stop"), extra=Extra(chunk_fields={"system_fingerprint": "3", "id": "x"}))
    assert (value["system_fingerprint"], value["choices"][0]["filter"]) == ("3", 2)
    assert (value["id"], value["object"]) == ("chatcmpl-abcdefghijklmnopqrstuvwxyz", "chat.completion")


def test_object_has_nothing_of_what_a_restart_discarded() -> None:
    log = LogBuilder(RECORD).start().add(text_opened(0, 0, [0, 1]), *texts("Once", 0), *texts("upon", 0))
    log.restart().add(text_opened(1), *texts("Twice", 1))
    (choice,) = completion_of(log, Finish(0, "stop"))["choices"]
    assert choice["message"]["content"] == "Twice"
    assert Item(1, "text", text="Twice") in log.output.items()
