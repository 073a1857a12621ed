"""Each scenario of the demo model on a real worker, by either API of an upstream: it ends as its row has it, and so
does its `-once`."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api
from support.stack import stack
from tailrace_demo.scenarios import RESTARTS, RETRIES, SCENARIOS

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

RATES = {"slow": 50, "byte-by-byte": 5, "byte-by-byte-first": 5, "byte-by-byte-first-once": 5}
"""Tokens and bytes a second; of all others, more than any test has time for."""

DIALECTS = ("chat", "responses")
FAULTS = [name for name, row in SCENARIOS.items() if row.is_fault]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DIALECTS)
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    async with (
        stack(
            upstream_first_token_timeout_s="0.8",
            upstream_idle_timeout_s="0.8",
            max_attempts="2",
            upstream_retries="1",
            upstream_dialect=request.param,
        ) as running,
        aiohttp.ClientSession() as http,
    ):
        yield Api(http, running.url)


async def played(api: Api, name: str) -> Any:
    body = {
        "model": f"demo:{name}@{RATES.get(name, 4000)}",
        "messages": [{"role": "user", "content": name}],
    }
    response = await api.post(body)
    assert response.status == 202
    return await api.wait_for_result(response.value["id"])


def end_of(result: Any) -> str:
    code = (result["error"] or {}).get("code")
    return f"{result['status']} {code}" if code else str(result["status"])


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario_ends_as_its_row_has_it(api: Api, name: str) -> None:
    result = await played(api, name)
    assert end_of(result) == SCENARIOS[name].end
    assert "sk-" not in str(result["error"])
    if name == "no-usage":
        assert result["usage"]["estimated"]


async def test_json_that_does_not_fit_its_schema_is_reported(api: Api) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    formats = {}
    for name in ("json-mode", "json-misfit"):
        body = {"model": f"demo:{name}@4000", "messages": [], "response_format": wanted}
        response = await api.post({**body, "messages": [{"role": "user", "content": name}]})
        formats[name] = (await api.wait_for_result(response.value["id"]))["format"]
    assert all(each["parsed"] and each["valid"] is False for each in formats.values()), formats


@pytest.mark.parametrize("name", FAULTS)
async def test_fault_that_happens_once_is_survived_where_tailrace_calls_again(api: Api, name: str) -> None:
    row, result = SCENARIOS[name], await played(api, f"{name}-once")
    calls_again = RESTARTS in row.tailrace or RETRIES in row.tailrace or row.tailrace == "as for `500`"
    assert end_of(result) == ("completed" if calls_again else row.end)
    if calls_again:
        assert "demo model" in result["output"][0]["text"]
