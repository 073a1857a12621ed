from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import CorruptEntry
from tailrace.events import (
    KINDS,
    NO_EXTRA,
    Bucket,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    Failure,
    Finish,
    Gap,
    Item,
    ItemClosed,
    ItemOpened,
    Reasoning,
    Refusal,
    Restarted,
    Started,
    Stream,
    Text,
    Timings,
    ToolArguments,
    Upstream,
)  # fmt: skip
from tailrace.ids import EntryId
from tailrace.log import codec
from tailrace.log.codec import (
    STAMP,
    Row,
    decode,
    encode,
    from_row,
    message,
    pack,
    stamp,
    stamped,
    stored_done,
    take_stamp,
    to_row,
    unpack,
)

numbers = st.integers(0, 2**40)
seconds = st.floats(0, 2**34)
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["", "\x00", "\u2028", "🜁", ":", "/", "0:"])
names = texts | st.sampled_from(["functions.search:0", "call/1", "a:b/c:d", ":", "/", "::"])
objects = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
types = st.sampled_from(["text", "reasoning", "refusal", "call"])
items: st.SearchStrategy[Item] = st.builds(
    Item, numbers, types, numbers, text=st.none() | texts, annotations=st.lists(objects, max_size=2),
    logprobs=st.lists(objects, max_size=2), status=st.none() | st.just("incomplete"), tool=st.none() | numbers,
    id=st.none() | names, name=st.none() | names, arguments=st.none() | texts, call=st.none() | objects,
    custom=st.booleans(),
)  # fmt: skip
outputs = st.lists(items, max_size=3)
indexes = st.lists(numbers, max_size=3)
counts = st.none() | numbers
streams = st.builds(
    Stream, counts, counts, counts, counts, counts, st.none() | seconds, counts,
    st.lists(st.builds(Bucket, numbers, st.none() | seconds), max_size=3),
    st.lists(st.builds(Gap, seconds, seconds, names), max_size=3),
)  # fmt: skip
OF_EACH_KIND: dict[type[Event], st.SearchStrategy[Any]] = {
    Created: st.builds(Created, seconds, st.booleans(), numbers),
    Started: st.builds(Started, numbers, seconds),
    ItemOpened: st.builds(ItemOpened, numbers, types, numbers, indexes, numbers, names, names, st.booleans()),
    Text: st.builds(Text, numbers, texts, numbers),
    Reasoning: st.builds(Reasoning, numbers, texts, numbers, key=names.filter(bool)),
    Refusal: st.builds(Refusal, numbers, texts, numbers),
    ToolArguments: st.builds(ToolArguments, numbers, texts, numbers, numbers, names, st.booleans()),
    ItemClosed: st.builds(ItemClosed, items),
    Restarted: st.builds(Restarted, numbers, texts, seconds, indexes, outputs),
    Done: st.builds(
        Done, st.sampled_from(["completed", "incomplete", "failed", "cancelled"]), seconds,
        st.lists(st.builds(Finish, numbers, st.none() | texts, st.booleans()), max_size=3), st.none() | objects,
        st.none() | st.builds(Failure, texts, texts, texts, st.none() | texts), indexes, outputs,
        st.builds(Upstream, st.none() | texts, st.none() | texts),
        st.builds(Timings, *[st.none() | seconds for _ in Timings.__struct_fields__]), st.none() | seconds, streams,
    ),
}  # fmt: skip
events = st.one_of(list(OF_EACH_KIND.values()))
extras = st.just(NO_EXTRA) | st.builds(Extra, objects, objects, objects, objects, numbers)
entries = st.builds(Entry, st.builds(EntryId, numbers, numbers), events, extras)


def test_every_kind_is_tested() -> None:
    assert set(OF_EACH_KIND) == set(KINDS)


@given(entries)
def test_entry_survives_encoding(entry: Entry) -> None:
    row = to_row(entry)
    assert from_row(row) == entry
    assert row.id == entry.id
    assert row.field.partition(":")[0] == entry.event.kind


@given(st.lists(entries, max_size=4))
def test_rows_survive_packing(many: list[Entry]) -> None:
    rows = [to_row(entry) for entry in many]
    assert unpack(pack(rows)) == rows


@given(entries)
def test_json_in_a_row_contains_no_line_break(entry: Entry) -> None:
    row = to_row(entry)
    if not isinstance(entry.event, Delta):
        assert len(row.value.splitlines()) == 1
    assert len(row.extra.splitlines()) <= 1


@given(entries, st.integers(0, 4))
def test_encoding_is_deterministic(entry: Entry, times: int) -> None:
    row = to_row(entry)
    for _ in range(times):
        assert to_row(from_row(row)) == row


