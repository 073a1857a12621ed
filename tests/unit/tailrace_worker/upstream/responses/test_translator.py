"""ResponsesTranslator: what its events mean in every format is what the upstream's events mean."""

import json
import os
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from support.chat_streams import STREAMS as CHAT_STREAMS
from support.logs import REQUEST, LogBuilder, log_of, record
from support.logs import ended as ended_log
from support.random_responses import random_answers
from support.responses_fold import comparable, end_of, lacks, output_of
from support.responses_streams import ENCRYPTED, EXACT, STREAMS, USAGE, Json, event
from support.ui_message_reader import UiMessageReader
from support.wire_parsing import chunks_of, encoded, events_of
from tailrace.events import Done, Entry, Extra, Failure, Finish, GenerationRecord, ItemOpened, Text, Upstream
from tailrace.log.output import Output
from tailrace.wire import WIRE_FORMATS
from tailrace.wire.chat_completion_object import ChatCompletion
from tailrace.wire.openai_response_object import Context, ended
from tailrace_worker.upstream import fields as fields_module
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.errors import failure_from_json
from tailrace_worker.upstream.fields import MAX_ITEMS
from tailrace_worker.upstream.responses.payload import is_end
from tailrace_worker.upstream.responses.state import MAX_HELD
from tailrace_worker.upstream.responses.translator import ResponsesTranslator
from tailrace_worker.upstream.sse import Splitter

EXAMPLES = int(os.environ.get("TAILRACE_TEST_EXAMPLES", "300"))
"""Of each property. 100,000 take some 15 minutes: `TAILRACE_TEST_EXAMPLES=100000 pytest --timeout=0 …`."""

RECORD = record(logprobs=True)
RECORDS = {"plain": RECORD, "summary": record(logprobs=True, reasoning_summary=True, background=True)}
WHOLE = [name for name, events in STREAMS.items() if end_of(events) and name not in ("cancelled", "failed")]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def log(events: list[Json], record: GenerationRecord = RECORD, coalesce: int = 1) -> list[Entry]:
    return log_of(events, record, coalesce, ResponsesTranslator)


def read(*payloads: Json | bytes, **options: Any) -> tuple[ResponsesTranslator, list[Any]]:
    """The translator after these payloads, and its events."""
    translator = ResponsesTranslator(**options)
    translated = []
    for payload in payloads:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        translated += translator.read(data)
    return translator, [*translated, *translator.close()]


# ── Responses ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", EXACT)
def test_responses_client_gets_the_upstreams_events_one_by_one(name: str) -> None:
    begins = ("response.created", "response.queued", "response.in_progress")
    shown = [each for each in events_of(RECORD, log(EXACT[name])) if each["type"] not in begins]
    sent = [each for each in EXACT[name] if each["type"] not in begins]
    assert [each["type"] for each in shown] == [each["type"] for each in sent]
    assert list(map(comparable, shown[:-1])) == list(map(comparable, sent[:-1]))


@pytest.mark.parametrize("name", WHOLE)
def test_response_lacks_no_field_of_the_upstreams(name: str) -> None:
    sent, shown = end_of(STREAMS[name]), end_of(events_of(RECORD, log(STREAMS[name])))
    assert sent is not None
    assert shown is not None
    renamed = {"model", "created_at", "completed_at"}
    assert lacks(comparable(shown), comparable({k: each for k, each in sent.items() if k not in renamed})) == []
    assert shown["model"] == RECORD.model


@pytest.mark.parametrize("how", RECORDS)
@pytest.mark.parametrize("name", STREAMS)
def test_responses_events_add_up_to_their_output(name: str, how: str) -> None:
    events = events_of(RECORDS[how], log(STREAMS[name], RECORDS[how]))
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    end = end_of(events)
    assert end is not None
    if end["status"] != "failed":  # whose items are not closed
        assert output_of(events) == end["output"]


@pytest.mark.parametrize("how", RECORDS)
@pytest.mark.parametrize("name", [name for name in STREAMS if name != "unknown_events"])
def test_responses_events_are_those_of_openais_types(name: str, how: str) -> None:
    for each in events_of(RECORDS[how], log(STREAMS[name], RECORDS[how])):
        EVENT.validate_python(each)


