import asyncio
import re
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from tailrace import keys
from tailrace.errors import InvalidRequest, NotFound
from tailrace.webhooks import CreationKey, Endpoint, EndpointRef, Endpoints
from tailrace.webhooks.endpoints import CREATION_S, MAX_ENDPOINTS, MAX_OLD_SECRETS, OLD_SECRET_S

URL = "https://example.org/hook"
NOW = 1_795_235_902_123
UNKNOWN = "whe_" + "a" * 26


async def add(
    endpoints: Endpoints, owner: str = "anna", name: str = "billing", key: CreationKey | None = None
) -> Endpoint:
    return await endpoints.add(owner, name, URL, ["response.completed"], key)


def renamed(name: str) -> Any:
    return lambda endpoint: msgspec.structs.replace(endpoint, name=name)


async def test_endpoint_is_stored_with_an_id_a_secret_and_its_time(endpoints: Endpoints) -> None:
    endpoint = await add(endpoints)
    assert re.fullmatch(r"whe_[a-z2-7]{26}", endpoint.id)
    assert endpoint.secret.startswith("whsec_")
    assert endpoint.created == endpoint.updated > NOW - 10**12
    assert await endpoints.get(EndpointRef("anna", endpoint.id)) == endpoint


async def test_endpoints_of_an_owner_are_listed_newest_first(endpoints: Endpoints) -> None:
    added = []
    for n in range(3):
        added.append(await add(endpoints, name=str(n)))
        await asyncio.sleep(0.002)
    await add(endpoints, "ben")
    assert await endpoints.list("anna") == added[::-1]
    assert await endpoints.list("carol") == []


async def test_owner_may_have_so_many_endpoints_and_no_more(endpoints: Endpoints) -> None:
    for _ in range(MAX_ENDPOINTS):
        last = await add(endpoints)
    with pytest.raises(InvalidRequest, match=str(MAX_ENDPOINTS)):
        await add(endpoints)
    await add(endpoints, "ben")
    await endpoints.remove(EndpointRef("anna", last.id))
    await add(endpoints)


async def test_concurrent_calls_do_not_exceed_the_limit(endpoints: Endpoints) -> None:
    added = await asyncio.gather(*(add(endpoints) for _ in range(MAX_ENDPOINTS + 20)), return_exceptions=True)
    assert len([each for each in added if isinstance(each, Endpoint)]) == MAX_ENDPOINTS
    assert [type(each) for each in added if not isinstance(each, Endpoint)] == [InvalidRequest] * 20
    assert len(await endpoints.list("anna")) == MAX_ENDPOINTS


# Repetitions


async def test_repetition_gets_the_endpoint_that_its_key_stands_for(endpoints: Endpoints) -> None:
    key = CreationKey("k")
    first, *others = await asyncio.gather(*(add(endpoints, key=key) for _ in range(5)))
    assert others == [first] * 4
    assert await endpoints.list("anna") == [first]
    for other in (
        await add(endpoints),
        await add(endpoints, key=CreationKey("j")),
        await add(endpoints, "ben", key=key),
    ):
        assert other.id != first.id
        assert other.secret != first.secret


async def test_repetition_beyond_the_limit_gets_its_endpoint(endpoints: Endpoints) -> None:
    first, *_ = [await add(endpoints, key=CreationKey(f"k{n}")) for n in range(MAX_ENDPOINTS)]
    assert await add(endpoints, key=CreationKey("k0")) == first


async def test_key_of_a_new_request_stands_for_a_new_endpoint(endpoints: Endpoints) -> None:
    first = await add(endpoints, key=CreationKey("k"))
    second = await add(endpoints, key=CreationKey("k", is_new=True))
    assert second.id != first.id
    assert await add(endpoints, key=CreationKey("k")) == second


async def test_key_is_forgotten_after_its_life_and_with_its_endpoint(endpoints: Endpoints, redis: Redis) -> None:
    key = CreationKey("k")
    first = await add(endpoints, key=key)
    assert 1000 * CREATION_S - 5000 < await redis.pttl(keys.webhook_creation("anna", "k")) <= 1000 * CREATION_S
    await endpoints.remove(EndpointRef("anna", first.id))
    second = await add(endpoints, key=key)
    await redis.delete(keys.webhook_creation("anna", "k"))
    assert len({first.id, second.id, (await add(endpoints, key=key)).id}) == 3


