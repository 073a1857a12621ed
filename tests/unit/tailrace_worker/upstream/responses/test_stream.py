"""open_stream: the request that is sent, and where the answer ends."""

import time

import pytest

from support.logs import record
from support.responses_streams import EXACT
from support.responses_upstream import Upstream
from tailrace import jsoncodec
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream.responses.stream import open_stream


async def test_request_is_a_stream_that_is_not_kept(upstream: Upstream) -> None:
    request = upstream.request({"events": EXACT["text"]}, stream=False, background=True, tools=[{"type": "web_search"}])
    assert await upstream.read(request) == EXACT["text"]
    asked = (await upstream.calls())["last_request"]
    assert asked == {name: value for name, value in request.items() if name != "background"} | {
        "stream": True,
        "store": False,
    }


async def test_nothing_behind_the_last_event_is_read(upstream: Upstream) -> None:
    request = upstream.request({"events": EXACT["text"]}, {"raw": "data: [DONE]\n\n"}, {"hang": True})
    began = time.monotonic()
    assert await upstream.read(request) == EXACT["text"]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("background", [False, True])
async def test_cut_connection_is_an_error_where_the_answer_is_not_kept(upstream: Upstream, background: bool) -> None:
    request = upstream.request({"events": EXACT["text"][:5]}, {"reset": True})
    with pytest.raises(ConnectionLost):
        await upstream.read(request, background=background, store=False)
    asked = (await upstream.calls())["last_request"]
    assert ("background" in asked, asked["store"]) == (False, False)


async def test_request_that_the_api_has_no_place_for_is_a_failure_of_the_stream(upstream: Upstream) -> None:
    client = upstream.client()
    opened = open_stream(client, record(api="chat"), {"model": "m", "messages": [], "n": 2})
    ((payload,),) = [each async for each in opened]
    await client.close()
    error = jsoncodec.loads(payload)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "unsupported_parameter", "n")
