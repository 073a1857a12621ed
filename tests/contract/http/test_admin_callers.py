"""Callers for operators: what they use, and limits that change at run time."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from support.api import Api, body, eventually
from support.product import Product
from tailrace import keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = {
    "api_keys": "anna:anna-key-1,ben:ben-key-22,ops:ops-key-33;scopes=admin,eye:eye-key-44;scopes=admin:view",
    "ticket_secret": "0123456789abcdef",
}

QUESTION: Any = {"messages": [{"role": "user", "content": "?"}]}
"""One token, by its size."""


class Operated:
    """Two frontends; `ops` operates them, `eye` may look."""

    def __init__(self, product: Product, urls: list[str]) -> None:
        self.ops, self.eye = Api(product.http, urls[0], "ops-key-33"), Api(product.http, urls[0], "eye-key-44")
        self.annas = [Api(product.http, url, "anna-key-1") for url in urls]
        self.bens = [Api(product.http, url, "ben-key-22") for url in urls]

    async def set(self, name: str, method: str = "PUT", **policy: Any) -> Any:
        response = await self.ops.request(method, f"/v1/admin/callers/{name}", json=policy)
        assert response.status == 200, response.body
        return response.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frontends(product: Product) -> AsyncIterator[Operated]:
    async with product.frontend(**KEYS) as one, product.frontend(**KEYS) as two:
        yield Operated(product, [one.url, two.url])


@pytest_asyncio.fixture(loop_scope="module")
async def operated(product: Product, frontends: Operated) -> AsyncIterator[Operated]:
    """The same, without policies and without anything that was used."""
    yield frontends
    for each in (await frontends.ops.request("GET", "/v1/admin/callers")).value["data"]:
        await frontends.ops.request("DELETE", f"/v1/admin/callers/{each['name']}")
    redis = product.log.server.client
    for name in ("anna", "ben"):
        await redis.delete(keys.use(name), keys.reserved(name), keys.reserved_until(name), keys.outputs(name))
    for anna in frontends.annas:
        await eventually(partial(has_no_policy, anna))


async def has_no_policy(api: Api) -> bool:
    response = await api.list()
    return response.status == 200 and "x-ratelimit-limit-tokens" not in response.headers


async def test_policy_is_set_changed_and_removed(operated: Operated) -> None:
    before = (await operated.eye.request("GET", "/v1/admin/callers/anna")).value
    assert (before["policy"], before["limits"]["tokens_per_minute"]) == ({}, None)
    assert before["limits"]["requests_per_minute"] == 60000
    after = await operated.set("anna", tokens_per_minute=500, max_readers=3, weight=2.5)
    assert after["policy"] == {"tokens_per_minute": 500, "max_readers": 3, "weight": 2.5}
    assert (after["limits"]["tokens_per_minute"], after["limits"]["max_readers"]) == (500, 3)
    changed = await operated.set("anna", "PATCH", max_readers=None, max_running=4)
    assert changed["policy"] == {"tokens_per_minute": 500, "weight": 2.5, "max_running": 4}
    assert (await operated.ops.request("GET", "/v1/admin/callers/anna")).value == changed
    removed = (await operated.ops.request("DELETE", "/v1/admin/callers/anna")).value
    assert (removed["policy"], removed["limits"]) == ({}, before["limits"])


async def test_callers_are_listed_by_name_in_pages(operated: Operated) -> None:
    await operated.set("zoe.of-jwt", max_readers=1)
    listed = (await operated.eye.request("GET", "/v1/admin/callers")).value
    assert [each["name"] for each in listed["data"]] == ["anna", "ben", "eye", "ops", "zoe.of-jwt"]
    first = (await operated.eye.request("GET", "/v1/admin/callers?limit=2")).value
    assert ([each["name"] for each in first["data"]], first["has_more"]) == (["anna", "ben"], True)
    rest = (await operated.eye.request("GET", "/v1/admin/callers?limit=9&after=ben")).value
    assert ([each["name"] for each in rest["data"]], rest["has_more"]) == (["eye", "ops", "zoe.of-jwt"], False)


async def test_policy_that_is_none_is_refused_and_changes_nothing(operated: Operated) -> None:
    for content, status, code in (
        ({"max_readers": 0}, 400, "invalid_value"),
        ({"max_dreams": 1}, 400, "invalid_value"),
        ([], 400, "invalid_body"),
    ):
        for method in ("PUT", "PATCH"):
            response = await operated.ops.request(method, "/v1/admin/callers/anna", json=content)
            assert response.refusal == (status, code)
    assert (await operated.ops.request("PUT", "/v1/admin/callers/a%20b", json={})).refusal == (400, "invalid_body")
    assert (await operated.eye.request("GET", "/v1/admin/callers/anna")).value["policy"] == {}


async def test_reading_needs_another_scope_than_changing(operated: Operated) -> None:
    refused = (403, "insufficient_scope")
    for method in ("PUT", "PATCH", "DELETE"):
        assert (await operated.eye.request(method, "/v1/admin/callers/anna", json={})).refusal == refused
    for method in ("GET", "PUT"):
        assert (await operated.annas[0].request(method, "/v1/admin/callers/anna", json={})).refusal == refused


async def test_limit_that_is_changed_holds_on_all_frontends(operated: Operated) -> None:
    async def are(status: int) -> bool:
        for anna in operated.annas:
            response = await anna.post(body(max_tokens=10))
            if response.status == 202:
                await anna.delete(response.value["id"])
            if response.status != status:
                return False
        return True

    await eventually(lambda: are(202))
    await operated.set("anna", max_unfinished=1)
    kept = await operated.bens[0].create()
    await operated.annas[0].create()
    await eventually(lambda: are(429))
    await operated.set("anna", "PATCH", max_unfinished=None)
    await eventually(lambda: are(202))
    await operated.set("anna", models=["other"])
    await eventually(lambda: are(404))
    await operated.set("anna", models=["other"], requests_per_minute=100_000)
    assert (await operated.bens[0].cancel(kept)).status == 200


async def test_requests_limit_that_is_raised_or_removed_holds_for_what_is_owed(operated: Operated) -> None:
    async def is_limit(per_minute: int) -> bool:
        found = [(await anna.list()).headers["x-ratelimit-limit-requests"] for anna in operated.annas]
        return found == 2 * [f"{per_minute}"]

    async def is_accepted(anna: Api) -> bool:
        return (await anna.post(body())).status == 202

    policies: list[dict[str, Any]] = [{"requests_per_minute": 60_000}, {}]
    for raised in policies:
        await operated.set("anna", requests_per_minute=1)
        await eventually(lambda: is_limit(1))
        large = body(messages=[{"role": "user", "content": "x" * 400_000}])
        answers = [await anna.post(large) for anna in operated.annas]
        assert all(float(each.headers["x-ratelimit-reset-requests"][:-1]) > 60 for each in answers)
        await operated.set("anna", **raised)
        await eventually(lambda: is_limit(60_000))
        for anna in operated.annas:
            await eventually(partial(is_accepted, anna))


async def test_tokens_beyond_the_limit_are_refused_with_the_headers_of_openai(operated: Operated) -> None:
    await operated.set("anna", tokens_per_minute=100)

    async def post(anna: Api) -> Any:
        return await anna.post(body(max_tokens=30, **QUESTION))

    before = (await operated.eye.request("GET", "/v1/admin/callers/anna")).value["use"]["waiting"]
    await eventually(lambda: has_limit(operated.annas[1]))
    responses = await asyncio.gather(*(post(operated.annas[i % 2]) for i in range(50)))
    accepted = [each for each in responses if each.status == 202]
    assert 1 <= len(accepted) * 31 <= 100 + 31, "one reservation more than the limit, at most"
    refused = [each for each in responses if each.status != 202]
    for response in refused:
        assert response.refusal == (429, "rate_limit_exceeded")
        assert "100 a minute" in response.error["message"]
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.headers["x-ratelimit-limit-tokens"] == "100"
        assert int(response.headers["x-ratelimit-remaining-tokens"]) < 31
        assert response.headers["x-ratelimit-reset-tokens"].endswith("s")
    seen = (await operated.eye.request("GET", "/v1/admin/callers/anna")).value["use"]
    assert seen["reserved"]["tokens"] == 31 * len(accepted)
    assert seen["waiting"] == before + len(accepted)
    for response in accepted:
        await operated.annas[0].cancel(response.value["id"])
    seen = (await operated.eye.request("GET", "/v1/admin/callers/anna")).value["use"]
    assert (seen["reserved"]["tokens"], seen["waiting"]) == (0, before)
    assert (await post(operated.annas[0])).status == 202, "what was cancelled in the queue has used nothing"


async def has_limit(api: Api) -> bool:
    return "x-ratelimit-limit-tokens" in (await api.list()).headers


async def test_spent_budget_refuses_creations_and_headers_have_what_is_left(operated: Operated) -> None:
    await operated.set("anna", budget_day_tokens=1000, budget_month_usd=20)
    anna = operated.annas[0]
    created = await anna.post(body(max_tokens=29, **QUESTION))
    assert created.status == 202
    assert created.headers["tailrace-budget-remaining"] == "day-tokens=970, month-usd=20"
    assert "tailrace-budget-warning" not in created.headers
    second = await anna.post(body(max_tokens=799, **QUESTION))
    assert second.headers["tailrace-budget-warning"] == "day-tokens=170"
    await anna.cancel(second.value["id"])
    await operated.set("anna", budget_day_tokens=30)
    held = await anna.post(body())
    assert held.refusal == (429, "insufficient_quota")
    assert held.error["type"] == "insufficient_quota"
    assert "x-should-retry" not in held.headers, "what runs may leave some of it"
    await anna.cancel(created.value["id"])
    assert (await anna.post(body(max_tokens=1))).status == 202


async def test_readers_of_all_frontends_are_counted(operated: Operated) -> None:
    generation_id = await operated.bens[0].create()
    streams = [await ben.stream(generation_id) for ben in operated.bens]
    for stream in streams:
        await stream.until("created")

    async def counts_both() -> bool:
        seen = (await operated.eye.request("GET", "/v1/admin/callers/ben")).value["use"]
        return bool(seen["readers"] == 2)

    await eventually(counts_both)
    for stream in streams:
        stream.cut()
    await operated.bens[0].cancel(generation_id)