async def test_endpoint_of_another_owner_is_not_found_like_an_unknown_one(endpoints: Endpoints) -> None:
    endpoint = await add(endpoints)
    for ref in (EndpointRef("ben", endpoint.id), EndpointRef("anna", UNKNOWN), EndpointRef("anna", "../\ud800")):
        assert await endpoints.find(ref) is None
        for call in (endpoints.get(ref), endpoints.remove(ref), endpoints.change(ref, renamed("x"))):
            with pytest.raises(NotFound) as missing:
                await call
            assert missing.value.message == f"Webhook endpoint with id '{ref.id}' not found."
    assert await endpoints.get(EndpointRef("anna", endpoint.id)) == endpoint


async def test_endpoint_that_was_removed_is_gone(endpoints: Endpoints) -> None:
    ref = EndpointRef("anna", (await add(endpoints)).id)
    await endpoints.remove(ref)
    assert await endpoints.find(ref) is None
    with pytest.raises(NotFound):
        await endpoints.remove(ref)


async def test_changes_of_concurrent_calls_are_all_kept(endpoints: Endpoints) -> None:
    ref = EndpointRef("anna", (await add(endpoints)).id)

    def adding(event_type: str) -> Any:
        return lambda each: msgspec.structs.replace(each, event_types=[*each.event_types, event_type])

    await asyncio.gather(*(endpoints.change(ref, adding(f"e{n}")) for n in range(20)))
    assert len((await endpoints.get(ref)).event_types) == 21


async def test_change_does_not_bring_back_what_is_removed_meanwhile(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = EndpointRef("anna", (await add(endpoints)).id)
    read = endpoints._stored

    async def remove_after_read(given: EndpointRef) -> bytes | None:
        stored = await read(given)
        await endpoints._server.execute("HDEL", keys.webhook_endpoints("anna"), ref.id)
        return stored

    monkeypatch.setattr(endpoints, "_stored", remove_after_read)
    with pytest.raises(NotFound):
        await endpoints.change(ref, renamed("x"))
    assert await endpoints.list("anna") == []


def endpoint_at(now: int) -> Endpoint:
    return Endpoint("whe_1", "billing", URL, ["response.completed"], "whsec_first", now, now)


def test_rotation_without_overlap_leaves_one_secret() -> None:
    rotated = endpoint_at(NOW).rotated(NOW + 5, keep_old=False)
    assert rotated.secrets_at(NOW + 5) == [rotated.secret] != ["whsec_first"]
    assert (rotated.created, rotated.updated) == (NOW, NOW + 5)


def test_rotation_with_overlap_keeps_the_old_secret_for_24_hours() -> None:
    rotated = endpoint_at(NOW).rotated(NOW, keep_old=True)
    until = NOW + 1000 * OLD_SECRET_S
    assert OLD_SECRET_S == 24 * 3600
    assert rotated.secrets_at(until - 1) == [rotated.secret, "whsec_first"]
    assert rotated.secrets_at(until) == [rotated.secret]


def test_rotation_that_is_repeated_keeps_the_secret_that_receivers_know() -> None:
    """The SDK repeats a call whose answer was lost. No receiver knows the secret in between."""
    once = endpoint_at(NOW).rotated(NOW, keep_old=True)
    twice = once.rotated(NOW + 500, keep_old=True)
    assert twice.secrets_at(NOW + 1000) == [twice.secret, once.secret, "whsec_first"]
    for n in range(10):
        twice = twice.rotated(NOW + 1000 + n, keep_old=True)
    assert len(twice.old_secrets) == MAX_OLD_SECRETS


def test_rotation_without_overlap_ends_earlier_overlaps() -> None:
    rotated = endpoint_at(NOW).rotated(NOW, keep_old=True).rotated(NOW + 1, keep_old=False)
    assert rotated.secrets_at(NOW + 2) == [rotated.secret]


def test_ref_is_read_back_from_its_text() -> None:
    ref = EndpointRef("anna.b-c_d", "whe_1")
    assert EndpointRef.parse(str(ref)) == ref
