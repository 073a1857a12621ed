import os
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from tailrace.errors import Misconfigured
from tailrace_frontend import api_keys as module
from tailrace_frontend.api_keys import ApiKey, ApiKeys, digest_of, parse

ANNA = ApiKey("anna", digest_of("anna-key-1"))
BEN = ApiKey("ben", digest_of("ben-key-22"))


@pytest.fixture(autouse=True)
def always_check_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the file for changes with every call."""
    monkeypatch.setattr(module, "RELOAD_S", -1.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1\n")
    return file


@pytest.fixture
def keys(file: Path) -> ApiKeys:
    return ApiKeys(f"@{file}")


def names(keys: ApiKeys) -> list[str]:
    return [key.owner for key in keys.current().values()]


# Syntax


def test_entry_is_a_name_a_key_and_maybe_an_expiry() -> None:
    found = parse(["anna:anna-key-1", "anna:anna:key=2", " ben:ben-key-22;expires=2027-01-31T00:00:00Z ", ""])
    assert [(key.owner, key.expires) for key in found.values()] == [("anna", inf), ("anna", inf), ("ben", 1801353600.0)]
    assert list(found) == [digest_of("anna-key-1"), digest_of("anna:key=2"), digest_of("ben-key-22")]


def test_key_file_holds_one_entry_per_line_or_comma(file: Path) -> None:
    file.write_text("anna:anna-key-1\n\n  ben:ben-key-22, eve:eve-key-333\n")
    assert names(ApiKeys(f"@{file}")) == ["anna", "ben", "eve"]


@pytest.mark.parametrize(
    "bad",
    [
        "ben", "ben:", ":ben-key-22", "ben:short", "b n:ben-key-22", "bén:ben-key-22", f"{'b' * 65}:ben-key-22",
        "b~n:ben-key-22", "ben:ben-key-22;", "ben:ben-key-22;expires=", "ben:ben-key-22;expires=2027-01-31",
        "ben:ben-key-22;expires=2027-01-31T00:00:00", "ben:ben-key-22;expires=tomorrow", "ben:anna-key-1",
        "anna:anna-key-1", "ben:ben;key-22",
    ],
)  # fmt: skip
def test_malformed_entry_is_reported_by_position_and_never_by_value(bad: str, file: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        ApiKeys(f"anna:anna-key-1, {bad}")
    assert "entry 2" in raised.value.message
    file.write_text(f"anna:anna-key-1,{bad}" if " " in bad else f"anna:anna-key-1\n{bad}")
    with pytest.raises(Misconfigured) as raised_for_file:
        ApiKeys(f"@{file}")
    for message in (raised.value.message, raised_for_file.value.message):
        assert "entry 2" in message
        assert not any(secret in message for secret in ("ben-key", "anna-key", "short", "bén", "tomorrow"))


def test_key_of_two_callers_is_refused() -> None:
    with pytest.raises(Misconfigured, match="entry 2 repeats the key of an earlier entry"):
        parse(["anna:the-same-key", "ben:the-same-key"])


# Validity


def test_expired_key_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ApiKeys("anna:anna-key-1;expires=2100-01-01T00:00:00Z,anna:anna-key-2")
    old, new = keys.current().values()
    assert keys.of("anna") == [old, new]
    monkeypatch.setattr(time, "time", lambda: 4102444800.0)
    assert not keys.is_valid(old)
    assert keys.is_valid(new)
    assert keys.of("anna") == [new]


def test_expiry_that_is_added_or_moved_concerns_keys_in_use(file: Path, keys: ApiKeys) -> None:
    (key,) = keys.current().values()
    file.write_text("anna:anna-key-1;expires=2001-01-01T00:00:00Z")
    assert keys.is_valid(key)  # the first check finds the change, the second one reads it
    assert not keys.is_valid(key)


def test_key_that_has_become_another_callers_is_not_valid(file: Path, keys: ApiKeys) -> None:
    (key,) = keys.current().values()
    file.write_text("ben:anna-key-1")
    keys.current()
    assert not keys.is_valid(key)


# The file


def test_key_file_is_read_again_after_a_change(file: Path, keys: ApiKeys) -> None:
    file.write_text("ben:ben-key-22\n")
    keys.current()
    assert keys.is_valid(BEN)
    assert not keys.is_valid(ANNA)


def test_key_file_is_checked_at_most_once_per_interval(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_S", 1.0)
    keys = ApiKeys(f"@{file}")
    file.write_text("ben:ben-key-22")
    assert [keys.is_valid(ANNA) for _ in range(3)] == [True] * 3


def test_key_file_that_was_changed_long_ago_is_read_at_the_first_check(
    file: Path, keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frontend that was not used meanwhile must not accept a withdrawn key once more."""
    file.write_text("ben:ben-key-22")
    monkeypatch.setattr(module, "SETTLED_S", -60.0)
    assert not keys.is_valid(ANNA)


