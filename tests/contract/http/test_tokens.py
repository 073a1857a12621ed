"""Callers that are identified by the tokens of an issuer."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, Response, body, eventually
from support.issuer import AUDIENCE, Issuer, running_issuer
from support.product import Product
from support.sse import streamed_text

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Guarded(NamedTuple):
    """A frontend that accepts tokens of the issuer, and one key."""

    product: Product
    issuer: Issuer
    url: str

    def api(self, token: str = "") -> Api:
        return Api(self.product.http, self.url, token or None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(product: Product) -> AsyncIterator[Guarded]:
    async with running_issuer() as issuer:
        settings = {
            "jwt_issuer": issuer.url, "jwt_audience": AUDIENCE, "api_keys": "ops:key-of-operator;scopes=admin",
            "ticket_secret": "0123456789abcdef", "keepalive_s": "1",
        }  # fmt: skip
        async with product.frontend(**settings) as frontend:
            yield Guarded(product, issuer, frontend.url)


async def test_token_is_a_key_of_its_owner(guarded: Guarded) -> None:
    zoe, lea = guarded.api(guarded.issuer.token("zoe")), guarded.api(guarded.issuer.token("lea", kid="ed"))
    generation_id = await zoe.create()
    assert (await zoe.get(generation_id)).status == 200
    assert (await guarded.api(guarded.issuer.token("zoe", kid="ec")).get(generation_id)).status == 200
    assert (await lea.get(generation_id)).refusal == (404, "not_found")
    assert "x-ratelimit-limit-requests" in (await zoe.list()).headers


async def test_wrong_token_is_no_key(guarded: Guarded) -> None:
    for token in (guarded.issuer.token(aud="others"), guarded.issuer.token(exp=1), "a.b.c", "x.y.z"):
        response = await guarded.api(token).post(body())
        assert response.refusal == (401, "invalid_api_key")


async def test_token_logs_a_browser_in_until_its_caller_is_blocked(guarded: Guarded) -> None:
    stranger, same_origin = guarded.api(), {"sec-fetch-site": "same-origin"}

    async def log_in(token: str) -> Response:
        return await stranger.request("POST", "/v1/admin/session", json={"key": token}, headers=same_origin)

    async def me(cookie: str) -> Response:
        return await stranger.request("GET", "/v1/admin/me", headers={"cookie": cookie})

    token = guarded.issuer.token("uma", scope="tailrace:admin:view")
    answer = await log_in(token)
    assert answer.value == {"caller": "uma", "scopes": ["admin:view"]}
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert token.rpartition(".")[2] not in cookie
    assert (await me(cookie)).value == answer.value
    other = (await log_in(guarded.issuer.token("uma", scope="tailrace:admin"))).headers["set-cookie"].partition(";")[0]
    stronger = f"{cookie.rpartition('~')[0]}~{other.rpartition('~')[2]}"
    for forged in (stronger, cookie.replace("uma", "ops"), cookie + "A", cookie.rpartition("~")[0]):
        assert (await me(forged)).status == 401
    assert (await log_in(guarded.issuer.token("uma", scope="tailrace:read"))).refusal == (403, "insufficient_scope")
    ops = guarded.api("key-of-operator")
    await ops.request("PUT", "/v1/admin/blocks/uma")
    assert (await me(cookie)).status in (401, 403)
    await ops.request("DELETE", "/v1/admin/blocks/uma")
    assert (await me(cookie)).status == 200


async def test_scopes_of_a_token_are_checked(guarded: Guarded) -> None:
    reader = guarded.api(guarded.issuer.token(scope="tailrace:read"))
    assert (await reader.list()).status == 200
    assert (await reader.post(body())).refusal == (403, "insufficient_scope")
    viewer = guarded.api(guarded.issuer.token("vic", scope="tailrace:admin:view"))
    assert (await viewer.request("GET", "/v1/admin/me")).value == {"caller": "vic", "scopes": ["admin:view"]}


async def test_ticket_of_a_token_ends_with_it(guarded: Guarded) -> None:
    zoe = guarded.api(guarded.issuer.token("zoe"))
    generation_id = await guarded.product.completed("Hello", api=zoe)
    url = (await zoe.get(generation_id)).value["events_url"]
    path = url.partition("/events")[2]
    assert int(url.split("~")[1]) <= time.time() + 700
    assert streamed_text((await guarded.api().read(generation_id, query=path)).events) == "Hello"
    other = await guarded.product.completed("Secret", api=zoe)
    assert (await guarded.api().events(other, path)).refusal == (401, "invalid_api_key")


async def test_stream_ends_when_its_token_expires(guarded: Guarded) -> None:
    """Tokens are accepted for 30 s more, because clocks differ."""
    zoe = guarded.api(guarded.issuer.token("zoe", exp=int(time.time()) - 27))
    generation_id = await zoe.create()
    stream = await zoe.stream(generation_id)

    async def has_ended() -> bool:
        return (await zoe.list()).status == 401

    await eventually(has_ended)
    with pytest.raises(aiohttp.ClientPayloadError):
        await stream.rest()
    stream.cut()


async def test_blocked_owner_is_refused(guarded: Guarded) -> None:
    eve, ops = guarded.api(guarded.issuer.token("eve")), guarded.api("key-of-operator")
    assert (await eve.list()).status == 200
    await ops.request("PUT", "/v1/admin/blocks/eve")
    assert (await eve.list()).refusal == (403, "caller_blocked")


async def test_callers_stay_known_while_the_issuer_is_down(guarded: Guarded) -> None:
    guarded.issuer.is_down = True
    assert (await guarded.api(guarded.issuer.token("new-caller")).list()).status == 200
    guarded.issuer.is_down = False
