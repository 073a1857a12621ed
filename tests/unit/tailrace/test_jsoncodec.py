import json as standard
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import jsoncodec

LINE_BREAKS = "\u2028\u2029\u0085"
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from(LINE_BREAKS + "âÂ\u2027\u202a\u0084é\n")
)
surrogates = st.text(st.sampled_from("a\ud83d\ude00é😀\ufeff\ud800\udfff"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_encoded_value_is_one_line_and_decodes_to_itself(value: Any) -> None:
    data = jsoncodec.dumps(value)
    assert len(data.decode().splitlines()) <= 1
    assert jsoncodec.loads(data) == jsoncodec.loads_tolerant(data) == standard.loads(data) == value


def test_line_separators_alone_are_escaped() -> None:
    assert jsoncodec.dumps({"a": "\u2028\u2029\u0085"}) == b'{"a":"\\u2028\\u2029\\u0085"}'
    assert jsoncodec.dumps("é â \u2027 😀") == '"é â \u2027 😀"'.encode()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{'a': 1}", b"NaN", b"[1,]", b"\xff", b'"\xff"', b'"\\ud800"', b"[" * 100_000, b"1e999"]
)
def test_strict_decoder_raises_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        jsoncodec.loads(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a":Infinity,"b":-Infinity}', {"a": float("inf"), "b": float("-inf")}),
        (b'"a\xffb"', "a\ufffdb"),
        (b'[1,"\xc3\xa9"]', [1, "é"]),
    ],
)
def test_tolerant_decoder_accepts_upstream_defects(data: bytes, value: Any) -> None:
    assert jsoncodec.loads_tolerant(data) == value


def test_tolerant_decoder_accepts_nan() -> None:
    assert math.isnan(jsoncodec.loads_tolerant(b'{"logprob":NaN}')["logprob"])


@pytest.mark.parametrize(
    "data", [b"", b"{", b"data", b"[" * 100_000, b'["\xff' + b"[" * 100_000, b'{"\\ud800":' * 100_000]
)
def test_tolerant_decoder_raises_value_error_where_there_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        jsoncodec.loads_tolerant(data)


def test_lone_surrogate_is_not_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        jsoncodec.dumps("\ud83d")


@given(surrogates)
def test_replacement_makes_text_encodable_and_changes_nothing_else(text: str) -> None:
    replaced = jsoncodec.replace_lone_surrogates(text)
    jsoncodec.dumps(replaced)
    assert jsoncodec.replace_lone_surrogates(replaced) == replaced
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    assert replaced.replace("\ufffd", "") == whole


@given(texts)
def test_replacement_leaves_valid_text_unchanged(text: str) -> None:
    assert jsoncodec.replace_lone_surrogates(text) == text


def test_replacement_reaches_every_string() -> None:
    value = {"\ud83d": ["a\ude00", {"b": "\ud83d\ude00"}], "seq": 1, "none": None}
    assert jsoncodec.replace_lone_surrogates(value) == {"\ufffd": ["a\ufffd", {"b": "😀"}], "seq": 1, "none": None}


def canonical(body: bytes) -> bytes:
    return jsoncodec.canonical(jsoncodec.loads(body))


@pytest.mark.parametrize(
    ("value", "depth"),
    [(1, 0), ("[[", 0), ([], 1), ({}, 1), ([1, {}], 2), ({"a": [{"b": 1}], "c": 2}, 3), ([[[]], [1]], 3)],
)
def test_depth_is_the_number_of_nested_arrays_and_objects(value: Any, depth: int) -> None:
    assert [limit for limit in range(5) if jsoncodec.is_within_depth(value, limit)] == list(range(depth, 5))


def test_depth_of_any_value_is_found() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert not jsoncodec.is_within_depth(deep, 200)
    assert jsoncodec.is_within_depth(deep, 100_001)


def test_canonical_form_is_equal_for_equal_values() -> None:
    one = b'{"b": [1, 2], "a": {"d": "\\u00e9", "c": null}}'
    other = '{"a":{"c":null,\n"d":"é"},"b":[1,2]}'.encode()
    assert canonical(one) == canonical(other) == '{"a":{"c":null,"d":"é"},"b":[1,2]}'.encode()


@pytest.mark.parametrize("other", [b'{"a":[2,1]}', b'{"a":[1,2],"b":null}', b'{"a":["1",2]}', b'{"A":[1,2]}'])
def test_canonical_form_differs_for_different_values(other: bytes) -> None:
    assert canonical(other) != canonical(b'{"a":[1,2]}')
