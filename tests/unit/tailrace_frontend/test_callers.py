import contextlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from tailrace.errors import HostRefused, Misconfigured, OriginRefused, TailraceError, Unauthenticated
from tailrace.settings import Settings
from tailrace_frontend import callers as module
from tailrace_frontend.callers import OPEN, Callers

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
OTHER = "gen_bcdefghijklmnopqrstuvwxyza"
KEYS = "anna:anna-key-1,ben:ben-key-22"
SECRET = "0123456789abcdef"


def callers(keys: str = KEYS, ticket_secret: str = SECRET, **settings: Any) -> Callers:
    return Callers(Settings(api_keys=SecretStr(keys), ticket_secret=SecretStr(ticket_secret), **settings))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def soon() -> int:
    return int(time.time()) + 60


def ticket_of(of: Callers, *, owner: str = "anna", generation_id: str = GENERATION, expires: int | None = None) -> str:
    ticket = of.ticket(generation_id, owner, soon() if expires is None else expires)
    assert ticket is not None
    return ticket


@pytest.mark.parametrize(("key", "name"), [("anna-key-1", "anna"), ("ben-key-22", "ben")])
def test_api_key_identifies_its_caller(key: str, name: str) -> None:
    assert callers().identify(bearer(key)) == name


def test_bearer_scheme_is_parsed_in_any_case_and_spacing() -> None:
    assert callers().identify({"authorization": "bEARER   anna-key-1 "}) == "anna"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "anna-key-1"},
        {"authorization": "Basic anna-key-1"},
        {"authorization": "Bearer anna-key-"},
        {"authorization": "Bearer anna-key-11"},
        {"authorization": "Bearer ANNA-KEY-1"},
        {"authorization": "Bearer anna"},
        {"authorization": "Bearer anna:anna-key-1"},
        {"authorization": "Bearer anna-key-1,ben-key-22"},
        {"authorization": "Bearer ÿ\x00\x7f€"},
        {"authorization": "Bearer \ud800"},
    ],
    ids=repr,
)
def test_authorization_without_a_known_bearer_key_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        callers().identify(headers)


