import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidCursor
from tailrace.ids import START, EntryId, is_generation_id, new_generation_id, new_token

NUMBERS = st.integers(0, 10**15 - 1)


def test_a_generation_id_is_unguessable_and_known_by_its_form() -> None:
    ids = {new_generation_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_generation_id(each) for each in ids)
    assert {len(each) for each in ids} == {30}
    assert len({each[-1] for each in ids}) == 32, "the last character is as random as the others"


def test_tokens_differ() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "", "gen_", "gen_" + "a" * 25, "gen_" + "a" * 27, "gen_" + "A" * 26, "gen_" + "1" * 26, "resp_" + "a" * 26,
        "gen_" + "a" * 26 + "\n", " gen_" + "a" * 26, "gen_" + "a" * 25 + "\x00", "gen_" + "a" * 25 + "}",
        "gen_" + "а" * 26,  # Cyrillic
    ],
)  # fmt: skip
def test_what_is_not_a_generation_id(text: str) -> None:
    assert not is_generation_id(text)


@given(NUMBERS, NUMBERS)
def test_a_cursor_comes_back_as_it_was_told(epoch: int, n: int) -> None:
    assert EntryId.parse(str(EntryId(epoch, n))) == EntryId(epoch, n)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_later_attempt_stands_above_every_number_of_an_earlier_one(one: int, n: int, other: int, m: int) -> None:
    assert (EntryId(one, n) < EntryId(other, m)) == ((one, n) < (other, m))


def test_start_is_before_everything_and_no_cursor() -> None:
    assert EntryId(0, 0) > START
    with pytest.raises(InvalidCursor):
        EntryId.parse(str(START))


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "1", "1-", "-1", "--", "1--1", "1-1-1", "1_1", "1.0-1", "1e3-1", "0x1-1", "1_000-1",
        "+1-1", "1-+1", "-1-1", "1 -1", "1- 1", " 1-1", "1-1 ", "1-1\n", "1-1\r\n", "\n1-1",
        "1-1\x00", "\x001-1", "1\x00-1",
        "١-١", "1-١", "１-１", "1-²", "1\u20101", "1–1", "$", "0-*", "(1-1", "1-1)",
        "1" * 16 + "-1", "1-" + "1" * 16, "9" * 5000 + "-1", "1-1, 2-2",
    ],
)  # fmt: skip
def test_what_is_not_a_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor) as refused:
        EntryId.parse(text)
    assert refused.value.status == 400


@given(st.text(st.sampled_from("0123456789-+ _.\r\n\x00١１e"), max_size=40))
def test_a_cursor_is_two_plain_numbers_or_refused(text: str) -> None:
    record, dash, tail = text.partition("-")
    is_plain = bool(dash) and all(part.isascii() and part.isdigit() and len(part) <= 15 for part in (record, tail))
    try:
        parsed = EntryId.parse(text)
    except InvalidCursor:
        assert not is_plain
    else:
        assert is_plain
        assert parsed == (int(record), int(tail))
