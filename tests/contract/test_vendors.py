"""The sum of what every format sends equals the sum of what the vendor sent.

The transcripts are bodies as 14 vendors send them. What the vendor sent is added up by `chunk_fold`, what each format
sends by `format_folds`; neither uses anything of Tailrace.
"""

from typing import Any

import msgspec
import pytest

from support.chat_chunks import Json
from support.chunk_fold import fold_chunks, is_empty
from support.for_each import for_each
from support.format_folds import (
    ResponseFold,
    as_response_items,
    as_response_usage,
    as_ui_parts,
    by_index,
    data_of,
    fold_events,
    fold_message,
    native_events,
    ndjson_events,
    ui_parts,
)
from support.logs import RECORDS
from support.sse import Parser
from support.transcripts import VENDOR_STREAMS
from support.ui_message_reader import UiMessageReader
from support.upstream_answers import MAX_EVENT, UpstreamAnswer, payloads_of
from tailrace.wire.chat_completion_object import ChatCompletion
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.sse import Splitter

VENDORS = {
    "openai", "azure", "groq", "deepseek", "mistral", "xai", "perplexity", "cerebras", "moonshot", "alibaba",
    "openrouter", "vllm", "llama.cpp", "ollama",
}  # fmt: skip
FINISHES = {"content_filter": "content-filter", "tool_calls": "tool-calls", "function_call": "tool-calls",
            "model_length": "length"}  # fmt: skip
STATUSES = {"length": "max_output_tokens", "model_length": "max_output_tokens", "content_filter": "content_filter"}


def answer_of(name: str, how: str) -> UpstreamAnswer:
    stream = VENDOR_STREAMS[name]
    return UpstreamAnswer(data_of(stream), [stream], how)


def _events(reads: list[bytes]) -> list[Translated]:
    splitter, translator = Splitter(MAX_EVENT), ChatTranslator(logprobs=True)
    translated = [each for read in reads for payload in splitter.feed(read) for each in translator.read(payload)]
    return translated + [each for payload in splitter.close() for each in translator.read(payload)] + translator.close()


each_answer = for_each(
    "answer",
    [f"{name}, {how}" for how in RECORDS for name in VENDOR_STREAMS],
    lambda answer: answer_of(*answer.split(", ")),
)


def test_every_vendor_has_text_calls_and_an_error() -> None:
    names = [name.split("-", 1) for name in VENDOR_STREAMS]
    for case in ("text", "calls", "error"):
        without = {"perplexity"} if case == "calls" else set()  # its models call no tools of the caller's
        assert {vendor for vendor, each in names if each.startswith(case)} == VENDORS - without
    assert {vendor for vendor, each in names if each.startswith("reasoning")} == VENDORS - {"openai", "azure"}


def test_nothing_of_a_vendor_is_malformed() -> None:
    for name, stream in VENDOR_STREAMS.items():
        translator = ChatTranslator()
        for payload in payloads_of([stream]):
            translator.read(payload)
        assert translator.malformed == 0, name


# cuts


@pytest.mark.parametrize("name", VENDOR_STREAMS)
def test_stream_is_read_the_same_for_every_cut_and_every_read_size(name: str) -> None:
    """A translator is given payloads, and nothing of the reads that they came in."""
    stream = VENDOR_STREAMS[name]
    whole = payloads_of([stream])
    assert whole == [event.data.encode() for event in Parser().feed(stream)]
    for cut in range(1, len(stream)):
        assert payloads_of([stream[:cut], stream[cut:]]) == whole
    for size in range(1, max(map(len, whole)) + 16):
        assert payloads_of(_in_reads(stream, size)) == whole


@pytest.mark.parametrize("name", VENDOR_STREAMS)
def test_stream_is_translated_the_same_for_every_read_size(name: str) -> None:
    stream = VENDOR_STREAMS[name]
    whole = _events([stream])
    for size in (1, 2, 3, 5, 7, 64, 333):
        assert _events(_in_reads(stream, size)) == whole