@pytest.mark.parametrize("key", ["anna-key-1", "ben-key-22", "unknown-key"])
def test_api_key_is_compared_with_every_known_key_in_constant_time(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counting(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return compare(known, given)

    of = callers()
    monkeypatch.setattr(hmac, "compare_digest", counting)
    with contextlib.suppress(Unauthenticated):
        of.identify(bearer(key))
    assert compared == [(32, 32), (32, 32)]  # digests, so that the length of a key does not matter either


def test_key_file_holds_one_entry_per_line_or_comma(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1\n\n  ben:ben-key-22, eve:eve-key-333\n")
    of = callers(f"@{file}")
    assert [of.identify(bearer(key)) for key in ("anna-key-1", "ben-key-22", "eve-key-333")] == ["anna", "ben", "eve"]


@pytest.fixture
def always_check_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the file for changes with every call."""
    monkeypatch.setattr(module, "RELOAD_S", -1.0)


def test_key_file_is_read_again_after_a_change(tmp_path: Path, always_check_file: None) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    assert of.identify(bearer("anna-key-1")) == "anna"
    file.write_text("ben:ben-key-22")
    assert of.identify(bearer("ben-key-22")) == "ben"
    with pytest.raises(Unauthenticated):
        of.identify(bearer("anna-key-1"))
    assert not of.may_read("anna")
    assert of.may_read("ben")


def test_key_file_is_checked_at_most_once_per_interval(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    file.write_text("ben:ben-key-22")
    assert of.identify(bearer("anna-key-1")) == "anna"


def test_emptied_key_file_refuses_every_key_and_does_not_start_open_mode(
    tmp_path: Path, always_check_file: None
) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    file.write_text("")
    with pytest.raises(Unauthenticated):
        of.identify(bearer("anna-key-1") | {"host": "localhost"})
    assert not of.are_open


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("anna: broken")])
def test_unreadable_key_file_leaves_the_keys_unchanged(
    tmp_path: Path, always_check_file: None, spoil: Callable[[Path], object]
) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    spoil(file)
    assert of.identify(bearer("anna-key-1")) == "anna"


def test_unreadable_key_file_is_logged_once_per_change_without_its_keys(
    tmp_path: Path, always_check_file: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    logged = []
    for content in (b"anna: broken", b"anna:anna-key-\xff2", None, b"ben:ben-key-22", None):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        for _ in range(3):
            of.may_read("anna")
        logged.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert [len(messages) for messages in logged] == [1, 1, 1, 0, 1]
    assert "entry 1 is not `name:key`" in logged[0][0]
    assert f"cannot read {file}: it is not UTF-8" in logged[1][0]
    assert f"cannot read {file}: No such file or directory" in logged[2][0]
    assert all("the keys read before stay in use" in message for messages in logged for message in messages)
    assert not any(secret in str(logged) for secret in ("broken", "anna-key", "xff", "ben-key"))
    assert of.may_read("ben")


def test_missing_key_file_fails_the_start_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"cannot read {tmp_path}/keys"):
        callers(f"@{tmp_path}/keys")


@pytest.mark.parametrize(
    "bad",
    [
        "ben",
        "ben:",
        ":ben-key-22",
        "ben:short",
        "b n:ben-key-22",
        "bén:ben-key-22",
        f"{'b' * 65}:ben-key-22",
        "b~n:ben-key-22",
    ],
)
def test_malformed_entry_is_reported_by_position_and_never_by_value(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        callers(f"anna:anna-key-1, {bad}")
    assert "entry 2" in raised.value.message
    file = tmp_path / "keys"
    file.write_text(f"anna:anna-key-1,{bad}" if " " in bad else f"anna:anna-key-1\n{bad}")
    with pytest.raises(Misconfigured) as raised_for_file:
        callers(f"@{file}")
    for message in (raised.value.message, raised_for_file.value.message):
        assert "entry 2" in message
        assert not any(secret in message for secret in ("ben-key", "anna-key", "short", "bén"))


def test_ticket_is_redeemed_for_its_owner() -> None:
    of = callers()
    assert of.redeem(ticket_of(of), GENERATION) == "anna"
    assert of.redeem(ticket_of(of, owner="ben"), GENERATION) == "ben"


def test_ticket_is_valid_on_every_frontend_with_the_same_secret_only() -> None:
    ticket = ticket_of(callers())
    assert callers().redeem(ticket, GENERATION) == "anna"
    with pytest.raises(Unauthenticated):
        callers(ticket_secret="fedcba9876543210").redeem(ticket, GENERATION)


def test_ticket_contains_neither_secret_nor_key() -> None:
    ticket = ticket_of(callers())
    assert SECRET not in ticket
    assert "anna-key-1" not in ticket
    assert all(part.isalnum() or part in "~-_" for part in ticket)  # needs no escaping in a URL


def test_ticket_for_another_log_is_refused() -> None:
    of = callers()
    with pytest.raises(Unauthenticated):
        of.redeem(ticket_of(of, generation_id=OTHER), GENERATION)


def test_ticket_with_another_owner_is_refused() -> None:
    of = callers()
    _, expires, signature = ticket_of(of).split("~")
    with pytest.raises(Unauthenticated):
        of.redeem(f"ben~{expires}~{signature}", GENERATION)


def test_ticket_with_a_later_expiry_is_refused() -> None:
    of = callers()
    owner, expires, signature = ticket_of(of, expires=soon() - 120).split("~")
    for later in (str(soon()), "9" * 15, "9" * 400):
        with pytest.raises(Unauthenticated):
            of.redeem(f"{owner}~{later}~{signature}", GENERATION)
    with pytest.raises(Unauthenticated, match="expired"):
        of.redeem(f"{owner}~{expires}~{signature}", GENERATION)


def test_ticket_is_refused_after_its_owners_key_is_removed(tmp_path: Path, always_check_file: None) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1,ben:ben-key-22")
    of = callers(f"@{file}")
    ticket = ticket_of(of)
    assert of.redeem(ticket, GENERATION) == "anna"
    file.write_text("ben:ben-key-22")
    with pytest.raises(Unauthenticated):
        of.redeem(ticket, GENERATION)


@pytest.mark.parametrize(
    "ticket",
    [
        "", "~", "~~", "~~~", "anna", "anna~", "anna~1", "anna~1~", "anna~~x", "anna~-1~x", "anna~1.5~x",
        "anna~x~x", "anna~²~x", "anna~٣~x", "anna~1~\x00", "anna\n~1~x", "ann\ud800a~1~\udfff", "anna~1~é",
        "💧~1~💧", "%61nna~1~x", "~" * 10_000,
    ],
    ids=ascii,
)  # fmt: skip
def test_malformed_ticket_is_refused(ticket: str) -> None:
    with pytest.raises(Unauthenticated):
        callers().redeem(ticket, GENERATION)


def test_open_mode_has_one_caller_and_no_tickets() -> None:
    of = callers("", "")
    assert of.are_open
    assert of.identify({"host": "localhost:8080"}) == OPEN
    assert of.may_read(OPEN)
    assert of.ticket(GENERATION, OPEN, soon()) is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
def test_open_mode_accepts_loopback_hosts(host: str) -> None:
    assert callers("", "").identify({"host": host}) == OPEN


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.org",
        "localhost.example.org",
        "127.0.0.1.example.org:80",
        "0.0.0.0",
        "127.0.0.2",
        "[::1",
        "]",
        "[::]",
        ":80",
    ],
)
def test_open_mode_refuses_other_hosts(host: str) -> None:
    with pytest.raises(HostRefused):
        callers("", "").identify({"host": host})
    with pytest.raises(HostRefused):
        callers("", "").identify({})


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://localhost:8080", ""])
def test_open_mode_accepts_its_own_origin(origin: str) -> None:
    assert callers("", "").identify({"host": "localhost:8080", "origin": origin}) == OPEN


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org", "null", "http://localhost", "http://localhost:8081", "http://127.0.0.1:8080",
        "localhost:8080",
        "http://localhost:8080.example.org", "file://", "http://[", "http://]localhost:8080", "\x00",
    ],
)  # fmt: skip
def test_open_mode_refuses_other_origins(origin: str) -> None:
    with pytest.raises(OriginRefused):
        callers("", "").identify({"host": "localhost:8080", "origin": origin})


def test_open_mode_accepts_configured_origins() -> None:
    of = callers("", "", cors_origins="https://app.example.org/, https://b.example.org")
    for origin in ("https://app.example.org", "https://b.example.org"):
        assert of.identify({"host": "localhost", "origin": origin}) == OPEN
    with pytest.raises(OriginRefused):
        of.identify({"host": "localhost", "origin": "https://c.example.org"})


def test_host_and_origin_are_ignored_with_keys() -> None:
    assert callers().identify(bearer("anna-key-1") | {"host": "example.org", "origin": "http://other.org"}) == "anna"


def test_header_names_are_case_insensitive() -> None:
    assert callers().identify(Headers({"AUTHORIZATION": "Bearer anna-key-1"})) == "anna"


def test_refusal_contains_no_key() -> None:
    with pytest.raises(TailraceError) as raised:
        callers().identify(bearer("anna-key-2"))
    assert "anna-key" not in str(raised.value.as_json())
    assert raised.value.headers() == {"WWW-Authenticate": "Bearer"}
