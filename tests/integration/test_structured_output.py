"""Structured output: a real worker, a scripted upstream, and the verdict on its answers."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, scripted
from support.stack import stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}}
JSON_MODE = {"response_format": {"type": "json_object"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Api]:
    async with (
        stack(workers=1, frontends=1, lease_s="1", upstream_idle_timeout_s="0.8", upstream_retries="0") as running,
        aiohttp.ClientSession() as http,
    ):
        yield Api(http, running.url)


def answer(*texts: str, reason: str = "stop") -> list[Step]:
    return [*({"delta": {"content": text}} for text in texts), {"delta": {}, "finish_reason": reason}, {"done": True}]


@pytest.mark.parametrize(
    ("steps", "fields", "verdict"),
    [
        (answer('{"city": ', '"Paris"}'), FORMAT, {"parsed": True, "valid": True}),
        (answer("{}"), FORMAT, {"parsed": True, "valid": False, "error": '"city" is a required property'}),
        (answer('{"city": "P', reason="length"), FORMAT, {"parsed": False, "error": "EOF while parsing a string"}),
        (answer("[1]"), JSON_MODE, {"parsed": True}),
        (answer("Sure!"), JSON_MODE, {"parsed": False, "error": "expected value"}),
        ([{"delta": {"refusal": "No."}}, *answer()], FORMAT, {"parsed": False, "error": "The model refused"}),
        (answer("{}"), {}, None),
        ([*answer("{")[:1], {"reset": True}], FORMAT | {"tailrace": {"on_interrupt": "fail"}}, None),
    ],
)
async def test_end_has_the_verdict(api: Api, steps: list[Step], fields: Step, verdict: Step | None) -> None:
    generation_id = await api.create_scripted(*steps, **fields)
    result = await api.wait_for_result(generation_id)
    done = (await api.read(generation_id)).events[-1].value
    assert done.get("format") == result["format"]
    if verdict is None:
        assert result["format"] is None
    else:
        expected = verdict.pop("error", "")
        assert result["format"].pop("error", "").startswith(expected)
        assert result["format"] == verdict


async def test_responses_request_has_the_verdict_of_its_schema(api: Api) -> None:
    body = scripted(*answer('{"city": 1}')) | {
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}
    }
    body["input"] = body.pop("messages")
    response = (await api.request("POST", "/v1/responses", json=body)).value
    result = (await api.get(response["id"].replace("resp_", "gen_"))).value
    assert (result["format"]["parsed"], result["format"]["valid"]) == (True, False)


async def test_value_is_streamed_while_the_upstream_answers(api: Api) -> None:
    pieces = ["[", *(f'"{n}", ' for n in range(20)), "21]"]
    generation_id = await api.create_scripted(
        {"deltas": [{"content": piece} for piece in pieces], "rate": 100}, *answer()[-2:], **JSON_MODE
    )
    response = await api.events(generation_id, "?view=json")
    lines = [json.loads(line) for line in response.body.splitlines() if line]
    values = [line["value"] for line in lines]
    assert len(values) > 10
    assert all(after[: len(before)] == before for before, after in pairwise(values))
    assert (values[-1], lines[-1]["is_complete"]) == ([*map(str, range(20)), 21], True)
    assert lines[-1]["done"]["format"] == {"parsed": True}
