"""Sessions of the dashboard: their cookies, and the throttle of logins."""

import asyncio
from typing import Any

import pytest

from tailrace.errors import OriginRefused, RateLimited, Unauthenticated
from tailrace.settings import Settings
from tailrace_frontend import sessions as module
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.callers import Callers
from tailrace_frontend.sessions import FREE_FAILURES, HEADER, LoginThrottle, Sessions

SECRET = "0123456789abcdef"


def sessions_of(keys: str = "ops:key-of-ops-1;scopes=admin,ops:key-of-ops-2", secret: str = SECRET) -> Sessions:
    settings = Settings(api_keys=keys, ticket_secret=secret)
    return Sessions(settings, Callers(settings))


def key_of(sessions: Sessions, key: str = "key-of-ops-1") -> ApiKey:
    return sessions._callers.identify({"authorization": f"Bearer {key}"})


def value_of(cookie: str) -> str:
    return cookie.partition("=")[2].partition(";")[0]


def test_cookie_is_the_key_that_it_was_given_for() -> None:
    sessions = sessions_of()
    for name in ("key-of-ops-1", "key-of-ops-2"):
        key = key_of(sessions, name)
        cookie = sessions.cookie(key, is_secure=True)
        assert sessions.caller_of({HEADER: value_of(cookie)}) == key
        for part in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/v1/admin", "Max-Age=43200"):
            assert part in cookie
        assert name not in cookie


def test_session_ends_with_its_key_its_secret_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = sessions_of()
    value = value_of(sessions.cookie(key_of(sessions), is_secure=False))
    for other in (sessions_of("ops:another-key-1;scopes=admin"), sessions_of(secret="another-secret-123")):
        with pytest.raises(Unauthenticated):
            other.caller_of({HEADER: value})
    monkeypatch.setattr("time.time", lambda: 4e9)
    with pytest.raises(Unauthenticated):
        sessions.caller_of({HEADER: value})


@pytest.mark.parametrize("value", ["x", "ops", "ops~1", "ops~1~", "ops~99999999999~AAAA", "no~9~AAAA", "~~", "ops~٣~A"])
def test_forged_cookie_is_refused(value: str) -> None:
    with pytest.raises(Unauthenticated):
        sessions_of().caller_of({HEADER: value})


def test_longer_life_cannot_be_written_into_a_cookie() -> None:
    sessions = sessions_of()
    owner, _, signature = value_of(sessions.cookie(key_of(sessions), is_secure=False)).split("~")
    with pytest.raises(Unauthenticated):
        sessions.caller_of({HEADER: f"{owner}~99999999999~{signature}"})


def test_request_with_a_key_has_no_session() -> None:
    sessions = sessions_of()
    value = value_of(sessions.cookie(key_of(sessions), is_secure=False))
    assert sessions.caller_of({HEADER: value, "authorization": "Bearer x"}) is None
    assert sessions.caller_of({}) is None


@pytest.mark.parametrize(
    ("method", "headers", "passes"),
    [
        ("GET", {}, True),
        ("GET", {"sec-fetch-site": "cross-site"}, True),
        ("POST", {}, False),
        ("POST", {"sec-fetch-site": "same-origin"}, True),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("DELETE", {"sec-fetch-site": "cross-site"}, False),
        ("PUT", {"sec-fetch-site": "none"}, False),
        ("POST", {"authorization": "Bearer x"}, True),
    ],
)
def test_change_must_come_from_the_page_or_have_a_key(method: str, headers: dict[str, str], passes: bool) -> None:
    sessions = sessions_of()
    if passes:
        sessions.check_origin(method, headers)
    else:
        with pytest.raises(OriginRefused):
            sessions.check_origin(method, headers)


def test_open_mode_takes_programs_and_refuses_other_sites() -> None:
    settings = Settings()
    sessions = Sessions(settings, Callers(settings))
    sessions.check_origin("POST", {})
    with pytest.raises(OriginRefused):
        sessions.check_origin("POST", {"sec-fetch-site": "cross-site"})


async def test_guesses_are_slowed_and_a_valid_login_is_not_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY_S", 0.01)
    throttle = LoginThrottle()
    for _ in range(FREE_FAILURES):
        await throttle.admit("one")
        throttle.fail("one")
    outcomes: list[Any] = await asyncio.gather(*(throttle.admit("one") for _ in range(100)), return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, RateLimited)]
    assert len(refused) == 100 - module.MOST_WAITING
    await throttle.admit("one")
    await throttle.admit("two")
    assert not throttle._waiting
    assert not throttle._turns


def test_number_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ADDRESSES", 10)
    throttle = LoginThrottle()
    for n in range(100):
        throttle.fail(f"address {n}")
    assert len(throttle._forgiven_at) == 10