@pytest.mark.parametrize("name", STREAMS)
def test_stored_end_shows_the_same_response(name: str) -> None:
    entries = log(STREAMS[name])
    done = entries[-1].event
    assert ended(Context.of(RECORD, REQUEST), done) == events_of(RECORD, entries)[-1]["response"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STREAMS)
def test_fold_equals_the_output_of_the_end(name: str) -> None:
    entries = log(STREAMS[name])
    folded = Output(entries[:-1], logprobs=RECORD.logprobs)
    output = {item.item: item for item in entries[-1].event.output}  # type: ignore[attr-defined]
    for item in folded.items():
        whole = output.pop(item.item)
        assert (item.text, item.arguments, item.annotations, item.logprobs, item.fields) == (
            whole.text, whole.arguments, whole.annotations, whole.logprobs, whole.fields,
        )  # fmt: skip
    assert not output


# ── the other formats ────────────────────────────────────────────────────────────────────────────────────────────────


def meaning(output: list[Json]) -> Json:
    """What other formats can show of an output of Responses."""
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    thoughts = [
        part["text"]
        for item in output
        if item["type"] == "reasoning"
        for part in (*item["summary"], *item.get("content", ()))
    ]
    calls = [item for item in output if item["type"] in ("function_call", "custom_tool_call")]
    return {
        "content": "".join(part.get("text", "") for part in parts),
        "refusal": "".join(part.get("refusal", "") for part in parts),
        "reasoning": thoughts,
        "calls": [(each["call_id"], each["name"], each.get("arguments", each.get("input"))) for each in calls],
    }


@pytest.mark.parametrize("name", WHOLE)
def test_chat_client_gets_what_the_upstream_means(name: str) -> None:
    end = end_of(STREAMS[name])
    assert end is not None
    expected = meaning(end["output"])
    completion = ChatCompletion(RECORD)
    for entry in log(STREAMS[name]):
        completion.add(entry)
    answer = completion.as_json()
    if not answer["choices"]:
        pytest.fail("there is no choice")
    message = answer["choices"][0]["message"]
    calls = [
        (each["id"], each[each["type"]]["name"], each[each["type"]].get("arguments", each[each["type"]].get("input")))
        for each in message.get("tool_calls", ())
    ]
    assert (message["content"] or "", message["refusal"] or "", calls) == (
        expected["content"], expected["refusal"], expected["calls"],
    )  # fmt: skip
    assert message.get("reasoning_content", "") == "\n\n".join(expected["reasoning"])


@pytest.mark.parametrize("name", WHOLE)
def test_ui_client_gets_what_the_upstream_means(name: str) -> None:
    end = end_of(STREAMS[name])
    assert end is not None
    expected = meaning(end["output"])
    wire = WIRE_FORMATS["ui-messages"]
    parts = UiMessageReader.of(encoded(wire, RECORD, log(STREAMS[name]))).parts
    texts = [part["text"] for part in parts if part["type"] == "text"]
    assert "".join(texts) == "".join(
        part.get("text", part.get("refusal", ""))
        for item in end["output"]
        if item["type"] == "message"
        for part in item["content"]
    )
    assert [part["text"] for part in parts if part["type"] == "reasoning"] == expected["reasoning"]
    assert [part["toolCallId"] for part in parts if "toolCallId" in part] == (
        [call_id for call_id, *_ in expected["calls"]] if end["status"] == "completed" else []
    )


@pytest.mark.parametrize("name", WHOLE)
def test_text_client_gets_the_texts(name: str) -> None:
    end = end_of(STREAMS[name])
    assert end is not None
    shown = encoded(WIRE_FORMATS["text"], RECORD, log(STREAMS[name])).decode()
    parts = [part for item in end["output"] if item["type"] == "message" for part in item["content"]]
    assert shown == "".join(part.get("text", part.get("refusal", "")) for part in parts)


def test_chat_client_gets_nothing_of_a_hosted_tool() -> None:
    deltas = [
        each["choices"][0]["delta"] for each in chunks_of(RECORD, log(STREAMS["hosted_tools"])) if each["choices"]
    ]
    assert deltas == [{"role": "assistant"}, {"content": "Done."}, {}]


# ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def as_bytes(events: list[Json], line_end: bytes = b"\n") -> bytes:
    lines = ((each.get("type", "error").encode(), json.dumps(each).encode()) for each in events)
    frames = [line_end.join([b"event: " + name, b"data: " + data, b"", b""]) for name, data in lines]
    return b"".join(frames)


