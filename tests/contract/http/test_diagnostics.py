"""The stream by which `tailrace doctor` looks at what lies between it and a frontend."""

import json
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.product import Product
from support.sse import Stream
from tailrace_frontend.dashboard.diagnostic_stream import MAX_PER_CALLER

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/diagnostics/stream"


async def opened(product: Product, url: str, query: str = "", **headers: str) -> Stream:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Stream(await product.http.get(f"{url}{PATH}{query}", headers=named))


async def hello_of(product: Product, api: Api, **headers: str) -> Any:
    stream = await opened(product, api.url, "?events=0", **(api._headers | headers))
    return (await stream.rest())[0].value


async def test_stream_has_hello_its_beats_and_an_end(product: Product) -> None:
    stream = await opened(product, product.api.url, "?events=3&interval_ms=10")
    events = await stream.rest()
    assert [each.kind for each in events] == ["hello", "beat", "beat", "beat", "end"]
    times = [each.value["at_ms"] for each in events[1:]]
    assert times == sorted(times)
    assert times[0] > 9  # libuv's clock has whole milliseconds, so a timer may be up to one early
    assert [each.value["number"] for each in events[1:-1]] == [1, 2, 3]
    assert stream.response.headers["cache-control"] == "no-cache, no-transform"


async def test_silent_stream_has_not_even_a_keep_alive(product: Product) -> None:
    async with product.frontend(keepalive_s="0.2") as frontend:
        stream = await opened(product, frontend.url, "?events=0&silence_s=1")
        assert [each.kind for each in await stream.rest()] == ["hello", "end"]
        assert stream.parser.comments == []


async def test_hello_has_what_arrived_of_the_request(product: Product) -> None:
    given = {"Last-Event-ID": "7-7", "Idempotency-Key": "k", "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    hello = await hello_of(product, product.anna, **given)
    expected = {name.lower(): value for name, value in given.items()}
    assert hello["received"] == expected | {"authorization": "Bearer"}
    assert (hello["http_version"], hello["is_open"], hello["keepalive_s"]) == ("1.1", False, 15.0)
    assert "anna-key-1" not in json.dumps(hello)
    assert "last-event-id" not in (await hello_of(product, product.api))["received"]


async def test_what_is_sent_back_is_short(product: Product) -> None:
    hello = await hello_of(product, product.api, **{"Last-Event-ID": "7" * 1000})
    assert hello["received"]["last-event-id"] == "7" * 64


async def test_refusal_names_a_key_that_has_not_arrived(product: Product) -> None:
    missing = (await product.stranger.request("GET", PATH)).error
    wrong = (await Api(product.http, product.stranger.url, "no-such-key").request("GET", PATH)).error
    assert (missing["code"], missing["param"]) == ("invalid_api_key", "authorization")
    assert (wrong["code"], wrong["param"]) == ("invalid_api_key", None)


@pytest.mark.parametrize(
    "query",
    [
        "?events=601", "?events=-1", "?events=x", "?events=٣", "?interval_ms=9", "?interval_ms=10001", "?silence_s=301",
        "?events=", "?events=100000000000000000000", "?events=100&interval_ms=10000",
        "?events=40&interval_ms=1000&silence_s=300",
    ],
)  # fmt: skip
async def test_query_beyond_its_limits_is_refused(product: Product, query: str) -> None:
    assert (await product.api.request("GET", PATH + query)).refusal == (400, "invalid_value")


async def test_head_is_refused(product: Product) -> None:
    assert (await product.api.request("HEAD", PATH)).status == 405


async def test_caller_has_a_few_at_once_and_gets_its_places_back(product: Product) -> None:
    headers = product.anna._headers
    streams = [
        await opened(product, product.anna.url, "?events=0&silence_s=60", **headers) for _ in range(MAX_PER_CALLER)
    ]
    for stream in streams:
        await stream.until("hello")
    refused = await product.anna.request("GET", PATH + "?events=0")
    assert refused.refusal == (429, "concurrency_limit_exceeded")
    assert (await product.ben.request("GET", PATH + "?events=0")).status == 200
    for stream in streams:
        stream.cut()

    async def is_free() -> bool:
        return (await product.anna.request("GET", PATH + "?events=0")).status == 200

    await eventually(is_free)


async def test_stream_ends_with_a_hint_when_its_frontend_stops(product: Product) -> None:
    frontend = await product.stack.add_frontend()
    stream = await opened(product, frontend.url, "?events=600&interval_ms=100&silence_s=60")
    await stream.until("beat")
    await frontend.stop()
    events = await stream.rest()
    assert events[-1].kind == "beat"
    assert stream.parser.retry


async def test_stream_ends_with_its_key(product: Product, tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("anna:key-of-anna\nben:key-of-ben1")
    settings = {"api_keys": f"@{keys}", "ticket_secret": "0123456789abcdef", "keepalive_s": "1"}
    async with product.frontend(**settings) as frontend:
        stream = await opened(product, frontend.url, "?events=0&silence_s=300", authorization="Bearer key-of-anna")
        await stream.until("hello")
        keys.write_text("ben:key-of-ben1")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
        stream.cut()
