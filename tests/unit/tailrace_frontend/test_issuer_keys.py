"""Fetching the keys of an issuer, which answers, changes, or is down."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from support.issuer import AUDIENCE, Issuer, public_key, running_issuer
from tailrace.errors import Unauthenticated, Unavailable
from tailrace.settings import Settings
from tailrace_frontend import issuer_keys
from tailrace_frontend.issuer_keys import MAX_BYTES, IssuerKeys
from tailrace_frontend.tokens import Tokens, UnknownSigner


class Known:
    """What a frontend knows of an issuer."""

    def __init__(self, issuer: Issuer, **settings: Any) -> None:
        given = Settings(jwt_issuer=issuer.url, jwt_audience=AUDIENCE, **settings)
        self.tokens = Tokens(given)
        self.keys = IssuerKeys(given, self.tokens)


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as issuer:
        yield issuer


async def test_keys_are_those_that_the_configuration_names(issuer: Issuer) -> None:
    known = Known(issuer)
    assert await known.keys.look_again() is True
    assert known.tokens.identify(issuer.token()).owner == "zoe"


async def test_keys_are_read_from_the_url_of_the_settings(issuer: Issuer) -> None:
    issuer.configuration = {"jwks_uri": "https://nowhere.invalid/"}
    known = Known(issuer, jwt_jwks_url=f"{issuer.url}/keys")
    await known.keys.look_again()
    assert known.tokens.are_known


async def test_keys_stay_in_use_while_the_issuer_is_down(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(issuer_keys, "INTERVAL_S", -1.0)
    known = Known(issuer)
    await known.keys.look_again()
    issuer.is_down = True
    for _ in range(5):
        assert await known.keys.look_again() is False
        assert known.tokens.identify(issuer.token()).owner == "zoe"
    assert len(caplog.messages) == 1
    issuer.is_down = False
    caplog.set_level(logging.INFO)
    assert await known.keys.look_again() is True
    assert "are read again" in caplog.messages[-1]


@pytest.mark.parametrize(
    "bad",
    [
        {"keys": []}, {"keys": {}}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": ["x", None, {}]},
        {"answer": web.Response(text="no JSON")}, {"answer": web.Response(text="[]")},
        {"answer": web.Response(status=302, headers={"Location": "/other"})},
        {"answer": web.Response(body=b" " * (MAX_BYTES + 1) + b"{}")},
        {"configuration": {"issuer": "https://another.example.org"}},
        {"configuration": {"jwks_uri": "http://keys.example.org/"}}, {"configuration": {"jwks_uri": 7}},
        {"configuration": {"jwks_uri": "file:///etc/passwd"}},
    ],
)  # fmt: skip
async def test_bad_answer_changes_nothing(issuer: Issuer, monkeypatch: pytest.MonkeyPatch, bad: Any) -> None:
    monkeypatch.setattr(issuer_keys, "INTERVAL_S", -1.0)
    known = Known(issuer)
    await known.keys.look_again()
    for name, value in bad.items():
        setattr(issuer, name, value)
    assert await known.keys.look_again() is False
    assert known.tokens.identify(issuer.token()).owner == "zoe"


async def test_unknown_signers_cause_one_fetch_in_an_interval(issuer: Issuer) -> None:
    issuer.keys = [public_key("ec")]
    known = Known(issuer)
    await asyncio.gather(*(known.keys.look_again() for _ in range(50)))
    for _ in range(50):
        assert await known.keys.look_again() is False
    assert issuer.fetches == 1
    with pytest.raises(UnknownSigner):
        known.tokens.identify(issuer.token(kid="rsa"))


async def test_new_key_is_found_once_the_interval_has_passed(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.keys = [public_key("ec")]
    known = Known(issuer)
    await known.keys.look_again()
    issuer.keys = [public_key("rsa")]
    monkeypatch.setattr(issuer_keys, "INTERVAL_S", -1.0)
    assert await known.keys.look_again() is True
    assert known.tokens.identify(issuer.token(kid="rsa")).owner == "zoe"
    with pytest.raises(Unauthenticated):
        known.tokens.identify(issuer.token(kid="ec"))


async def test_tokens_are_not_refused_before_the_first_read(issuer: Issuer) -> None:
    """It is not known yet who signs: 503."""
    issuer.is_down = True
    with pytest.raises(Unavailable):
        await Known(issuer).keys.look_again()