def read_in_pieces(pieces: list[bytes]) -> tuple[list[Any], list[Any]]:
    """The events of an answer that is read in these pieces, coalesced, and its end."""
    splitter, translator = Splitter(1 << 20), ResponsesTranslator(logprobs=True)
    translated: list[Any] = []
    for piece in pieces:
        for payload in splitter.feed(piece):
            translated += translator.read(payload)
    for payload in splitter.close():
        translated += translator.read(payload)
    translated += translator.close()
    return translated, [translator.finish, translator.usage, translator.response, translator.failure]


def payloads_of(pieces: list[bytes]) -> list[bytes]:
    splitter = Splitter(1 << 20)
    return [payload for piece in pieces for payload in splitter.feed(piece)] + splitter.close()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", STREAMS)
def test_cut_at_every_byte_and_reads_of_every_size_change_nothing(name: str, line_end: bytes) -> None:
    """The translator reads payloads: where these are the same, so is what it makes of them."""
    data = as_bytes(STREAMS[name], line_end)
    whole = payloads_of([data])
    assert len(whole) == len(STREAMS[name])
    for cut in range(1, len(data)):
        assert payloads_of([data[:cut], data[cut:]]) == whole
    for size in range(1, 200):
        assert payloads_of([data[at : at + size] for at in range(0, len(data), size)]) == whole


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("name", STREAMS)
def test_events_are_the_same_however_they_are_read(name: str, size: int) -> None:
    data = as_bytes(STREAMS[name])
    assert read_in_pieces([data[at : at + size] for at in range(0, len(data), size)]) == read_in_pieces([data])


@pytest.mark.parametrize("name", STREAMS)
def test_plain_deltas_are_read_as_parsed_ones(name: str) -> None:
    """The struct of a plain delta is a short cut: the same events as JSON give the same."""
    translator = ResponsesTranslator(logprobs=True)
    slow = [each for one in STREAMS[name] for each in translator.translate(one)] + translator.close()
    assert read_in_pieces([as_bytes(STREAMS[name])])[0] == slow


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("text", "completed", "stop"),
        ("call", "completed", "tool_calls"),
        ("incomplete", "incomplete", "length"),
        ("filtered", "incomplete", "content_filter"),
    ],
)
def test_end_has_the_status_and_the_finish_reason(name: str, status: str, reason: str) -> None:
    translator, _ = read(*STREAMS[name])
    assert (translator.is_complete, translator.status) == (True, status)
    assert translator.finish == [Finish(0, reason)]


def test_usage_has_the_names_of_chat_completions() -> None:
    translator, _ = read(*STREAMS["text"])
    assert translator.usage == {
        "prompt_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "completion_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 19,
    }
    assert "usage" not in translator.response


def test_further_counts_of_the_usage_are_kept() -> None:
    translator, _ = read(*STREAMS["unknown_fields"])
    assert translator.response["usage"] == {"num_search_queries": 2, "input_tokens_details": {"audio_tokens": 5}}


def test_upstream_is_named() -> None:
    assert read(*STREAMS["text"])[0].upstream == Upstream("resp_68af00", "gpt-5-2025-08-07")


@pytest.mark.parametrize("name", ["failed", "error_alone", "error_object"])
def test_error_is_the_failure(name: str) -> None:
    translator, _ = read(*STREAMS[name])
    assert translator.failure == Failure("The server had an error.", "server_error", "server_error")


@pytest.mark.parametrize(
    "sent",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "param": None},
        event(
            "failed", response={"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Slow down."}}
        ),
    ],
)
def test_error_may_be_flat_or_of_the_response_alone(sent: Json) -> None:
    error = {"code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    assert read(sent)[0].failure == failure_from_json(error)


def test_cancelled_answer_is_a_failure() -> None:
    failure = read(*STREAMS["cancelled"])[0].failure
    assert failure is not None
    assert failure.message == "The upstream cancelled the answer."


@pytest.mark.parametrize("payloads", [STREAMS["truncated"], [*STREAMS["truncated"], b"[DONE]"]])
def test_answer_without_its_last_event_is_not_complete(payloads: list[Any]) -> None:
    translator, _ = read(*payloads)
    assert not translator.is_complete
    assert translator.finish == [Finish(0, None)]


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "whole_object"])
def test_stream_ends_with_the_last_event(name: str) -> None:
    ends = [is_end(json.dumps(each).encode()) for each in STREAMS[name] if each.get("type")]
    assert not any(ends[:-1])
    assert ends[-1] == (end_of(STREAMS[name]) is not None)
    assert is_end(b"[DONE]")


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_event_is_carried_by_the_next_entry() -> None:
    _, translated = read(*STREAMS["unknown_events"])
    assert [extra.unknown for _, extra in translated if extra.unknown] == [
        [{"type": "response.steering.changed", "note": "x", "sequence_number": 4}]
    ]