@given(st.lists(st.sampled_from([*(kind.kind for kind in KINDS), ":", "/", "0", "-1", "x", ""])).map("".join), texts)
def test_arbitrary_row_is_decoded_or_corrupt(field: str, value: str) -> None:
    try:
        event = decode(field, value)
    except CorruptEntry:
        return
    assert type(event) in KINDS


FIELDS: list[tuple[Event, str, str]] = [
    (Created(1.5), "created", '{"at":1.5,"queued":false,"version":1}'),
    (Started(1, 2.0), "started", '{"attempt":1,"at":2.0}'),
    (ItemOpened(0, "text", choices=[0]), "item_opened:0", '{"type":"text","choices":[0]}'),
    (
        ItemOpened(2, "call", 1, [], 3, "functions.f:0", "f"),
        "item_opened:2/1",
        '{"type":"call","tool":3,"id":"functions.f:0","name":"f"}',
    ),
    (Text(0, "Let me look."), "text:0", "Let me look."),
    (Text(4, "x", 1), "text:4/1", "x"),
    (Reasoning(0, "hm"), "reasoning:0", "hm"),
    (Reasoning(0, "hm", 2, key="reasoning"), "reasoning:0/2:reasoning", "hm"),
    (Refusal(1, "I can"), "refusal:1", "I can"),
    (ToolArguments(2, '{"q":', tool=0, call="functions.f:0"), "tool_arguments:2:0:functions.f:0", '{"q":'),
    (ToolArguments(2, "1", 3, 4, "a/b:c"), "tool_arguments:2/3:4:a/b:c", "1"),
    (ToolArguments(2, "ls", 3, 4, "a/b:c", custom=True), "tool_arguments:2/3:4/custom:a/b:c", "ls"),
    (Text(4, "x", place=(3, 1)), "text:4@3.1", "x"),
    (Text(4, "x", 1, place=(3, 1)), "text:4/1@3.1", "x"),
    (Refusal(4, "x", place=(3, 0)), "refusal:4@3.0", "x"),
    (ToolArguments(4, "x", call="a@b", place=(3, 0)), "tool_arguments:4@3.0:0:a@b", "x"),
    (Reasoning(1, "hm", form="summary"), "reasoning:1!summary:", "hm"),
    (Reasoning(1, "hm", place=(0, 1), form="summary", ref="rs_1/x:y"), "reasoning:1@0.1!summary:rs_1/x:y", "hm"),
    (Reasoning(1, "hm", key="reasoning", ref="rs_1"), "reasoning:1!.9:reasoningrs_1", "hm"),
    (ItemOpened(2, "refusal", place=(0, 1), further=True), "item_opened:2",
     '{"type":"refusal","place":[0,1],"further":true}'),
    (ItemOpened(2, "other", ref="ws_1", fields={"type": "web_search_call"}), "item_opened:2",
     '{"type":"other","ref":"ws_1","fields":{"type":"web_search_call"}}'),
    (ItemClosed(Item(0, "reasoning", text="hm")), "item_closed:0", '{"type":"reasoning","text":"hm"}'),
    (ItemClosed(Item(0, "text", text="a", part={"b": 1}), is_last=False), "item_closed:0",
     '{"type":"text","text":"a","part":{"b":1},"is_last":false}'),
    (ItemClosed(Item(1, "text", text="b", place=(0, 1)), earlier=[Item(0, "text", text="a")]), "item_closed:1",
     '{"type":"text","text":"b","place":[0,1],"earlier":[{"item":0,"type":"text","text":"a"}]}'),
    (Restarted(2, reason="worker_lost", at=1.0), "restarted", '{"attempt":2,"reason":"worker_lost","at":1.0}'),
    (Done("completed", 9.0, [Finish(0, "stop")]), "done",
     '{"status":"completed","at":9.0,"finish":[{"index":0,"finish_reason":"stop"}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("event", "field", "value"), FIELDS)
def test_stored_format_is_fixed(event: Event, field: str, value: str) -> None:
    """The next release must be able to read stored logs."""
    assert encode(event) == (field, value)
    assert decode(field, value) == event


def test_empty_extra_is_left_out() -> None:
    assert to_row(Entry(EntryId(1, 2), Text(0, "a"))) == Row(1, 2, "text:0", "a", "")
    assert to_row(Entry(EntryId(1, 2), Text(0, "a"), Extra(before=1))).extra == '{"before":1}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("", ""), ("text", "a"), ("text:", "a"), ("text:x", "a"), ("text:0/x", "a"), ("text:0/1/2", "a"),
        ("reasoning:0!summary.x:a", "a"), ("text:0@", "a"), ("text:0@1", "a"), ("text:0@1.x", "a"),
        ("tool_arguments:0", "a"), ("tool_arguments:0:x:call", "a"), ("item_opened:0", ""), ("item_opened:0", "[]"),
        ("item_opened:0", "{}"), ("item_opened:0", '{"type":"image"}'), ("item_opened:x", '{"type":"text"}'),
        ("item_closed:0", '{"text":1,"type":"text"}'), ("created", "{}"), ("created", "not JSON"), ("started",
        '{"attempt":"one","at":1}'), ("restarted", "null"), ("done", '{"status":"queued","at":1}'), ("done", "[" *
        100_000), ("unknown", "a"), ("unknown:0", "a"), ("unknown:0", "{}"), ("TEXT:0", "a"),
    ],
)  # fmt: skip
def test_damaged_entry_is_corrupt(field: str, value: str) -> None:
    with pytest.raises(CorruptEntry):
        decode(field, value)
    with pytest.raises(CorruptEntry):
        from_row(Row(1, 1, field, value))


