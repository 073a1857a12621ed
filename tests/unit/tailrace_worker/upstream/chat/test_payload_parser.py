"""PayloadParser: with templates, payloads give the same events as chunks without them."""

import json
import tracemalloc
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chat_chunks import Json, choice, chunk, end, role, text_chunk
from support.chat_streams import STREAMS
from support.random_streams import random_streams
from tailrace.events import NO_EXTRA, Text
from tailrace_worker.upstream.chat import payload_parser as module
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated


def encoded(each: Json) -> bytes:
    return json.dumps(each, separators=(",", ":")).encode()


def by_payload(payloads: list[bytes]) -> tuple[list[list[Translated]], ChatTranslator]:
    translator = ChatTranslator()
    return [*[translator.read(payload) for payload in payloads], translator.close()], translator


def by_chunk(chunks: list[Json]) -> tuple[list[list[Translated]], ChatTranslator]:
    translator = ChatTranslator()
    return [*[translator.translate(each) for each in chunks], translator.close()], translator


def are_equal(payloads: list[bytes], chunks: list[Json]) -> bool:
    (translated, one), (expected, other) = by_payload(payloads), by_chunk(chunks)
    ends = [(each.finish, each.usage, each.upstream) for each in (one, other)]
    return translated == expected and ends[0] == ends[1]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """The chunks that were parsed, because no template matched."""
    chunks: list[Json] = []
    translate = ChatTranslator.translate

    def counted(translator: ChatTranslator, each: Json) -> list[Translated]:
        chunks.append(each)
        return translate(translator, each)

    monkeypatch.setattr(ChatTranslator, "translate", counted)
    return chunks


@pytest.mark.parametrize("name", STREAMS)
def test_payloads_of_named_streams_give_the_same_events(name: str) -> None:
    assert are_equal(list(map(encoded, STREAMS[name])), STREAMS[name])


CONTENTS = ['"', "\\", "é\u2028", "\ud83d", "\ude00", "", " plain", '","content":"x']


@given(random_streams(), st.integers(0, 2**32))
def test_payloads_of_any_stream_give_the_same_events_with_chunks_repeated(chunks: list[Json], seed: int) -> None:
    random = Random(seed)
    repeated = [copy for each in chunks for copy in (each, *_repeated(each, random))]
    assert are_equal(list(map(encoded, repeated)), repeated)


def _repeated(each: Json, random: Random) -> list[Json]:
    """Copies of the chunk, each with another content where it has one."""
    copies = []
    for _ in range(random.choice([0, 1, 3])):
        other = json.loads(json.dumps(each))
        for each_choice in other.get("choices") or []:
            delta = each_choice.get("delta") if isinstance(each_choice, dict) else None
            if isinstance(delta, dict) and "content" in delta:
                delta["content"] = random.choice(CONTENTS)
        copies.append(other)
    return copies


def test_templates_spare_the_parse_from_the_third_chunk_of_a_text_on(parsed: list[Json]) -> None:
    chunks = [role(), *[text_chunk(f" word {n}") for n in range(50)], end()]
    by_payload(list(map(encoded, chunks)))
    assert parsed == [chunks[0], chunks[1], chunks[2], chunks[-1]]


@pytest.mark.parametrize("padding", ["", "a", "xY3kxY3kxY3k"])
def test_padding_does_not_change_the_template(parsed: list[Json], padding: str) -> None:
    chunks = [text_chunk(f" {n}", usage=None, obfuscation=padding + n * "x") for n in range(20)]
    translated, _ = by_payload(list(map(encoded, chunks)))
    assert len(parsed) == 2
    assert "".join(event.text for events in translated for event, _ in events if isinstance(event, Text)) == "".join(
        f" {n}" for n in range(20)
    )


def test_text_that_looks_like_the_rest_of_its_chunk_is_text(parsed: list[Json]) -> None:
    tricky = '"},"finish_reason":"stop"}],"obfuscation":"x"}'
    chunks = [text_chunk("a"), text_chunk("b"), text_chunk(tricky), text_chunk(f'{{"content":"{tricky}')]
    assert are_equal(list(map(encoded, chunks)), chunks)


def test_payload_that_matches_the_template_with_invalid_json_is_malformed() -> None:
    prefix, suffix = encoded(text_chunk("|")).split(b"|")
    translated, _ = by_payload(
        [*map(encoded, [text_chunk("a"), text_chunk("b")]), prefix + b'x","y":"' + suffix, prefix + b"\xff" + suffix]
    )
    # The first has another key beside the text; in the second, U+FFFD replaces the invalid byte.
    assert [len(each) for each in translated[2:4]] == [1, 1]
    translator = ChatTranslator()
    for payload in [encoded(text_chunk("a")), encoded(text_chunk("b")), prefix + b'x" y"' + suffix, b"null", b"[]"]:
        translator.read(payload)
    assert translator.malformed == 3


def test_message_that_is_repeated_is_no_template(parsed: list[Json]) -> None:
    whole = chunk({"index": 0, "message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"})
    chunks = 4 * [whole]
    assert are_equal(list(map(encoded, chunks)), chunks)


def test_text_beside_another_content_is_no_template(parsed: list[Json]) -> None:
    chunks = [text_chunk(f"{n}", extension={"content": f"{n}"}) for n in range(5)]
    assert are_equal(list(map(encoded, chunks)), chunks)


def test_list_of_parts_beside_another_content_is_no_template(parsed: list[Json]) -> None:
    parts = [{"type": "text", "text": "a"}]
    chunks = [chunk(choice({"content": parts}), extension={"content": text}) for text in ("a", "a", "b")]
    assert are_equal(list(map(encoded, chunks)), chunks)


def test_event_from_a_template_equals_a_translated_one() -> None:
    translator = ChatTranslator()
    for text in "ab":
        translator.read(encoded(text_chunk(text)))
    assert translator._parser._prefix
    (translated,) = translator.read(encoded(text_chunk("c\u2028\ud83d\ude00")))
    event, extra = translated
    assert event == Text(0, "c\u2028😀")
    assert extra is NO_EXTRA


def test_content_pattern_does_not_match_inside_a_string() -> None:
    payload: Any = encoded({"a": '"content":"x"', "b": '{"content": "y"}'})
    assert module.CONTENT.search(payload) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [(rb'"content":"%d","content":"last"', ["last"] * 4), (rb'"cont\u0065nt":"%d"', ["0", "1", "2", "3"])],
)
def test_payload_whose_content_is_not_found_for_certain_is_no_template(
    parsed: list[Json], content: bytes, expected: list[str]
) -> None:
    """JSON allows a key twice, the last one counts; and it allows escapes."""
    prefix, suffix = encoded(text_chunk("|")).split(b'"content":"|"')
    translated, _ = by_payload([prefix + content % n + suffix for n in range(4)])
    assert [event.text for events in translated for event, _ in events if isinstance(event, Text)] == expected
    assert len(parsed) == 4


@pytest.mark.parametrize("text", ["a" * 1_000_000, 'a"\n\\' * 250_000])
def test_large_delta_is_searched_without_memory_for_each_character(text: str) -> None:
    payload = encoded(text_chunk(text))
    tracemalloc.start()
    try:
        found = module.CONTENT.search(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert json.loads(found.group(1)) == text
    assert peak < 100_000
