"""Ids that name nothing for their caller: on every route of the three forms of an id, one and the same 404.

Another caller's id, that of a deleted or expired object, one that was never given out, one in the form of another API,
and text that is no id cannot be distinguished: neither by status, body and headers, nor by what they leave behind.
"""

from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from support.api import Api, Response
from support.product import UNKNOWN_ID, Product
from support.stored_log import expire

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_ONE_ANSWER = {
    "date", "x-request-id", "content-length", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
}  # fmt: skip
"""Headers that differ from one answer to the next. (The length has that of the id.)"""


class Route(NamedTuple):
    """`{}` stands for an id with this prefix."""

    method: str
    path: str
    prefix: str


GENERATIONS = [
    Route("GET", "/v1/generations/{}", "gen_"),
    Route("GET", "/v1/generations/{}?wait=1", "gen_"),
    Route("GET", "/v1/generations/{}?output=false", "gen_"),
    Route("GET", "/v1/generations/{}/events", "gen_"),
    Route("POST", "/v1/generations/{}/cancel", "gen_"),
    Route("DELETE", "/v1/generations/{}", "gen_"),
]
CHAT = [
    Route("GET", "/v1/chat/completions/{}", "chatcmpl-"),
    Route("GET", "/v1/chat/completions/{}?stream=true", "chatcmpl-"),
    Route("GET", "/v1/chat/completions/{}?stream=true&starting_after=3", "chatcmpl-"),
    Route("DELETE", "/v1/chat/completions/{}", "chatcmpl-"),
]
RESPONSES = [
    Route("GET", "/v1/responses/{}", "resp_"),
    Route("GET", "/v1/responses/{}?stream=true", "resp_"),
    Route("GET", "/v1/responses/{}?stream=true&starting_after=3", "resp_"),
    Route("GET", "/v1/responses/{}/input_items", "resp_"),
    Route("POST", "/v1/responses/{}/cancel", "resp_"),
    Route("DELETE", "/v1/responses/{}", "resp_"),
]
ROUTES = [*GENERATIONS, *CHAT, *RESPONSES]
SUFFIX = UNKNOWN_ID.removeprefix("gen_")

MALFORMED = [
    "x", "0", "null", "resp_", "gen_", "chatcmpl-", "%00", "%F0%9F%9C%81", SUFFIX, f"RESP_{SUFFIX}", f"resp_{SUFFIX}a",
    f"chatcmpl-{SUFFIX[1:]}", f"gen_{SUFFIX}%0a", f"gen_{SUFFIX.upper()}", f"gen_gen_{SUFFIX}", "a" * 500,
]  # fmt: skip


def form(prefix: str, generation_id: str) -> str:
    return prefix + generation_id.removeprefix("gen_")


async def answer(api: Api, route: Route, object_id: str) -> tuple[int, str, dict[str, str]]:
    """Status, body without the id, headers: all that a caller can see."""
    response = await api.request(route.method, route.path.format(object_id))
    return response.status, masked(response, object_id), headers_of(response)


def masked(response: Response, object_id: str) -> str:
    return response.body.decode().replace(object_id, "{}")


def headers_of(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in OF_ONE_ANSWER}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(product: Product) -> list[str]:
    """Anna's generations: one that has ended, one that runs, one that waits."""
    running, waiting = [await product.anna.create() for _ in range(2)]
    await (await product.writer(running)).write_text("So far")
    return [await product.completed("Hello", api=product.anna), running, waiting]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_foreign_id_is_answered_as_an_unknown_one(product: Product, foreign: list[str], route: Route) -> None:
    unknown = await answer(product.ben, route, form(route.prefix, UNKNOWN_ID))
    assert unknown[0] == 404
    for generation_id in foreign:
        assert await answer(product.ben, route, form(route.prefix, generation_id)) == unknown
        state = await product.log.state(generation_id)
        assert (state.record.owner, state.terminating) == ("anna", None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_foreign_id_that_was_deleted_or_has_expired_is_answered_as_an_unknown_one(
    product: Product, route: Route
) -> None:
    deleted, expired = [await product.completed("Hello", api=product.anna) for _ in range(2)]
    await product.anna.delete(deleted)
    await expire(product.log.server.client, expired)
    unknown = await answer(product.ben, route, form(route.prefix, UNKNOWN_ID))
    for generation_id in (deleted, expired):
        assert await answer(product.ben, route, form(route.prefix, generation_id)) == unknown


@pytest.mark.parametrize("route", [*CHAT, *RESPONSES], ids=lambda route: f"{route.method} {route.path}")
async def test_own_id_that_was_deleted_or_has_expired_is_answered_as_an_unknown_one_by_openai_routes(
    product: Product, route: Route
) -> None:
    deleted, expired = [await product.completed("Hello", api=product.anna) for _ in range(2)]
    await product.anna.delete(deleted)
    await expire(product.log.server.client, expired)
    unknown = await answer(product.anna, route, form(route.prefix, UNKNOWN_ID))
    for generation_id in (deleted, expired):
        assert await answer(product.anna, route, form(route.prefix, generation_id)) == unknown


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_id_of_another_form_is_answered_as_an_unknown_one(
    product: Product, foreign: list[str], route: Route
) -> None:
    """Also one's own: each form has its own routes."""
    unknown = await answer(product.anna, route, form(route.prefix, UNKNOWN_ID))
    for prefix in {"gen_", "chatcmpl-", "resp_"} - {route.prefix}:
        assert await answer(product.anna, route, form(prefix, foreign[0])) == unknown


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_malformed_id_is_answered_as_an_unknown_one(product: Product, route: Route) -> None:
    status, body, headers = await answer(product.ben, route, form(route.prefix, UNKNOWN_ID))
    for malformed in MALFORMED:
        response = await product.ben.request(route.method, route.path.format(malformed))
        error: Any = response.error
        assert (response.status, headers_of(response)) == (status, headers), malformed
        assert {"type": error["type"], "param": error["param"], "code": error["code"]} == {
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found" if route in GENERATIONS else None,
        }
        assert error["message"].startswith(body.split('"message":"')[1].split("{}")[0][:12]), malformed


@pytest.mark.parametrize("routes", [GENERATIONS, CHAT, RESPONSES], ids=["generations", "chat", "responses"])
async def test_routes_of_a_form_answer_an_unknown_id_alike(product: Product, routes: list[Route]) -> None:
    answers = [await answer(product.ben, route, form(route.prefix, UNKNOWN_ID)) for route in routes]
    assert answers == [answers[0]] * len(answers)


async def test_own_generation_is_found_by_each_of_its_ids(product: Product, foreign: list[str]) -> None:
    for route in (GENERATIONS[0], CHAT[0], RESPONSES[0]):
        found = await product.anna.request(route.method, route.path.format(form(route.prefix, foreign[0])))
        assert found.status == 200
        assert found.value["id"] == form(route.prefix, foreign[0])
