"""The scripted upstream's Responses API, also in the background."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from support.api import eventually

PATH = "/v1/responses"


def event(number: int, name: str = "output_text.delta") -> dict[str, Any]:
    return {"type": f"response.{name}", "sequence_number": number, "response": {"id": "resp_demo"}}


def scripted(*script: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "input": "Hello?", "stream": True, "script": list(script), **fields}


def numbers_in(body: bytes) -> list[int]:
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line)["sequence_number"] for line in lines]


async def read(http: httpx2.AsyncClient, path: str, **request: Any) -> tuple[list[int], bool]:
    """The numbers of the events that arrive, and whether the body was whole."""
    received = b""
    method = "POST" if "json" in request else "GET"
    try:
        async with http.stream(method, path, **request) as response:
            async for data in response.aiter_raw():
                received += data
    except httpx2.TransportError:
        return numbers_in(received), False
    return numbers_in(received), True


async def test_events_are_framed_by_their_type(http: httpx2.AsyncClient) -> None:
    response = await http.post(PATH, json=scripted({"events": [{"type": "error", "code": 7}, {"error": "x"}]}))
    assert response.text == 'event: error\ndata: {"type":"error","code":7}\n\ndata: {"error":"x"}\n\n'


async def test_status_comes_first(http: httpx2.AsyncClient) -> None:
    script = scripted({"statuses": [503]}, {"events": [event(0)]}, script_id="responses-status")
    assert (await http.post(PATH, json=script)).status_code == 503
    assert (await http.post(PATH, json=script)).status_code == 200


@pytest.mark.parametrize(("cut", "is_whole"), [("reset", False), ("eof", True)])
async def test_answer_in_the_background_goes_on_without_its_reader(
    http: httpx2.AsyncClient, cut: str, is_whole: bool
) -> None:
    script = scripted({"events": [event(0), event(1)]}, {cut: True}, {"events": [event(2), event(3)]}, background=True)
    assert await read(http, PATH, json=script) == ([0, 1], is_whole)
    assert await read(http, f"{PATH}/resp_demo?stream=true&starting_after=1") == ([2, 3], True)
    assert await read(http, f"{PATH}/resp_demo?stream=true") == ([0, 1, 2, 3], True)
    assert (await http.get(f"{PATH}/resp_demo")).json()["status"] == "completed"


async def test_answer_in_the_background_is_cancelled(http: httpx2.AsyncClient) -> None:
    script = scripted({"events": [event(0)]}, {"hang": True}, background=True)
    reading = asyncio.create_task(read(http, PATH, json=script))

    async def has_begun() -> bool:
        return bool((await http.get(f"{PATH}/resp_demo")).json().get("status") == "in_progress")

    await eventually(has_begun)
    assert (await http.post(f"{PATH}/resp_demo/cancel")).json()["status"] == "cancelled"
    assert await reading == ([0], True)


async def test_unknown_answer_is_404(http: httpx2.AsyncClient) -> None:
    assert (await http.get(f"{PATH}/resp_other")).status_code == 404
