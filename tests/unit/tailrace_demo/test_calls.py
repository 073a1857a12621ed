import asyncio
import time
from typing import Any

import httpx2
from openai import AsyncOpenAI

CHAT = "/v1/chat/completions"


async def calls(http: httpx2.AsyncClient, script_id: str) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get("/calls", params={"script_id": script_id})).json()
    return told


async def leave_after_the_first_byte(http: httpx2.AsyncClient, request: dict[str, Any]) -> None:
    async with http.stream("POST", CHAT, json=request) as told:
        async for _ in told.aiter_raw():
            break


def scripted(script_id: str, *script: Any) -> dict[str, Any]:
    return {"model": "scripted", "stream": True, "script_id": script_id, "script": list(script)}


async def test_a_call_that_was_played_to_its_end_is_finished(http: httpx2.AsyncClient) -> None:
    request = scripted("whole", {"tokens": {"count": 1}}, {"done": True})
    before = time.time()
    await http.post(CHAT, json=request, headers={"authorization": "Bearer sk-test"})
    made = await calls(http, "whole")
    assert before <= made.pop("first_byte_at")[0] <= time.time()
    assert made == {
        "started": 1,
        "open": 0,
        "finished": 1,
        "closed_by_client": 0,
        "closed_at": [],
        "last_request": request,
        "authorization_seen": True,
    }


async def test_a_client_that_leaves_a_hanging_call_is_noticed_at_once(http: httpx2.AsyncClient) -> None:
    await leave_after_the_first_byte(http, scripted("hangs", {"comment": "ping"}, {"hang": True}))
    left = time.time()
    await asyncio.sleep(0.1)
    made = await calls(http, "hangs")
    assert (made["open"], made["finished"], made["closed_by_client"]) == (0, 0, 1)
    assert abs(made["closed_at"][0] - left) < 0.1


async def test_a_client_that_leaves_between_two_tokens_is_noticed_at_once(http: httpx2.AsyncClient) -> None:
    await leave_after_the_first_byte(http, scripted("slow", {"tokens": {"count": 9, "rate": 0.1}}))
    await asyncio.sleep(0.1)
    assert (await calls(http, "slow"))["closed_by_client"] == 1


async def test_an_open_call_is_counted_before_its_first_byte(http: httpx2.AsyncClient) -> None:
    waiting = asyncio.create_task(http.post(CHAT, json=scripted("waits", {"hang": True})))
    await asyncio.sleep(0.1)
    made = await calls(http, "waits")
    assert (made["started"], made["open"], made["first_byte_at"]) == (1, 1, [])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert (await calls(http, "waits"))["closed_by_client"] == 1


async def test_each_retry_of_a_client_is_a_call(base_url: str, http: httpx2.AsyncClient) -> None:
    script = [{"statuses": [500, 429], "headers": {"retry-after-ms": "1"}}, {"tokens": {"count": 1}}, {"done": True}]
    body = {"script": script, "script_id": "retried"}
    async with AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=2) as client:
        stream = await client.chat.completions.create(model="scripted", messages=[], stream=True, extra_body=body)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["t0 "]
    made = await calls(http, "retried")
    assert (made["started"], made["finished"]) == (3, 3)


async def test_the_calls_of_one_script_id_are_its_own(http: httpx2.AsyncClient) -> None:
    await http.post(CHAT, json=scripted("one", {"done": True}))
    assert (await calls(http, "another"))["started"] == 0