def _in_reads(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


# what each format sends


@each_answer
def test_native_equals_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    shown = answer.shown(fold_events(native_events(answer.frames("native"))))
    assert shown == answer.expected
    assert answer.shown(fold_events(ndjson_events(answer.frames("ndjson")))) == shown


@each_answer
def test_chat_equals_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    shown = answer.shown(fold_chunks(data_of(answer.frames("openai-chat"))))
    assert shown == answer.expected_of_chat


@each_answer
def test_chat_completion_equals_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    if answer.done.status == "failed":
        return
    completion = ChatCompletion(answer.record)
    for entry in answer.entries:
        completion.add(entry)
    shown = answer.shown(fold_message(completion.as_json()))
    assert _as_message(shown) == _as_message(answer.expected)


def _as_message(folded: Json) -> Json:
    """A message has one text, one reasoning, one refusal: their order is lost, as it is in OpenAI's API."""
    choices = {index: choice | {"delta": by_index(choice["delta"])} for index, choice in folded["choices"].items()}
    return folded | {"items": [], "choices": choices}


@each_answer
def test_generation_equals_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    output = [msgspec.to_builtins(item) for item in answer.done.output]
    shown = [
        {"choice": item.get("choice", 0), "type": "call", "id": item["id"], "name": item["name"],
         "arguments": item["arguments"], "call": item.get("call", {}), "is_custom": item.get("custom", False)}
        if item["type"] == "call"
        else {"choice": item.get("choice", 0), "type": item["type"], "text": item["text"]}
        for item in output
    ]  # fmt: skip
    kept = [item for item in shown if item.get("text") != ""]
    assert sorted(kept, key=lambda item: item["choice"]) == answer.sent["items"]


@pytest.mark.parametrize("wire", ["openai-responses", "openai-responses-obfuscated"])
@each_answer
def test_responses_equal_what_the_vendor_sent(answer: UpstreamAnswer, wire: str) -> None:
    shown, sent = ResponseFold(data_of(answer.frames(wire))), answer.sent
    assert shown.items == shown.output
    assert answer.items_of_responses(wire) == answer.in_any_order(as_response_items(sent["items"]))
    choices = sent["choices"].values()
    assert shown.annotations == [_flat(each) for choice in choices for each in choice["annotations"]]
    if answer.record.logprobs:
        logprobs = [each["token"] for choice in choices for each in choice["logprobs"].get("content", [])]
        assert sorted(each["token"] for each in shown.logprobs) == sorted(logprobs)
    if sent["usage"]:
        assert shown.response["usage"] == as_response_usage(sent["usage"])
    _assert_end(shown.response, answer)


def _flat(annotation: Json) -> Json:
    nested = annotation[annotation["type"]]
    return {"type": annotation["type"], **nested}


def _assert_end(response: Json, answer: UpstreamAnswer) -> None:
    reasons = [STATUSES.get(each["finish_reason"]) for each in answer.sent["choices"].values()]
    reason = next(filter(None, reasons), None)
    if answer.error:
        assert (response["status"], response["error"]["message"]) == ("failed", answer.error)
    elif reason:
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
    else:
        assert (response["status"], response["error"]) == ("completed", None)


@each_answer
def test_ui_messages_equal_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    shown = UiMessageReader.of(answer.frames("ui-messages"))
    assert ui_parts(shown.parts) == as_ui_parts(answer.sent["items"])
    assert shown.error == answer.error
    if not answer.error:
        reason = answer.sent["choices"][0]["finish_reason"]
        assert shown.finish_reason == FINISHES.get(reason, reason)
        urls = [each["url_citation"]["url"] for each in answer.sent["choices"][0]["annotations"]]
        assert [part["url"] for part in shown.parts if part["type"] == "source-url"] == urls


@each_answer
def test_text_equals_what_the_vendor_sent(answer: UpstreamAnswer) -> None:
    assert answer.frames("text").decode() == answer.text


@each_answer
def test_error_has_every_field_of_the_vendors(answer: UpstreamAnswer) -> None:
    error = answer.sent["error"]
    if not isinstance(error, dict):
        assert answer.done.error is None or answer.done.error.details is None
        return
    assert answer.done.error
    known = {"message", "code", "type", "param"}
    is_chunk = "request_id" in error or error.get("object") == "error"  # then they are fields of a chunk
    expected = {} if is_chunk else {key: each for key, each in error.items() if key not in known and not is_empty(each)}
    assert (answer.done.error.details or {}) == expected
    (shown,) = (each["error"] for each in data_of(answer.frames("openai-chat")) if "error" in each)
    assert shown.keys() - known == expected.keys()


# fields


PLACED_ELSEWHERE = {
    "id": "the generation's own; `done.upstream` has the vendor's",
    "model": "the one that was asked for; `done.upstream` has the vendor's",
    "created": "the generation's own",
    "object": "the format's own",
    "obfuscation": "padding",
    "choices[].message": "repeats the deltas",
    "choices[].usage": "in `usage`",
    "choices[].delta.content[]": "in `content`, `reasoning_content` and `content_parts`",
    "error": "xAI sends a message alone: in the error that ends the stream",
    "choices[].error": "in the error that ends the stream",
    "message": "of a chunk that is an error: in the error that ends the stream",
    "code": "of a chunk that is an error: in the error that ends the stream",
    "type": "of a chunk that is an error: in the error that ends the stream",
}
"""Fields of a vendor that a chat chunk of ours does not have at the same place, and why. There is no other."""


def test_no_field_of_a_vendor_is_dropped() -> None:
    unused, dropped, kept = set(PLACED_ELSEWHERE), [], set()
    for name in VENDOR_STREAMS:
        answer = answer_of(name, "asking")
        ours = {path for each in data_of(answer.frames("openai-chat")) for path in _paths(each)}
        theirs = {path for each in answer.chunks for path in _paths(each)}
        kept |= theirs & ours
        for path in sorted(theirs - ours):
            reasons = {place for place in PLACED_ELSEWHERE if _is_within(path, place)}
            unused -= reasons
            # vLLM sends the reasoning under both names.
            if not reasons and (name, path) != ("vllm-reasoning", "choices[].delta.reasoning"):
                dropped.append((name, path))
    assert dropped == []
    assert unused <= {"id", "model", "created", "object"}
    assert len(kept) > 150, "the transcripts have that many fields"


def _is_within(path: str, place: str) -> bool:
    return path == place or (place.startswith("choices[]") and path.startswith(f"{place}."))


def _paths(value: Any, path: str = "") -> set[str]:
    """The places in a JSON value that carry information."""
    if isinstance(value, dict):
        return {each for key, inner in value.items() for each in _paths(inner, f"{path}.{key}" if path else key)}
    if isinstance(value, list):
        return {each for inner in value for each in _paths(inner, f"{path}[]")}
    return set() if is_empty(value) else {path}
