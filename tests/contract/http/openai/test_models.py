"""`/v1/models` on the real server."""

import pytest

from support.api import Api
from support.product import CALLERS, Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_models_are_listed_and_found_by_names_with_slashes(product: Product) -> None:
    async with product.frontend(**CALLERS, models="demo,org/llama:8b", models_per_caller="ben=demo") as frontend:
        anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
        listed = (await anna.request("GET", "/v1/models")).value
        assert listed == {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "tailrace"}
                for name in ("demo", "org/llama:8b")
            ],
        }
        for name in ("org/llama:8b", "org%2Fllama:8b", "org/llama%3A8b"):
            assert (await anna.request("GET", f"/v1/models/{name}")).value["id"] == "org/llama:8b"
        assert [each["id"] for each in (await ben.request("GET", "/v1/models")).value["data"]] == ["demo"]
        response = await ben.request("GET", "/v1/models/org/llama:8b")
        assert response.refusal == (404, "model_not_found")
