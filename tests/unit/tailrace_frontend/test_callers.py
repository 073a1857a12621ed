import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from tailrace.access import AccessState, Block, KeyRecord
from tailrace.errors import CallerBlocked, HostRefused, OriginRefused, TailraceError, Unauthenticated
from tailrace.settings import Settings
from tailrace_frontend import api_keys
from tailrace_frontend.api_keys import ApiKey, digest_of
from tailrace_frontend.callers import OPEN, OPEN_KEY, Callers, grant_of
from tailrace_frontend.run_time_keys import RunTimeKeys
from tailrace_frontend.tickets import expiry_of

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


def key_of(of: Callers, key: str = "anna-key-1") -> ApiKey:
    return of.identify(bearer(key))


def settled(of: Callers, file: Path, text: str) -> None:
    """Replace the file's content. The first check finds that it has changed, the second one reads it."""
    file.write_text(text)
    of.may_read(ApiKey("nobody", b"no key"))


@pytest.fixture
def always_check_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the file for changes with every call."""
    monkeypatch.setattr(api_keys, "RELOAD_S", -1.0)


def ticket_of(
    of: Callers, *, key: ApiKey | None = None, generation_id: str = GENERATION, expires: int | None = None
) -> str:
    ticket = of.ticket(generation_id, key or key_of(of), soon() if expires is None else expires)
    assert ticket is not None
    return ticket


@pytest.mark.parametrize(("key", "name"), [("anna-key-1", "anna"), ("ben-key-22", "ben")])
def test_api_key_identifies_its_caller(key: str, name: str) -> None:
    assert callers().identify(bearer(key)).owner == name


def test_bearer_scheme_is_parsed_in_any_case_and_spacing() -> None:
    assert callers().identify({"authorization": "bEARER   anna-key-1 "}).owner == "anna"


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


def test_api_key_is_known_by_its_digest_alone() -> None:
    """The time of a look-up depends on the digest, which reveals nothing of the key."""
    of = callers()
    assert {len(key.digest) for key in of.configured} == {32}
    assert "key-1" not in repr(of.configured)


def test_ticket_is_redeemed_for_its_owner() -> None:
    of = callers()
    assert of.redeem(ticket_of(of), GENERATION).owner == "anna"
    assert of.redeem(ticket_of(of, key=key_of(of, "ben-key-22")), GENERATION).owner == "ben"


def test_ticket_is_valid_on_every_frontend_with_the_same_secret_only() -> None:
    ticket = ticket_of(callers())
    assert callers().redeem(ticket, GENERATION).owner == "anna"
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


@pytest.mark.parametrize("remaining", ["ben:ben-key-22", "anna:anna-key-9,ben:ben-key-22"])
def test_ticket_ends_with_the_key_that_it_was_issued_for(
    remaining: str, tmp_path: Path, always_check_file: None
) -> None:
    """Also where the caller has another key by then: a leaked key is rotated to end what was done with it."""
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1,anna:anna-key-2,ben:ben-key-22")
    of = callers(f"@{file}")
    old, kept = key_of(of), key_of(of, "anna-key-2")
    ticket, other = ticket_of(of, key=old), ticket_of(of, key=kept)
    assert of.redeem(ticket, GENERATION).digest == old.digest
    assert of.redeem(other, GENERATION).digest == kept.digest
    settled(of, file, remaining)
    assert not of.may_read(old)
    for withdrawn in (ticket, other):
        with pytest.raises(Unauthenticated):
            of.redeem(withdrawn, GENERATION)


def test_rotated_key_leaves_the_other_keys_of_its_caller_valid(tmp_path: Path, always_check_file: None) -> None:
    file = tmp_path / "keys"
    file.write_text("anna:anna-key-1")
    of = callers(f"@{file}")
    settled(of, file, "anna:anna-key-1\nanna:anna-key-2\n")
    new = key_of(of, "anna-key-2")
    ticket = ticket_of(of, key=new)
    assert of.identify(bearer("anna-key-1")).owner == new.owner == "anna"
    settled(of, file, "anna:anna-key-2\n")
    assert of.redeem(ticket, GENERATION).digest == new.digest
    assert of.may_read(new)
    with pytest.raises(Unauthenticated):
        of.identify(bearer("anna-key-1"))


def test_expired_key_and_its_tickets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    of = callers("anna:anna-key-1;expires=2100-01-01T00:00:00Z,ben:ben-key-22;expires=2001-01-01T00:00:00+02:00")
    key = key_of(of)
    ticket = ticket_of(of, key=key, expires=2**33)
    with pytest.raises(Unauthenticated):
        of.identify(bearer("ben-key-22"))
    monkeypatch.setattr(time, "time", lambda: 4102444800.0)
    assert not of.may_read(key)
    with pytest.raises(Unauthenticated):
        of.identify(bearer("anna-key-1"))
    with pytest.raises(Unauthenticated, match="withdrawn"):
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
    assert of.identify({"host": "localhost:8080"}).owner == OPEN
    assert of.may_read(OPEN_KEY)
    assert of.ticket(GENERATION, OPEN_KEY, soon()) is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
def test_open_mode_accepts_loopback_hosts(host: str) -> None:
    assert callers("", "").identify({"host": host}).owner == OPEN


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
    assert callers("", "").identify({"host": "localhost:8080", "origin": origin}).owner == OPEN


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
        assert of.identify({"host": "localhost", "origin": origin}).owner == OPEN
    with pytest.raises(OriginRefused):
        of.identify({"host": "localhost", "origin": "https://c.example.org"})


def test_host_and_origin_are_ignored_with_keys() -> None:
    assert (
        callers().identify(bearer("anna-key-1") | {"host": "example.org", "origin": "http://other.org"}).owner == "anna"
    )


def test_header_names_are_case_insensitive() -> None:
    assert callers().identify(Headers({"AUTHORIZATION": "Bearer anna-key-1"})).owner == "anna"


def test_refusal_contains_no_key() -> None:
    with pytest.raises(TailraceError) as raised:
        callers().identify(bearer("anna-key-2"))
    assert "anna-key" not in str(raised.value.as_json())
    assert raised.value.headers() == {"WWW-Authenticate": "Bearer"}


def run_time(secret: str = "secret-of-zoe", owner: str = "zoe", **fields: Any) -> AccessState:
    record = KeyRecord("key_1", owner, digest_of(secret).hex(), "", ["read"], 1, "ops")
    return AccessState(1, {"key_1": record}, fields.get("blocked", {}), fields.get("revoked", {}))


def test_key_of_run_time_is_one_of_its_callers() -> None:
    of = callers()
    of.apply(RunTimeKeys(run_time()))
    key = key_of(of, "secret-of-zoe")
    assert (key.owner, key.id, sorted(key.scopes)) == ("zoe", "key_1", ["read"])
    ticket = ticket_of(of, key=key)
    assert of.redeem(ticket, GENERATION).owner == "zoe"
    of.apply(RunTimeKeys())
    assert not of.may_read(key)
    with pytest.raises(Unauthenticated):
        of.redeem(ticket, GENERATION)
    assert key_of(of).owner == "anna"


def test_blocked_caller_is_refused_with_all_that_it_shows() -> None:
    of = callers()
    key, ticket = key_of(of), ticket_of(of)
    of.apply(RunTimeKeys(run_time(blocked={"anna": Block(1, "ops")})))
    assert not of.may_read(key)
    with pytest.raises(CallerBlocked):
        key_of(of)
    with pytest.raises(CallerBlocked):
        of.redeem(ticket, GENERATION)
    with pytest.raises(Unauthenticated):  # whether a caller is blocked is no one else's business
        of.redeem(ticket[:-1], GENERATION)
    assert of.may_read(key_of(of, "ben-key-22"))


def test_revoked_ticket_is_replaced_by_another_one() -> None:
    of = callers()
    expires = soon()
    ticket = ticket_of(of, expires=expires)
    read = of.redeem(ticket, GENERATION)
    of.apply(RunTimeKeys(run_time(revoked={grant_of(ticket): 1.0})))
    assert not of.may_read(read)
    assert of.may_read(key_of(of))
    with pytest.raises(Unauthenticated):
        of.redeem(ticket, GENERATION)
    another = ticket_of(of, expires=expires)
    assert another != ticket
    assert of.redeem(another, GENERATION).owner == "anna"
    assert expiry_of(another) == expires + 1
