"""Keys, blocks and revocations at run time, on two frontends."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, Response, body, eventually
from support.product import UNKNOWN_ID, Product
from tailrace import keys
from tailrace.access import MAX_KEYS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {
    "api_keys": "ops:key-of-operator;scopes=admin+read,tom:old-key-of-tom",
    "ticket_secret": "0123456789abcdef",
    "keepalive_s": "120",  # a stream checks its key every 60 s: longer than any test waits
}
BOUND_S = 10.0
"""Generous: a change takes milliseconds. It is far below the time after which a stream would look by itself."""


class Two(NamedTuple):
    """Two frontends."""

    product: Product
    first: str
    second: str

    def api(self, key: str, url: str = "") -> Api:
        return Api(self.product.http, url or self.second, key)

    @property
    def ops(self) -> Api:
        return self.api("key-of-operator", self.first)

    async def new_key(self, caller: str = "zoe", **fields: Any) -> Any:
        response = await self.ops.request("POST", "/v1/admin/keys", json={"caller": caller, **fields})
        assert response.status == 201, response
        return response.value

    async def revoke(self, key_id: str) -> None:
        assert (await self.ops.request("DELETE", f"/v1/admin/keys/{key_id}")).status == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(product: Product) -> AsyncIterator[Two]:
    async with product.frontend(**SETTINGS) as first, product.frontend(**SETTINGS) as second:
        yield Two(product, first.url, second.url)


async def is_refused(api: Api, status: int = 401) -> bool:
    return (await api.list()).status == status


async def ends(stream: Any) -> None:
    """The stream is cut."""
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    stream.cut()


async def test_key_is_valid_on_every_frontend_when_the_answer_comes(two: Two) -> None:
    for _ in range(10):
        key = await two.new_key()
        assert (await two.api(key["key"]).list()).status == 200
        assert (await two.api(key["key"], two.first).list()).status == 200
        assert (await two.api(key["key"] + "x").list()).refusal == (401, "invalid_api_key")


async def test_key_is_listed_without_itself(two: Two) -> None:
    key = await two.new_key(caller="lea", name="phone", scopes=["read"], expires_at=int(time.time()) + 1000)
    assert (await two.api(key["key"]).post(body())).refusal == (403, "insufficient_scope")
    listed = await two.ops.request("GET", "/v1/admin/keys?caller=lea")
    (shown,) = listed.value["data"]
    assert key["key"].encode() not in listed.body
    assert shown["hint"] == f"{key['key'][:7]}…{key['key'][-4:]}"
    assert {name: shown[name] for name in ("caller", "name", "scopes", "created_by", "source", "revoked")} == {
        "caller": "lea", "name": "phone", "scopes": ["read"], "created_by": "ops", "source": "admin", "revoked": False,
    }  # fmt: skip
    stored = await two.product.log.server.execute("HVALS", keys.ACCESS)
    assert key["key"].encode() not in b"".join(stored)


async def test_list_has_the_keys_of_the_settings(two: Two) -> None:
    listed = (await two.ops.request("GET", "/v1/admin/keys?caller=ops")).value["data"]
    assert [(each["source"], each["scopes"], each["hint"]) for each in listed] == [("settings", ["read", "admin"], "")]


async def test_revoked_key_ends_its_streams_on_another_frontend(two: Two) -> None:
    key = await two.new_key()
    zoe = two.api(key["key"])
    generation_id = await zoe.create()
    ticket = (await zoe.get(generation_id)).value["events_url"].partition("?")[2]
    own, by_ticket = await zoe.stream(generation_id), await two.api("").stream(generation_id, query=f"?{ticket}")
    waiting = asyncio.create_task(zoe.get(generation_id, "?wait=60"))
    other = await two.new_key()
    kept = await two.api(other["key"]).stream(generation_id)
    await two.revoke(key["id"])
    await asyncio.gather(ends(own), ends(by_ticket))
    async with asyncio.timeout(BOUND_S):
        assert (await waiting).refusal == (401, "invalid_api_key")
    await eventually(lambda: is_refused(zoe))
    assert (await two.api("").events(generation_id, f"?{ticket}")).refusal == (401, "invalid_api_key")
    writer = await two.product.writer(generation_id)
    await writer.end()
    async with asyncio.timeout(BOUND_S):
        await kept.rest()
    kept.cut()


async def query_of_share(api: Api, generation_id: str) -> str:
    """The query by which a new link reads the log."""
    made = await api.request("POST", f"/v1/generations/{generation_id}/shares")
    assert made.status == 201, made
    return "?" + str(made.value["events_url"]).partition("?")[2]


async def test_share_outlives_a_rotation_of_its_key_and_ends_with_its_revocation(two: Two) -> None:
    old = await two.new_key()
    generation_id = await two.api(old["key"]).create()
    query, rotation = await query_of_share(two.api(old["key"]), generation_id), f"/v1/admin/keys/{old['id']}/rotate"
    new = (await two.ops.request("POST", rotation, json={"overlap_s": 0})).value
    await eventually(lambda: is_refused(two.api(old["key"])))
    other = await query_of_share(two.api(new["key"]), generation_id)
    cut, kept = [await two.api("").stream(generation_id, query=each) for each in (query, other)]
    await two.revoke(old["id"])
    await ends(cut)
    assert (await two.api("").events(generation_id, query)).refusal == (401, "invalid_api_key")
    await (await two.product.writer(generation_id)).end()
    async with asyncio.timeout(BOUND_S):
        await kept.rest()
    kept.cut()
    assert (await two.api("").events(generation_id, other)).status == 200


async def test_share_of_a_key_of_the_settings_ends_with_its_revocation(two: Two) -> None:
    settings = SETTINGS | {"api_keys": SETTINGS["api_keys"] + ",kim:key-of-kim-in-settings"}
    async with two.product.frontend(**settings) as third:
        kim, ops = two.api("key-of-kim-in-settings", third.url), two.api("key-of-operator", third.url)
        generation_id = await kim.create()
        query = await query_of_share(kim, generation_id)
        stream = await two.api("", third.url).stream(generation_id, query=query)
        (listed,) = (await ops.request("GET", "/v1/admin/keys?caller=kim")).value["data"]
        assert (await ops.request("DELETE", f"/v1/admin/keys/{listed['id']}")).status == 200
        await ends(stream)
        assert (await two.api("", third.url).events(generation_id, query)).refusal == (401, "invalid_api_key")
    withdrawn = await two.api("").events(generation_id, query)
    assert withdrawn.refusal == (401, "invalid_api_key"), "a frontend whose settings have no such key"


async def test_key_of_the_settings_is_revoked_for_good(two: Two) -> None:
    (tom,) = (await two.ops.request("GET", "/v1/admin/keys?caller=tom")).value["data"]
    await two.revoke(tom["id"])
    await eventually(lambda: is_refused(two.api("old-key-of-tom")))
    (tom,) = (await two.ops.request("GET", "/v1/admin/keys?caller=tom")).value["data"]
    assert tom["revoked"] is True
    async with two.product.frontend(**SETTINGS) as third:
        await eventually(lambda: is_refused(two.api("old-key-of-tom", third.url)))


async def test_rotation_refuses_no_request(two: Two) -> None:
    old = await two.new_key(caller="max", scopes=["read"])
    statuses: list[int] = []
    current = old

    async def ask() -> None:
        while not stopped.is_set():
            statuses.extend([(await two.api(current["key"], url).list()).status for url in (two.first, two.second)])

    stopped = asyncio.Event()
    asking = asyncio.create_task(ask())
    for _ in range(10):
        response = await two.ops.request("POST", f"/v1/admin/keys/{current['id']}/rotate", json={"overlap_s": 60})
        assert response.status == 201
        current = response.value
    stopped.set()
    await asking
    assert set(statuses) == {200}
    assert current["scopes"] == ["read"]
    assert (await two.api(old["key"]).list()).status == 200
    assert len((await two.ops.request("GET", "/v1/admin/keys?caller=max")).value["data"]) == 11


async def test_rotation_without_overlap_ends_the_old_key(two: Two) -> None:
    old = await two.new_key(caller="mia")
    new = (await two.ops.request("POST", f"/v1/admin/keys/{old['id']}/rotate", json={"overlap_s": 0})).value
    await eventually(lambda: is_refused(two.api(old["key"])))
    assert (await two.api(new["key"]).list()).status == 200


async def test_key_that_is_revoked_during_its_rotation_stays_revoked(two: Two) -> None:
    for _ in range(30):
        old = await two.new_key(caller="ida")
        path = f"/v1/admin/keys/{old['id']}"
        rotation, revocation = await asyncio.gather(
            two.ops.request("POST", f"{path}/rotate", json={"overlap_s": 600}), two.ops.request("DELETE", path)
        )
        assert revocation.status == 200
        assert rotation.status in (201, 404)
        await eventually(lambda key=old["key"]: is_refused(two.api(key)))  # type: ignore[misc]
        for each in (await two.ops.request("GET", "/v1/admin/keys?caller=ida")).value["data"]:
            assert each["id"] != old["id"]
            await two.ops.request("DELETE", f"/v1/admin/keys/{each['id']}")


@pytest.mark.parametrize("expires_in_s", [None, 90 * 24 * 3600])
async def test_key_that_is_rotated_twice_gives_another_one_of_its_first_lifetime(
    two: Two, expires_in_s: int | None
) -> None:
    now = int(time.time())
    old = await two.new_key(caller="ada", expires_at=expires_in_s and now + expires_in_s)
    path = f"/v1/admin/keys/{old['id']}/rotate"
    for _ in range(2):
        new = (await two.ops.request("POST", path, json={"overlap_s": 600})).value
        lifetime = new["expires_at"] and new["expires_at"] - new["created_at"]
        assert lifetime == (expires_in_s and old["expires_at"] - old["created_at"])
    (shown,) = [
        each for each in (await two.ops.request("GET", "/v1/admin/keys?caller=ada")).value["data"]
        if each["id"] == old["id"]
    ]  # fmt: skip
    assert shown["expires_at"] - now <= 660, "a later rotation does not prolong it"


async def test_number_of_keys_is_bounded_also_where_they_are_rotated(two: Two) -> None:
    key = await two.new_key(caller="kai")
    rotation = f"/v1/admin/keys/{key['id']}/rotate"
    server = two.product.log.server
    known = len([field for field in await server.execute("HKEYS", keys.ACCESS) if field.startswith(b"key:")])
    stored = await server.execute("HGET", keys.ACCESS, f"key:{key['id']}")
    copies = {f"key:key_{k}": stored.replace(key["id"].encode(), b"key_%d" % k) for k in range(MAX_KEYS - known)}
    flat = [part for copy in copies.items() for part in copy]
    await server.execute("HSET", keys.ACCESS, *flat)
    refused = await two.ops.request("POST", rotation)
    assert refused.status == 400
    assert str(MAX_KEYS) in refused.error["message"]
    assert (await two.ops.request("POST", "/v1/admin/keys", json={"caller": "kai"})).status == 400
    await server.execute("HDEL", keys.ACCESS, *copies)
    assert (await two.ops.request("POST", rotation)).status == 201


async def test_blocked_caller_is_refused_until_the_block_ends(two: Two) -> None:
    key = await two.new_key(caller="eve")
    eve = two.api(key["key"])
    generation_id = await eve.create()
    stream = await eve.stream(generation_id)
    url = (await eve.get(generation_id)).value["events_url"]
    response = await two.ops.request("PUT", "/v1/admin/blocks/eve", json={"reason": "unpaid"})
    assert response.value == {"caller": "eve", "blocked_by": "ops", "reason": "unpaid"} | {
        "blocked_at": response.value["blocked_at"]
    }
    await ends(stream)
    await eventually(lambda: is_refused(eve, 403))
    assert (await eve.post(body())).refusal == (403, "caller_blocked")
    assert (await two.api("").request("GET", url)).refusal == (403, "caller_blocked")
    assert [each["caller"] for each in (await two.ops.request("GET", "/v1/admin/blocks")).value["data"]] == ["eve"]
    assert (await two.ops.request("DELETE", "/v1/admin/blocks/eve")).status == 200
    await eventually(lambda: is_refused(eve, 200))
    assert (await two.ops.request("DELETE", "/v1/admin/blocks/eve")).status == 404


async def test_blocked_caller_without_a_key_is_listed(two: Two) -> None:
    await two.ops.request("PUT", "/v1/admin/blocks/ghost")

    async def listed() -> bool:
        callers = (await two.ops.request("GET", "/v1/admin/callers")).value["data"]
        return any(each["name"] == "ghost" and each["blocked"] for each in callers)

    await eventually(listed)
    await two.ops.request("DELETE", "/v1/admin/blocks/ghost")


async def test_caller_cannot_block_itself(two: Two) -> None:
    assert (await two.ops.request("PUT", "/v1/admin/blocks/ops")).status == 400
    assert (await two.ops.request("GET", "/v1/admin/me")).status == 200


async def test_operator_cannot_block_or_limit_a_caller_that_has_a_key_of_an_admin(two: Two) -> None:
    deputy = await two.new_key(caller="deputy", scopes=["admin"])
    operator = two.api((await two.new_key(caller="operator", scopes=["admin:operate"]))["key"], two.first)
    for name in ("ops", "deputy"):  # one has its key in the settings, the other at run time
        for method, path in (
            ("PUT", f"/v1/admin/blocks/{name}"), ("DELETE", f"/v1/admin/blocks/{name}"),
            ("PUT", f"/v1/admin/callers/{name}"), ("PATCH", f"/v1/admin/callers/{name}"),
            ("DELETE", f"/v1/admin/callers/{name}"),
        ):  # fmt: skip
            body = {"requests_per_minute": 1} if "callers" in path and method != "DELETE" else None
            assert (await operator.request(method, path, json=body)).refusal == (403, "insufficient_scope"), path
    assert (await operator.request("PUT", "/v1/admin/blocks/someone")).status == 200
    assert (await operator.request("PATCH", "/v1/admin/callers/someone", json={"max_readers": 9})).status == 200
    assert (await two.ops.request("PATCH", "/v1/admin/callers/deputy", json={"max_readers": 9})).status == 200
    assert (await two.ops.request("PUT", "/v1/admin/blocks/deputy")).status == 200
    unblocked = await operator.request("DELETE", "/v1/admin/blocks/deputy")
    assert unblocked.refusal == (403, "insufficient_scope"), "an admin has blocked it"
    await two.revoke(deputy["id"])
    assert (await operator.request("DELETE", "/v1/admin/blocks/deputy")).status == 200
    for name in ("someone", "deputy"):
        assert (await operator.request("DELETE", f"/v1/admin/callers/{name}")).status == 200
    assert (await operator.request("DELETE", "/v1/admin/blocks/someone")).status == 200


async def test_revoked_ticket_ends_its_streams_alone(two: Two) -> None:
    zoe = two.api((await two.new_key())["key"])
    generation_id = await zoe.create()
    ticket = (await zoe.get(generation_id)).value["events_url"].partition("?ticket=")[2]
    kept, cut = await zoe.stream(generation_id), await two.api("").stream(generation_id, query=f"?ticket={ticket}")
    asked = {"generation": generation_id, "ticket": ticket}
    for _ in range(2):
        assert (await two.ops.request("POST", "/v1/admin/revocations", json=asked)).value == {"revoked": True}
    await ends(cut)
    assert (await two.api("").events(generation_id, f"?ticket={ticket}")).refusal == (401, "invalid_api_key")
    another = (await zoe.get(generation_id)).value["events_url"].partition("?ticket=")[2]
    assert another != ticket
    writer = await two.product.writer(generation_id)
    await writer.end()
    await kept.rest()
    kept.cut()
    assert (await two.api("").events(generation_id, f"?ticket={another}")).status == 200
    forged = await two.ops.request("POST", "/v1/admin/revocations", json=asked | {"ticket": another[:-2]})
    assert forged.status == 400


async def test_lost_message_costs_one_re_read(two: Two) -> None:
    """The change is written without a message."""
    key = await two.new_key(caller="pia")
    removed, newer = ("HDEL", keys.ACCESS, f"key:{key['id']}"), ("HSET", keys.ACCESS, "version", 7)
    await two.product.log.server.execute_many([removed, newer])
    await eventually(lambda: is_refused(two.api(key["key"])))


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"caller": "a b"}, {"caller": ""}, {"caller": "zoe", "scopes": ["write"]}, {"caller": "zoe", "scopes": []},
        {"caller": "zoe", "expires_at": 1}, {"caller": "zoe", "expires_at": "soon"}, {"caller": "zoe", "more": 1},
        {"caller": "zoe", "expires_at": 10**400}, {"caller": "zoe", "expires_at": 253_402_300_800},
    ],
)  # fmt: skip
async def test_wrong_key_is_refused(two: Two, wrong: Any) -> None:
    assert (await two.ops.request("POST", "/v1/admin/keys", json=wrong)).status == 400


async def test_unknown_key_cannot_be_changed(two: Two) -> None:
    assert (await two.ops.request("DELETE", "/v1/admin/keys/key_x")).refusal == (404, "not_found")
    assert (await two.ops.request("POST", "/v1/admin/keys/key_x/rotate")).refusal == (404, "not_found")


async def test_open_mode_has_no_keys(product: Product) -> None:
    response = await product.api.request("POST", "/v1/admin/keys", json={"caller": "zoe"})
    assert response.status == 400
    assert "TAILRACE_API_KEYS" in response.error["message"]


async def test_last_use_is_known_after_a_while(two: Two) -> None:
    key = await two.new_key(caller="uma")
    async with two.product.frontend(**SETTINGS) as third:
        assert (await two.api(key["key"], third.url).list()).status == 200

    async def used() -> Any:
        (shown,) = (await two.ops.request("GET", "/v1/admin/keys?caller=uma")).value["data"]
        return shown["last_used_at"]

    assert abs(await eventually(used) - time.time()) < 60


async def test_acts_and_refusals_are_audited(two: Two) -> None:
    key = await two.new_key(caller="ida", scopes=["admin:view"])
    viewer: Api = two.api(key["key"], two.first)
    refused: list[Response] = [
        await viewer.request("PUT", "/v1/admin/blocks/ida"),
        await two.api("wrong-key", two.first).request("DELETE", f"/v1/admin/keys/{UNKNOWN_ID}"),
    ]
    assert [each.status for each in refused] == [403, 401]
    await two.revoke(key["id"])
    entries = (await two.ops.request("GET", "/v1/admin/audit?limit=1000")).value["data"]
    lines = [(each["who"], each["action"], each["target"], each["outcome"]) for each in entries]
    assert {each["address"] for each in entries} == {"127.0.0.1"}
    assert ("ops", "create_key", f"ida/{key['id']}", "ok") in lines
    assert ("ida", "block_caller", "ida", "insufficient_scope") in lines
    assert ("", "revoke_key", UNKNOWN_ID, "invalid_api_key") in lines
    assert ("ops", "revoke_key", key["id"], "ok") in lines
    assert not any(key["key"] in " ".join(line) for line in lines)


async def test_invalid_query_is_audited_as_such(two: Two) -> None:
    assert (await two.ops.request("GET", "/v1/admin/audit?limit=many")).status == 400
    assert (await two.ops.request("PUT", "/v1/admin/blocks/a%20b")).status == 400
    entries = (await two.ops.request("GET", "/v1/admin/audit?limit=100")).value["data"]
    refused = {(each["who"], each["action"], each["outcome"]) for each in entries if each["outcome"] != "ok"}
    assert refused >= {
        (("ops", "list_audit", "invalid_request_error")),
        ("ops", "block_caller", "invalid_request_error"),
    }
    assert "failed" not in {outcome for _, _, outcome in refused}


async def test_audit_is_read_by_pages_and_followed_by_its_cursor(two: Two) -> None:
    for _ in range(3):
        await two.new_key()
    page = (await two.ops.request("GET", "/v1/admin/audit?limit=2")).value
    assert page["has_more"] is True
    cursor = page["data"][0]["id"]
    older = (await two.ops.request("GET", f"/v1/admin/audit?limit=1&before={page['data'][1]['id']}")).value["data"]
    assert older[0]["at"] <= page["data"][1]["at"]
    key = await two.new_key(caller="eva")
    newer = (await two.ops.request("GET", f"/v1/admin/audit?after={cursor}")).value["data"]
    assert f"eva/{key['id']}" in [each["target"] for each in newer]
    assert (await two.ops.request("GET", "/v1/admin/audit?after=x")).status == 400
