"""Hash slots: the specification's own example, hash tags, keys of commands, and a tag for each slot."""

from binascii import crc_hqx

import pytest

from tailrace import keys, scripts
from tailrace.redis.hash_slots import SLOTS, key_of, slot_of, tags
from tailrace.scripts import Command


def test_slot_is_that_of_the_specification() -> None:
    assert slot_of("123456789") == 0x31C3  # Redis Cluster Specification, appendix A: the CRC-16 of this text


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("{user1000}.following", "user1000"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("foo{bar", "foo{bar"),
    ],
)
def test_hash_tag_is_the_first_that_is_not_empty(key: str, hashed: str) -> None:
    """The examples of the specification."""
    assert slot_of(key) == crc_hqx(hashed.encode(), 0) % SLOTS


def test_each_slot_has_a_tag_in_it() -> None:
    assert [slot_of(f"a{{{tag}}}b") for tag in tags()] == list(range(SLOTS))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGET", "a", "b"), "a"),
        (("XREAD", "COUNT", 1, "BLOCK", 5, "STREAMS", "a", "0-0"), "a"),
        (scripts.APPEND.on(keys.of_generation("gen"), 1, 2), keys.state("gen")),
        (scripts.with_text(scripts.APPEND.on(keys.of_generation("gen"), 1, 2)), keys.state("gen")),
        (("SPUBLISH", "channel", b"x"), "channel"),
    ],
)
def test_key_of_a_command_is_its_first(command: Command, key: str) -> None:
    assert key_of(command) == key


def test_keys_of_a_generation_are_in_one_slot() -> None:
    assert len({slot_of(key) for key in (*keys.of_generation("gen_a"), keys.shares("gen_a"))}) == 1