def test_unknown_event_after_the_last_entry_is_carried_by_the_end() -> None:
    translator, _ = read(event("moderated", flagged=False))
    assert translator.extra == Extra(unknown=[event("moderated", flagged=False)])


def test_unknown_field_of_a_delta_stays_on_it() -> None:
    sent = [*EXACT["text"][:4], {**EXACT["text"][4], "provider": {"a": 1}}, *EXACT["text"][5:]]
    (shown,) = [each for each in events_of(RECORD, log(sent)) if "provider" in each]
    assert comparable(shown) == comparable(sent[4])


def test_encrypted_reasoning_keeps_its_upstreams_id() -> None:
    events = events_of(RECORD, log(STREAMS["encrypted"]))
    ids = {each["item"]["id"] for each in events if each["type"].startswith("response.output_item")}
    assert ids == {"rs_abcdefghijklmnopqrstuvwxyz_0.rs_68af00", "msg_abcdefghijklmnopqrstuvwxyz_1"}
    end = end_of(events)
    assert end is not None
    assert end["output"][0]["encrypted_content"] == ENCRYPTED


def test_summary_is_shown_as_one_though_the_record_wants_none() -> None:
    types = {each["type"] for each in events_of(record(), log(STREAMS["summary"], record()))}
    assert "response.reasoning_summary_text.delta" in types
    assert "response.reasoning_text.delta" not in types


def test_models_own_reasoning_is_shown_as_the_record_wants() -> None:
    summary = record(reasoning_summary=True)
    types = {each["type"] for each in events_of(summary, log(STREAMS["vllm"], summary))}
    assert "response.reasoning_summary_text.delta" in types
    assert "response.reasoning_text.delta" not in types


def test_padding_leaves_no_trace() -> None:
    _, translated = read(*STREAMS["text"])
    assert all(not extra.frames for _, extra in translated)


def test_halves_of_a_surrogate_pair_are_joined() -> None:
    data = b'{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"%b"}'
    translator, translated = read(data % b"a\\ud83d", data % b"\\ude00b", data % b"\\ud83d")
    assert "".join(each.text for each, _ in translated if isinstance(each, Text)) == "a\U0001f600b\ufffd"
    assert translator.malformed == 0


# ── what upstreams get wrong ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STREAMS)
def test_sent_answers_have_nothing_malformed(name: str) -> None:
    assert read(*STREAMS[name])[0].malformed == 0


def test_delta_without_an_item_begins_one() -> None:
    _, translated = read(event("output_text.delta", delta="Hi"), event("reasoning_text.delta", delta="Hm"))
    assert [type(each).__name__ for each, _ in translated] == ["ItemOpened", "Text", "ItemOpened", "Reasoning"]


def test_arguments_of_no_call_are_malformed() -> None:
    translator, translated = read(event("function_call_arguments.delta", item_id="fc_1", output_index=0, delta="{}"))
    assert (translator.malformed, translated) == (1, [])


def test_text_after_its_item_is_malformed() -> None:
    late = event("output_text.delta", item_id="msg_68af00", output_index=0, content_index=0, delta="late")
    translator, _ = read(*EXACT["text"][:-1], late)
    assert translator.malformed == 1


def test_text_after_its_part_is_malformed() -> None:
    late = event("output_text.delta", item_id="msg_68af00", output_index=0, content_index=0, delta="late")
    second = next(i for i, each in enumerate(EXACT["two_parts"]) if each.get("content_index") == 1)
    translator, translated = read(*EXACT["two_parts"][: second + 1], late, late)
    assert translator.malformed == 2
    assert "".join(each.text for each, _ in translated if isinstance(each, Text)) == "First this."


