"""What a key's scopes allow."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.api import Api, body
from support.product import Product
from support.routes import PUBLIC, declared_scopes
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = ",".join(
    (
        "ada:key-of-reader;scopes=read",
        "ada:key-of-creator;scopes=create",
        "ada:key-of-canceler;scopes=cancel",
        "ada:key-without-scopes",
        "ops:key-of-viewer;scopes=admin:view",
    )
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(product: Product) -> AsyncIterator[str]:
    async with product.frontend(api_keys=KEYS, ticket_secret="0123456789abcdef") as frontend:
        yield frontend.url


async def test_every_route_declares_a_scope() -> None:
    """A new route without one fails here; `PUBLIC` has those that need no key."""
    api = Frontend(Settings(redis_url="redis://127.0.0.1:1/0")).api
    undeclared = {(method, path) for (method, path), scopes in declared_scopes(api).items() if scopes is None}
    assert undeclared == PUBLIC


async def test_key_may_do_what_its_scopes_allow_and_nothing_else(product: Product, url: str) -> None:
    reader, creator, canceler = (Api(product.http, url, f"key-of-{name}") for name in ("reader", "creator", "canceler"))
    refused = (403, "insufficient_scope")
    assert (await reader.post(body())).refusal == refused
    assert (await canceler.post(body())).refusal == refused
    generation_id = await creator.create()
    assert (await creator.get(generation_id)).refusal == refused
    assert (await creator.events(generation_id)).refusal == refused
    assert (await creator.list()).refusal == refused
    assert (await creator.cancel(generation_id)).refusal == refused
    assert (await reader.get(generation_id)).value["status"] == "queued"
    assert (await reader.delete(generation_id)).refusal == refused
    assert (await canceler.cancel(generation_id)).status == 200
    assert (await canceler.delete(generation_id)).status == 200


async def test_ticket_is_given_to_those_who_may_read(product: Product, url: str) -> None:
    creator, whole = Api(product.http, url, "key-of-creator"), Api(product.http, url, "key-without-scopes")
    assert "ticket=" not in (await creator.post(body())).value["events_url"]
    assert "ticket=" in (await whole.post(body())).value["events_url"]


async def test_scope_is_checked_before_the_body_is_read(product: Product, url: str) -> None:
    reader = Api(product.http, url, "key-of-reader")
    assert (await reader.post(b"{")).refusal == (403, "insufficient_scope")
    assert (await reader.list("?limit=1000")).status == 400


async def test_admin_route_needs_a_scope_of_admins(product: Product, url: str) -> None:
    viewer, whole = Api(product.http, url, "key-of-viewer"), Api(product.http, url, "key-without-scopes")
    assert (await viewer.request("GET", "/v1/admin/me")).value == {"caller": "ops", "scopes": ["admin:view"]}
    assert (await whole.request("GET", "/v1/admin/me")).refusal == (403, "insufficient_scope")
    assert (await Api(product.http, url).request("GET", "/v1/admin/me")).refusal == (401, "invalid_api_key")
    assert (await viewer.post(body())).refusal == (403, "insufficient_scope")
    everything = (await product.api.request("GET", "/v1/admin/me")).value
    assert everything == {"caller": "open", "scopes": ["read", "create", "cancel", "admin"]}
