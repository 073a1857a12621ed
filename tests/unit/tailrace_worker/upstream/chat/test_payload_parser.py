"""Templates change nothing: payload by payload the same pieces as chunk by chunk."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.upstreams import STREAMS, Json, chunk, end, random_streams, role, said
from tailrace.events import NO_EXTRA, Text
from tailrace_worker.upstream.chat import payload_parser as module
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated


def written(each: Json) -> bytes:
    return json.dumps(each, separators=(",", ":")).encode()


def by_payload(payloads: list[bytes]) -> tuple[list[list[Translated]], ChatTranslator]:
    translator = ChatTranslator()
    return [*[translator.read(payload) for payload in payloads], translator.close()], translator


def by_chunk(chunks: list[Json]) -> tuple[list[list[Translated]], ChatTranslator]:
    translator = ChatTranslator()
    return [*[translator.translate(each) for each in chunks], translator.close()], translator


def same(payloads: list[bytes], chunks: list[Json]) -> bool:
    (told, one), (wanted, other) = by_payload(payloads), by_chunk(chunks)
    return told == wanted and (one.finish, one.usage, one.upstream) == (other.finish, other.usage, other.upstream)


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """The chunks that were parsed and translated, because no template fitted."""
    chunks: list[Json] = []
    translate = ChatTranslator.translate

    def counted(translator: ChatTranslator, each: Json) -> list[Translated]:
        chunks.append(each)
        return translate(translator, each)

    monkeypatch.setattr(ChatTranslator, "translate", counted)
    return chunks


@pytest.mark.parametrize("name", STREAMS)
def test_every_known_stream_says_the_same(name: str) -> None:
    assert same(list(map(written, STREAMS[name])), STREAMS[name])


@given(random_streams(), st.integers(0, 2**32))
def test_any_stream_says_the_same_and_so_it_does_where_its_chunks_come_again_with_other_texts(
    chunks: list[Json], seed: int
) -> None:
    random = Random(seed)
    again = [retold for each in chunks for retold in (each, *_retold(each, random))]
    assert same(list(map(written, again)), again)


def _retold(each: Json, random: Random) -> list[Json]:
    """The chunk some times more, with another content where it has one."""
    times = []
    for _ in range(random.choice([0, 1, 3])):
        other = json.loads(json.dumps(each))
        for told in other.get("choices") or []:
            if isinstance(told, dict) and isinstance(delta := told.get("delta"), dict) and "content" in delta:
                delta["content"] = random.choice(
                    ['"', "\\", "é\u2028", "\ud83d", "\ude00", "", " plain", '","content":"x']
                )
        times.append(other)
    return times


def test_of_plain_text_the_first_two_chunks_are_translated_and_then_those_that_differ(translated: list[Json]) -> None:
    chunks = [role(), *[said(f" word {n}") for n in range(50)], end()]
    by_payload(list(map(written, chunks)))
    assert translated == [chunks[0], chunks[1], chunks[2], chunks[-1]]


@pytest.mark.parametrize("padding", ["", "a", "xY3kxY3kxY3k"])
def test_padding_makes_no_chunk_another(translated: list[Json], padding: str) -> None:
    chunks = [said(f" {n}", usage=None, obfuscation=padding + n * "x") for n in range(20)]
    told, _ = by_payload(list(map(written, chunks)))
    assert len(translated) == 2
    assert "".join(piece.event.text for each in told for piece in each if isinstance(piece.event, Text)) == "".join(
        f" {n}" for n in range(20)
    )


def test_a_text_that_looks_like_the_rest_of_its_chunk_is_text(translated: list[Json]) -> None:
    odd = '"},"finish_reason":"stop"}],"obfuscation":"x"}'
    chunks = [said("a"), said("b"), said(odd), said(f'{{"content":"{odd}')]
    assert same(list(map(written, chunks)), chunks)


def test_a_payload_that_only_looks_like_json_between_its_ends_is_garbage() -> None:
    before, behind = written(said("|")).split(b"|")
    told, _ = by_payload(
        [*map(written, [said("a"), said("b")]), before + b'x","y":"' + behind, before + b"\xff" + behind]
    )
    assert [len(each) for each in told[2:4]] == [1, 1]  # the first has another key; the second is mended
    answer = ChatTranslator()
    for payload in [written(said("a")), written(said("b")), before + b'x" y"' + behind, b"null", b"[]"]:
        answer.read(payload)
    assert answer.malformed == 3


def test_an_answer_told_whole_again_and_again_is_told_once(translated: list[Json]) -> None:
    whole = chunk({"index": 0, "message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"})
    chunks = 4 * [whole]
    assert same(list(map(written, chunks)), chunks)


def test_a_text_beside_another_content_is_no_template(translated: list[Json]) -> None:
    chunks = [said(f"{n}", extension={"content": f"{n}"}) for n in range(5)]
    assert same(list(map(written, chunks)), chunks)


def test_a_templates_piece_is_what_a_translated_one_is() -> None:
    translator = ChatTranslator()
    for text in "ab":
        translator.read(written(said(text)))
    assert translator._parser._prefix
    (piece,) = translator.read(written(said("c\u2028\ud83d\ude00")))
    event, extra = piece
    assert event == Text(0, "c\u2028😀")
    assert extra is NO_EXTRA


def test_the_pattern_of_a_content_is_not_met_inside_a_string() -> None:
    told: Any = written({"a": '"content":"x"', "b": '{"content": "y"}'})
    assert module.CONTENT.search(told) is None