def test_text_that_its_end_repeats_differently_stays_as_streamed() -> None:
    events = [
        {**each, "text": "Other."} if each["type"] == "response.output_text.done" else each for each in EXACT["text"]
    ]
    translator, translated = read(*events)
    assert "".join(each.text for each, _ in translated if isinstance(each, Text)) == "It rains in Bergen today."
    assert translator.malformed == 1


def test_restarted_answer_counts_on() -> None:
    _, translated = read(*EXACT["two_parts"], first_item=3, first_index=2)
    opened = [(each.item, each.place) for each, _ in translated if type(each).__name__ == "ItemOpened"]
    assert opened == [(3, (2, 0)), (4, (2, 1))]


@pytest.mark.parametrize("second", [ResponsesTranslator, ChatTranslator])
@pytest.mark.parametrize("name", ["two_parts", "encrypted_summary", "hosted_tools", "overtaken_message"])
def test_answer_that_starts_over_has_dense_indexes_and_closes_every_item(name: str, second: Any) -> None:
    """The second attempt may ask an upstream of the other API."""
    answer = STREAMS["two_messages"] if second is ResponsesTranslator else CHAT_STREAMS["openai_text_then_call"]
    for cut in range(3, len(STREAMS[name]) - 1):
        builder = LogBuilder(RECORD).start()
        first = ResponsesTranslator()
        for each in STREAMS[name][:cut]:
            builder.add(*first.translate(each))
        builder.add(*first.close()).restart()
        builder.close_pending()
        output = builder.output
        translator = second(first_item=output.next_item, first_index=output.next_index)
        for each in answer:
            builder.add(*translator.translate(each))
        builder.add(*translator.close())
        events = events_of(RECORD, ended_log(builder, translator))
        assert [each["sequence_number"] for each in events] == list(range(len(events)))
        added = [each for each in events if each["type"] == "response.output_item.added"]
        done = [each for each in events if each["type"] == "response.output_item.done"]
        assert [each["output_index"] for each in added] == list(range(len(added)))
        assert sorted(each["output_index"] for each in done) == list(range(len(added)))
        assert {each["item"]["id"] for each in done} == {each["item"]["id"] for each in added}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_malformed_values_never_raise_and_never_break_the_log(data: st.DataObject) -> None:
    """Any value of a real answer may be any other."""
    events = data.draw(st.sampled_from(list(STREAMS.values())))
    random = Random(data.draw(st.integers(0, 2**32)))
    broken = [_broken(each, random, data.draw(JSON)) if random.random() < 0.2 else each for each in events]
    kept = [each for each in broken if random.random() < 0.95]
    entries = log(kept)
    shown = events_of(RECORD, entries)
    assert [each["sequence_number"] for each in shown] == list(range(len(shown)))
    for name in ("native", "ui-messages", "openai-chat"):
        encoded(WIRE_FORMATS[name], RECORD, entries)


def _broken(value: Any, random: Random, other: Any) -> Any:
    """The value with one value in it replaced."""
    if not isinstance(value, (dict, list)) or not value:
        return other
    if isinstance(value, list):
        at = random.randrange(len(value))
        return [*value[:at], _broken(value[at], random, other), *value[at + 1 :]]
    name = random.choice(sorted(value))
    return {**value, name: _broken(value[name], random, other)}


