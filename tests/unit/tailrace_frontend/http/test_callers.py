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
from tailrace_frontend.http import callers as module
from tailrace_frontend.http.callers import OPEN, Callers

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
def test_a_key_names_its_caller(key: str, name: str) -> None:
    assert callers().identify(bearer(key)) == name


def test_the_scheme_is_read_in_any_case_and_with_any_space() -> None:
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
def test_anything_but_a_known_bearer_key_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        callers().identify(headers)


@pytest.mark.parametrize("key", ["anna-key-1", "ben-key-22", "nobody-key"])
def test_whoever_calls_the_key_is_compared_with_every_known_one_in_constant_time(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counting(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return compare(known, given)

    of = callers()
    monkeypatch.setattr(hmac, "compare_digest", counting)
    with contextlib.suppress(Unauthenticated):
        of.identify(bearer(key))
    assert compared == [(32, 32), (32, 32)]  # digests: the length of a key tells nothing either


def test_keys_come_from_a_file_one_a_line_or_by_comma(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1\n\n  ben:ben-key-22, eve:eve-key-333\n")
    of = callers(f"@{file}")
    assert [of.identify(bearer(key)) for key in ("anna-key-1", "ben-key-22", "eve-key-333")] == ["anna", "ben", "eve"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at with every call."""
    monkeypatch.setattr(module, "RELOAD_S", -1.0)


def test_a_changed_file_is_read_again(tmp_path: Path, impatient: None) -> None:
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


def test_the_file_is_looked_at_only_once_in_a_while(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    file.write_text("ben:ben-key-22")
    assert of.identify(bearer("anna-key-1")) == "anna"


def test_an_emptied_file_refuses_everybody_and_does_not_open_the_server(tmp_path: Path, impatient: None) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    file.write_text("")
    with pytest.raises(Unauthenticated):
        of.identify(bearer("anna-key-1") | {"host": "localhost"})
    assert not of.are_open


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("anna: broken")])
def test_a_file_that_cannot_be_read_any_more_leaves_the_keys_as_they_were(
    tmp_path: Path, impatient: None, spoil: Callable[[Path], object]
) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    spoil(file)
    assert of.identify(bearer("anna-key-1")) == "anna"


def test_a_file_that_cannot_be_read_any_more_is_told_of_once_a_change_and_without_its_keys(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    told = []
    for content in (b"anna: broken", b"anna:anna-key-\xff2", None, b"ben:ben-key-22", None):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        for _ in range(3):
            of.may_read("anna")
        told.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert [len(messages) for messages in told] == [1, 1, 1, 0, 1]
    assert "entry 1 is not `name:key`" in told[0][0]
    assert f"cannot read {file}: it is not UTF-8" in told[1][0]
    assert f"cannot read {file}: No such file or directory" in told[2][0]
    assert all("the keys stay as they were" in message for messages in told for message in messages)
    assert not any(secret in str(told) for secret in ("broken", "anna-key", "xff", "ben-key"))
    assert of.may_read("ben")


def test_a_file_that_is_not_there_at_the_start_is_named(tmp_path: Path) -> None:
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
def test_a_bad_entry_is_named_by_its_position_and_never_by_its_value(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as told:
        callers(f"anna:anna-key-1, {bad}")
    assert "entry 2" in told.value.message
    file = tmp_path / "keys"
    file.write_text(f"anna:anna-key-1,{bad}" if " " in bad else f"anna:anna-key-1\n{bad}")
    with pytest.raises(Misconfigured) as told_of_file:
        callers(f"@{file}")
    for message in (told.value.message, told_of_file.value.message):
        assert "entry 2" in message
        assert not any(secret in message for secret in ("ben-key", "anna-key", "short", "bén"))


def test_a_ticket_reads_its_log_in_the_name_of_its_owner() -> None:
    of = callers()
    assert of.redeem(ticket_of(of), GENERATION) == "anna"
    assert of.redeem(ticket_of(of, owner="ben"), GENERATION) == "ben"


def test_a_ticket_is_good_on_every_node_with_the_same_secret_and_on_no_other() -> None:
    ticket = ticket_of(callers())
    assert callers().redeem(ticket, GENERATION) == "anna"
    with pytest.raises(Unauthenticated):
        callers(ticket_secret="fedcba9876543210").redeem(ticket, GENERATION)


def test_a_ticket_says_nothing_of_the_secret_nor_of_a_key() -> None:
    ticket = ticket_of(callers())
    assert SECRET not in ticket
    assert "anna-key-1" not in ticket
    assert all(part.isalnum() or part in "~-_" for part in ticket)  # needs no escaping in a URL


def test_a_ticket_for_another_log_is_refused() -> None:
    of = callers()
    with pytest.raises(Unauthenticated):
        of.redeem(ticket_of(of, generation_id=OTHER), GENERATION)


def test_a_ticket_cannot_be_made_into_another_owners() -> None:
    of = callers()
    _, expires, signature = ticket_of(of).split("~")
    with pytest.raises(Unauthenticated):
        of.redeem(f"ben~{expires}~{signature}", GENERATION)


def test_a_ticket_cannot_be_made_to_live_longer() -> None:
    of = callers()
    owner, expires, signature = ticket_of(of, expires=soon() - 120).split("~")
    for later in (str(soon()), "9" * 15, "9" * 400):
        with pytest.raises(Unauthenticated):
            of.redeem(f"{owner}~{later}~{signature}", GENERATION)
    with pytest.raises(Unauthenticated, match="expired"):
        of.redeem(f"{owner}~{expires}~{signature}", GENERATION)


def test_a_ticket_ends_with_its_owners_key(tmp_path: Path, impatient: None) -> None:
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
def test_whatever_else_a_ticket_is_it_is_refused_and_nothing_breaks(ticket: str) -> None:
    with pytest.raises(Unauthenticated):
        callers().redeem(ticket, GENERATION)


def test_in_open_mode_everybody_is_the_same_caller_and_needs_no_ticket() -> None:
    of = callers("", "")
    assert of.are_open
    assert of.identify({"host": "localhost:8080"}) == OPEN
    assert of.may_read(OPEN)
    assert of.ticket(GENERATION, OPEN, soon()) is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
def test_open_mode_answers_to_the_loopback_names(host: str) -> None:
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
def test_open_mode_answers_to_no_other_name(host: str) -> None:
    with pytest.raises(HostRefused):
        callers("", "").identify({"host": host})
    with pytest.raises(HostRefused):
        callers("", "").identify({})


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://localhost:8080", ""])
def test_open_mode_answers_its_own_pages(origin: str) -> None:
    assert callers("", "").identify({"host": "localhost:8080", "origin": origin}) == OPEN


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org", "null", "http://localhost", "http://localhost:8081", "http://127.0.0.1:8080",
        "localhost:8080",
        "http://localhost:8080.example.org", "file://", "http://[", "http://]localhost:8080", "\x00",
    ],
)  # fmt: skip
def test_open_mode_answers_no_other_sites_pages(origin: str) -> None:
    with pytest.raises(OriginRefused):
        callers("", "").identify({"host": "localhost:8080", "origin": origin})


def test_open_mode_answers_pages_of_the_origins_it_was_told() -> None:
    of = callers("", "", cors_origins="https://app.example.org/, https://b.example.org")
    for origin in ("https://app.example.org", "https://b.example.org"):
        assert of.identify({"host": "localhost", "origin": origin}) == OPEN
    with pytest.raises(OriginRefused):
        of.identify({"host": "localhost", "origin": "https://c.example.org"})


def test_with_keys_neither_host_nor_origin_matters() -> None:
    assert callers().identify(bearer("anna-key-1") | {"host": "example.org", "origin": "http://other.org"}) == "anna"


def test_header_names_are_read_in_any_case() -> None:
    assert callers().identify(Headers({"AUTHORIZATION": "Bearer anna-key-1"})) == "anna"


def test_what_a_refusal_says_holds_no_key() -> None:
    with pytest.raises(TailraceError) as told:
        callers().identify(bearer("anna-key-2"))
    assert "anna-key" not in str(told.value.as_json())
    assert told.value.headers() == {"WWW-Authenticate": "Bearer"}
