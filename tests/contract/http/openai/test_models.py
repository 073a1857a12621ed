"""`GET /v1/models` and the default model, with what workers have reported."""

import asyncio

import pytest

from support.api import Api, eventually
from support.product import CALLERS, Product
from tailrace.queue import Queue
from tailrace.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

UI_MESSAGES = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "?"}]}]


async def report(product: Product, *names: str) -> None:
    queue = Queue.connect(Settings(redis_url=product.stack.redis.url))
    await queue.presence.heartbeat("a-worker")
    await queue.models.report("a-worker", names)
    await queue.server.close()


async def names_at(api: Api) -> list[str]:
    response = await api.request("GET", "/v1/models")
    assert (response.status, response.value["object"]) == (200, "list")
    assert all(each.keys() == {"id", "object", "created", "owned_by"} for each in response.value["data"])
    return [each["id"] for each in response.value["data"]]


async def default_of_chats(api: Api) -> str:
    body = {"id": "a-chat", "messages": UI_MESSAGES}
    asking = asyncio.create_task(api.request("POST", "/api/chat", json=body))
    generation = (await eventually(lambda: newest(api)))["model"]
    asking.cancel()
    return str(generation)


async def newest(api: Api) -> dict[str, str] | None:
    rows = (await api.list("?limit=1")).value["data"]
    return rows[0] if rows else None


async def test_models_are_empty_and_a_chat_must_name_one_until_a_worker_has_reported(product: Product) -> None:
    assert await names_at(product.api) == []
    response = await product.api.request("POST", "/api/chat", json={"id": "a-chat", "messages": UI_MESSAGES})
    assert response.refusal == (400, "invalid_body")
    assert "TAILRACE_MODEL" in response.error["message"]


async def test_models_are_those_of_the_upstream_and_the_first_is_the_default(product: Product) -> None:
    await report(product, "qwen3:8b", "llama3.2")
    await eventually(lambda: has_models(product.anna, ["qwen3:8b", "llama3.2"]))
    assert await default_of_chats(product.anna) == "qwen3:8b"


async def has_models(api: Api, names: list[str]) -> bool:
    return await names_at(api) == names


async def test_models_are_filtered_by_the_lists_and_begin_with_the_setting(product: Product) -> None:
    await report(product, "qwen3:8b", "llama3.2", "org/llama:8b")
    lists = {"models": "llama*,demo,org/*", "models_per_caller": "ben=llama*"}
    async with product.frontend(**CALLERS, **lists, model="llama-default") as frontend:
        anna, ben = Api(product.http, frontend.url, "anna-key-1"), Api(product.http, frontend.url, "ben-key-22")
        assert await names_at(anna) == ["llama-default", "demo", "llama3.2", "org/llama:8b"]
        assert await names_at(ben) == ["llama-default", "llama3.2"]
        assert await default_of_chats(ben) == "llama-default"
    async with product.frontend(
        **CALLERS, models="llama*,demo", models_per_caller="anna=demo", model="llama-default"
    ) as frontend:
        assert await names_at(Api(product.http, frontend.url, "anna-key-1")) == ["demo"]