def test_key_file_that_is_being_written_is_never_read_half(file: Path, keys: ApiKeys) -> None:
    """Written in place, entry by entry, with a check after each: each prefix is a valid file of its own."""
    entries = [f"caller{i}:key-number-{i}" for i in range(20)]
    with file.open("w") as writer:
        for entry in entries:
            writer.write(entry + "\n")
            writer.flush()
            assert names(keys) == ["anna"]
    assert names(keys) == [entry.partition(":")[0] for entry in entries]


def test_key_file_that_changes_while_it_is_read_is_read_later(
    file: Path, keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module._read

    def written_meanwhile(path: Path) -> module.Keys:
        found = read(path)
        path.write_text("ben:ben-key-22\neve:eve-key-333\n")
        return found

    file.write_text("ben:ben-key-22\n")
    keys.current()
    monkeypatch.setattr(module, "_read", written_meanwhile)
    assert names(keys) == ["anna"]
    monkeypatch.setattr(module, "_read", read)
    keys.current()
    assert names(keys) == ["ben", "eve"]


def test_key_file_that_is_replaced_with_the_same_size_and_time_is_read_again(file: Path, keys: ApiKeys) -> None:
    before = file.stat()
    new = file.with_suffix(".new")
    new.write_text("anna:anna-key-2\n")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(file)
    keys.current()
    assert not keys.is_valid(ANNA)


def test_emptied_key_file_leaves_no_key(file: Path, keys: ApiKeys) -> None:
    file.write_text("")
    keys.current()
    assert names(keys) == []


@pytest.mark.parametrize(
    "spoil", [lambda file: file.unlink(), lambda file: file.write_text("ben:ben-key-22\nanna: broken")]
)
def test_unusable_key_file_leaves_the_keys_unchanged(
    file: Path, keys: ApiKeys, spoil: Callable[[Path], object]
) -> None:
    spoil(file)
    for _ in range(3):
        assert names(keys) == ["anna"]


def test_unusable_key_file_is_logged_once_per_change_without_its_keys(
    file: Path, keys: ApiKeys, caplog: pytest.LogCaptureFixture
) -> None:
    logged = []
    for content in (b"anna: broken", b"anna:anna-key-\xff2", None, b"ben:ben-key-22", None):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        for _ in range(4):
            keys.current()
        logged.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert [len(messages) for messages in logged] == [1, 1, 1, 0, 1]
    assert "entry 1 is not `name:key`" in logged[0][0]
    assert f"cannot read {file}: it is not UTF-8" in logged[1][0]
    assert f"cannot read {file}: No such file or directory" in logged[2][0]
    assert all("the keys read before stay in use" in message for messages in logged for message in messages)
    assert not any(secret in str(logged) for secret in ("broken", "anna-key", "xff", "ben-key"))
    assert keys.is_valid(BEN)


def test_key_file_that_has_just_changed_is_logged_and_then_reported_as_read(
    file: Path, keys: ApiKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file.write_text("ben:ben-key-22")
    for _ in range(3):
        keys.current()
    assert [record.getMessage() for record in caplog.records] == [
        f"TAILRACE_API_KEYS: {file} has just changed; it is read once it stays unchanged",
        f"TAILRACE_API_KEYS: read {file}: 1 keys",
    ]


def test_missing_key_file_fails_the_start_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"cannot read {tmp_path}/keys"):
        ApiKeys(f"@{tmp_path}/keys")
