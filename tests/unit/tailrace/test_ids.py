import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidCursor
from tailrace.ids import (
    START,
    EntryId,
    generation_id_from,
    id_as,
    is_generation_id,
    new_generation_id,
    new_request_id,
    new_token,
)

NUMBERS = st.integers(0, 10**15 - 1)


def test_generation_id_is_random_and_recognised_by_its_form() -> None:
    ids = {new_generation_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_generation_id(each) for each in ids)
    assert {len(each) for each in ids} == {30}
    assert len({each[-1] for each in ids}) == 32, "the last character is as random as the others"


def test_tokens_are_unique() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000
    assert len({new_request_id() for _ in range(1000)}) == 1000
    assert new_request_id().startswith("req_")


@pytest.mark.parametrize("prefix", ["gen_", "chatcmpl-", "resp_"])
def test_id_has_a_form_for_each_api(prefix: str) -> None:
    generation_id = new_generation_id()
    shown = id_as(prefix, generation_id)
    assert shown == prefix + generation_id[4:]
    assert generation_id_from(prefix, shown) == generation_id


@pytest.mark.parametrize(
    "text",
    [
        "", "chatcmpl-", "gen_" + "a" * 26, "resp_" + "a" * 26, "a" * 26, "chatcmpl-" + "a" * 25,
        "chatcmpl-" + "A" * 26, "chatcmpl-gen_" + "a" * 26, "chatcmpl-" + "a" * 26 + "/", "Chatcmpl-" + "a" * 26,
    ],
)  # fmt: skip
def test_id_of_another_form_names_no_generation(text: str) -> None:
    assert generation_id_from("chatcmpl-", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "gen_", "gen_" + "a" * 25, "gen_" + "a" * 27, "gen_" + "A" * 26, "gen_" + "1" * 26, "resp_" + "a" * 26,
        "gen_" + "a" * 26 + "\n", " gen_" + "a" * 26, "gen_" + "a" * 25 + "\x00", "gen_" + "a" * 25 + "}",
        "gen_" + "а" * 26,  # Cyrillic
    ],
)  # fmt: skip
def test_malformed_generation_id_is_not_recognised(text: str) -> None:
    assert not is_generation_id(text)


@given(NUMBERS, NUMBERS)
def test_cursor_survives_a_round_trip(epoch: int, seq: int) -> None:
    assert EntryId.parse(str(EntryId(epoch, seq))) == EntryId(epoch, seq)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_entry_ids_are_ordered_by_epoch_and_then_by_sequence_number(
    epoch: int, seq: int, other_epoch: int, other_seq: int
) -> None:
    assert (EntryId(epoch, seq) < EntryId(other_epoch, other_seq)) == ((epoch, seq) < (other_epoch, other_seq))


def test_start_precedes_every_entry_and_is_not_a_valid_cursor() -> None:
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
def test_malformed_cursor_is_rejected(text: str) -> None:
    with pytest.raises(InvalidCursor) as raised:
        EntryId.parse(text)
    assert raised.value.status == 400


@given(st.text(st.sampled_from("0123456789-+ _.\r\n\x00١１e"), max_size=40))
def test_cursor_is_two_ascii_numbers_or_rejected(text: str) -> None:
    epoch, dash, seq = text.partition("-")
    is_plain = bool(dash) and all(part.isascii() and part.isdigit() and len(part) <= 15 for part in (epoch, seq))
    try:
        parsed = EntryId.parse(text)
    except InvalidCursor:
        assert not is_plain
    else:
        assert is_plain
        assert parsed == EntryId(int(epoch), int(seq))