@settings(max_examples=EXAMPLES, deadline=None)
@given(random_answers(), st.sampled_from([0, 1, 3]), st.sampled_from(sorted(RECORDS)))
def test_random_answers_mean_the_same(events: list[Json], coalesce: int, how: str) -> None:
    shown = events_of(RECORDS[how], log(events, RECORDS[how], coalesce))
    end, sent = end_of(shown), end_of(events)
    assert end is not None
    assert sent is not None
    assert output_of(shown) == end["output"]
    if how == "plain":
        assert lacks(comparable(end["output"]), comparable(sent["output"])) == []
    assert meaning(end["output"]) == meaning(sent["output"]) or how == "summary"


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.sampled_from([*'ab\n\r\u2028\x00:\\"{}', "\U0001f600", "data: ", "id: ", "event: x\n\n"])).map("".join)
)
def test_text_that_looks_like_a_stream_stays_text(text: str) -> None:
    place: Json = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    sent = [event("output_text.delta", **place, delta=text), event("output_text.done", **place, text=text)]
    data = as_bytes(sent)
    translated, _ = read_in_pieces([data[: len(data) // 2], data[len(data) // 2 :]])
    assert "".join(each.text for each, _ in translated if isinstance(each, Text)) == text


def test_surrogate_in_logprobs_is_replaced_in_the_item_as_well() -> None:
    place: Json = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    logprobs = [{"token": "\ud83d", "logprob": -0.1}]
    delta = event("output_text.delta", **place, delta="a", logprobs=logprobs)
    part = {"type": "output_text", "text": "b", "annotations": [], "logprobs": logprobs}
    item = {"id": "msg_2", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    done = log([delta, event("output_item.done", output_index=1, item=item)])[-1].event
    assert isinstance(done, Done)
    assert [each.logprobs for each in done.output] == [[{"token": "\ufffd", "logprob": -0.1}]] * 2


def test_usage_of_nothing_is_none() -> None:
    assert read(*STREAMS["nothing"])[0].usage is None
    assert USAGE["input_tokens"]


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def items_of(translated: list[Any]) -> list[Any]:
    return [each for each, _ in translated if isinstance(each, ItemOpened)]


def test_items_beyond_the_limit_count_as_malformed() -> None:
    output = [{"type": "function_call", "call_id": f"c{number}", "name": "f"} for number in range(MAX_ITEMS + 3)]
    response: Json = {"id": "resp_1", "status": "completed", "output": output}
    translator, translated = read(event("completed", response=response))
    assert (len(items_of(translated)), translator.malformed) == (MAX_ITEMS, 3)
    added = [
        event("output_item.added", item={"type": "web_search_call", "id": f"ws_{k}"}) for k in range(MAX_ITEMS + 3)
    ]
    translator, translated = read(*added)
    assert (len(items_of(translated)), translator.malformed) == (MAX_ITEMS, 3)


def test_parts_beyond_the_limit_count_as_malformed() -> None:
    parts = [{"type": "output_text", "text": "x", "annotations": []} for _ in range(MAX_ITEMS + 3)]
    message: Json = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": parts}
    translator, translated = read(event("output_item.done", output_index=0, item=message))
    assert (len(items_of(translated)), translator.malformed) == (MAX_ITEMS - 1, 4)  # the message is one as well
    place: Json = {"item_id": "msg_1", "output_index": 0}
    deltas = [event("output_text.delta", **place, content_index=k, delta="x") for k in range(MAX_ITEMS + 3)]
    translator, translated = read(*deltas)
    assert (len(items_of(translated)), translator.malformed) == (MAX_ITEMS - 1, 4)


def test_annotations_beyond_the_limit_are_left_out() -> None:
    notes = [{"type": "file_citation", "file_id": "f", "index": k} for k in range(MAX_ITEMS + 3)]
    part = {"type": "output_text", "text": "x", "annotations": notes}
    message: Json = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    _, translated = read(event("output_item.done", output_index=0, item=message))
    assert sum(bool(extra.citations) for _, extra in translated) == MAX_ITEMS


def test_items_that_wait_for_a_part_are_opened_when_they_are_too_many() -> None:
    added = [
        event("output_item.added", output_index=k, item={"type": "message", "id": f"msg_{k}", "content": []})
        for k in range(100)
    ]
    _, translated = read(*added)
    assert len(items_of(translated)) >= 100 - MAX_HELD


def test_fields_and_events_that_no_entry_carries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields_module, "MAX_HELD_BYTES", 10_000)
    states = [event("in_progress", response={"id": "resp_1", f"x{k}": "x" * 1000}) for k in range(20)]
    translator, _ = read(*states)
    assert (len(translator.response), translator.malformed) == (9, 11)
    repeated = [event("in_progress", response={"id": "resp_1", "x": "x" * 1000 + str(k)}) for k in range(20)]
    translator, _ = read(*repeated)
    assert (len(translator.response), translator.malformed) == (1, 0)
    unknown = [event("novelty", text="x" * 1000) for _ in range(20)]
    translator, _ = read(*unknown)
    assert (len(translator.extra.unknown), translator.malformed) == (9, 11)
    translator, _ = read(*unknown[:9], event("output_text.delta", delta="a"), *unknown[:9])
    assert (len(translator.extra.unknown), translator.malformed) == (9, 0)
