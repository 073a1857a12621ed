import asyncio
import time
from typing import Any

import httpx2
from openai import AsyncOpenAI

CHAT = "/v1/chat/completions"


async def calls(http: httpx2.AsyncClient, script_id: str) -> dict[str, Any]:
    record: dict[str, Any] = (await http.get("/calls", params={"script_id": script_id})).json()
    return record


async def calls_with(http: httpx2.AsyncClient, script_id: str, field: str, count: int) -> dict[str, Any]:
    """The record, once `field` has this count."""
    async with asyncio.timeout(10):
        while (record := await calls(http, script_id))[field] != count:  # noqa: ASYNC110 - a server that cannot call back
            await asyncio.sleep(0.005)
    return record


async def disconnect_after_the_first_byte(http: httpx2.AsyncClient, request: dict[str, Any]) -> None:
    async with http.stream("POST", CHAT, json=request) as response:
        async for _ in response.aiter_raw():
            break


def scripted(script_id: str, *script: Any) -> dict[str, Any]:
    return {"model": "scripted", "stream": True, "script_id": script_id, "script": list(script)}


async def test_call_played_to_its_end_is_counted_as_finished(http: httpx2.AsyncClient) -> None:
    request = scripted("whole", {"tokens": {"count": 1}}, {"done": True})
    before = time.time()
    await http.post(CHAT, json=request, headers={"authorization": "Bearer sk-test"})
    record = await calls(http, "whole")
    assert before <= record.pop("first_byte_at")[0] <= time.time()
    assert record == {
        "started": 1,
        "open": 0,
        "finished": 1,
        "closed_by_client": 0,
        "closed_at": [],
        "last_request": request,
        "authorization_seen": True,
    }


async def test_disconnect_during_a_hanging_call_is_noticed(http: httpx2.AsyncClient) -> None:
    before = time.time()
    await disconnect_after_the_first_byte(http, scripted("hangs", {"comment": "ping"}, {"hang": True}))
    record = await calls_with(http, "hangs", "closed_by_client", 1)
    assert (record["open"], record["finished"]) == (0, 0)
    assert before <= record["closed_at"][0] <= time.time()


async def test_disconnect_is_noticed_while_the_next_token_is_awaited(http: httpx2.AsyncClient) -> None:
    await disconnect_after_the_first_byte(http, scripted("slow", {"tokens": {"count": 2, "rate": 0.001}}))
    assert (await calls_with(http, "slow", "closed_by_client", 1))["finished"] == 0


async def test_open_call_is_counted_before_its_first_byte(http: httpx2.AsyncClient) -> None:
    waiting = asyncio.create_task(http.post(CHAT, json=scripted("waits", {"hang": True})))
    record = await calls_with(http, "waits", "started", 1)
    assert (record["open"], record["first_byte_at"]) == (1, [])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await calls_with(http, "waits", "closed_by_client", 1)


async def test_retries_of_a_client_are_counted_as_calls(base_url: str, http: httpx2.AsyncClient) -> None:
    script = [{"statuses": [500, 429], "headers": {"retry-after-ms": "1"}}, {"tokens": {"count": 1}}, {"done": True}]
    body = {"script": script, "script_id": "retried"}
    async with AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=2) as client:
        stream = await client.chat.completions.create(model="scripted", messages=[], stream=True, extra_body=body)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["t0 "]
    record = await calls(http, "retried")
    assert (record["started"], record["finished"]) == (3, 3)


async def test_calls_are_counted_per_script_id(http: httpx2.AsyncClient) -> None:
    await http.post(CHAT, json=scripted("one", {"done": True}))
    assert (await calls(http, "another"))["started"] == 0