@pytest.mark.parametrize("extra", ["{", "[]", '{"chunk_fields":1}', '{"before":"x"}', "[" * 100_000])
def test_damaged_extra_is_corrupt(extra: str) -> None:
    with pytest.raises(CorruptEntry):
        from_row(Row(1, 1, "text:0", "a", extra))


@pytest.mark.parametrize("message", [b"", b"\x00", b"text", pack([Row(1, 1, "text:0", "a")])[:-1]])
def test_damaged_message_is_corrupt(message: bytes) -> None:
    with pytest.raises(CorruptEntry):
        unpack(message)


@given(OF_EACH_KIND[Done])
def test_stored_done_is_the_event_with_its_output_as_bytes(done: Done) -> None:
    stored = stored_done(to_row(Entry(EntryId(1, 2), done)).value.encode())
    assert (stored.status, stored.at, stored.finish, stored.usage) == (done.status, done.at, done.finish, done.usage)
    assert (stored.error, stored.timings) == (done.error, done.timings)
    assert (stored.cost, stored.stream) == (done.cost, done.stream)
    assert msgspec.json.decode(stored.output, type=list[Item]) == done.output


@pytest.mark.parametrize("value", [b"", b"{", b"null", b'{"status":"queued","at":1}', b'{"status":"completed"}'])
def test_damaged_stored_done_is_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptEntry, match="unreadable done"):
        stored_done(value)


def test_row_size_is_the_bytes_of_its_content() -> None:
    assert Row(1, 2, "text:0", "ü🜁", '{"chunk_fields":{"x":"ß"}}').size == 6 + 6 + 27
    assert Row(1, 2, "tool_arguments:0:0:ü", "").size == 21, "the field counts in bytes, too"


def test_places_with_long_ids_are_not_kept() -> None:
    event = ToolArguments(1, "x", tool=0, call="c" * 1000)
    codec._reader.cache_clear()
    assert decode(*encode(event)) == event
    assert codec._reader.cache_info().currsize == 0


def test_stamp_of_a_message_is_taken_from_its_rows() -> None:
    rows = [Row(7, 1, "text:0", "Hel"), Row(7, 2, "text:0", "lo", '{"delta":{}}')]
    received = unpack(stamped(rows, stamp(1_795_235_902.123456)))
    assert take_stamp(received) == 1_795_235_902.123456
    assert received == rows
    assert take_stamp(received) is None, "a message of a version without stamps"


def test_stamp_is_a_repetition_of_the_last_row_to_versions_that_do_not_know_it() -> None:
    """Theirs reads every row, and drops those whose id is not above the newest one."""
    rows = [Row(7, 2, "done", '{"status":"completed","at":1.0}')]
    *_, added = unpack(stamped(rows, stamp(1.5)))
    assert added.id == rows[-1].id
    assert isinstance(from_row(added).event, Text)


def test_message_without_rows_has_no_stamp() -> None:
    assert unpack(message([], stamp(1.5))) == []


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_message_is_stamped_where_one_of_its_rows_has_a_multiple_of_eight(size: int) -> None:
    """So logs whose messages have eight rows each are neither always nor never stamped."""
    for first in range(1, 100, size):
        rows = [Row(7, seq, "text:0", "a") for seq in range(first, first + size)]
        is_stamped = take_stamp(unpack(message(rows, stamp(1.5)))) is not None
        assert is_stamped == any(row.seq % 8 == 0 for row in rows)


def test_unreadable_stamp_is_removed() -> None:
    received = [Row(7, 1, "text:0", "a"), Row(7, 1, STAMP, "soon")]
    assert take_stamp(received) is None
    assert [row.field for row in received] == ["text:0"]
