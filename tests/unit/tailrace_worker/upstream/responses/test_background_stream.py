"""BackgroundStream: how a lost connection, or the answer of a lost worker, is taken up."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import httpx2
import openai
import pytest

from support.api import eventually
from support.logs import record
from support.responses_streams import EXACT, STREAMS, Json, event
from support.responses_upstream import Upstream, renamed
from tailrace import jsoncodec
from tailrace.upstreams import DEFAULT_UPSTREAM
from tailrace_worker.upstream import retry_after
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream.responses import background_stream
from tailrace_worker.upstream.responses.background_stream import (
    MAX_ID_CHARACTERS,
    MAX_RESUMPTIONS,
    BackgroundStream,
    Position,
)
from tailrace_worker.upstream.responses.stream import open_stream


def rate_limit(retry_after: str) -> openai.RateLimitError:
    request = httpx2.Request("GET", "http://upstream/v1/responses/resp_1")
    response = httpx2.Response(429, headers={"retry-after": retry_after}, request=request)
    return openai.RateLimitError("status 429", response=response, body=None)


def stream_at(number: int | None = None, lost: int = 0) -> BackgroundStream:
    """A stream that was read up to an event, and lost so often since."""
    responses = SimpleNamespace(cancel=AsyncMock(), with_streaming_response=SimpleNamespace(retrieve=Mock()))
    sdk = SimpleNamespace(responses=responses)
    client = SimpleNamespace(config=DEFAULT_UPSTREAM, idle_timeout_s=30.0, sdk=sdk)
    stream = BackgroundStream(cast("UpstreamClient", client), cast("Any", None), BackgroundResponse())
    stream._position.response_id = "" if number is None else "resp_1"
    if number is not None:
        stream._position.update([b'{"sequence_number":%d}' % number])
    stream._lost = lost
    if lost:
        stream._lost_at = time.monotonic()
    return stream


@pytest.mark.parametrize("cut", ["reset", "eof"])
@pytest.mark.parametrize("name", ["text", "encrypted_summary", "hosted_tools", "background"])
async def test_answer_that_is_kept_is_taken_up_where_it_was_cut(upstream: Upstream, name: str, cut: str) -> None:
    response_id, events = renamed(EXACT[name])
    steps: list[Json] = []
    for at in range(0, len(events), 3):
        steps += [{"events": events[at : at + 3]}, {cut: True}, {"sleep": 0.01}]
    assert await upstream.read(upstream.request(*steps), background=True) == events
    calls = await upstream.calls()
    assert (calls["started"], calls["last_request"]["background"], calls["last_request"]["store"]) == (1, True, True)

    async def has_ended() -> bool:
        return await upstream.status(response_id) == "completed"

    await eventually(has_ended)


@pytest.mark.parametrize("before", [2, 8])
async def test_event_without_a_number_costs_no_position(upstream: Upstream, before: int) -> None:
    _, events = renamed(EXACT["text"])
    alive: Json = {"type": "keepalive"}
    steps: list[Json] = [
        {"events": events[:before]}, {"sleep": 0.05}, {"events": [alive]}, {"sleep": 0.05}, {"reset": True},
        {"sleep": 0.05}, {"events": events[before:]},
    ]  # fmt: skip
    read = await upstream.read(upstream.request(*steps), background=True)
    assert [each for each in read if each != alive] == events
    assert (await upstream.calls())["started"] == 1


async def test_silent_connection_is_replaced_once(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, events = renamed(EXACT["text"])
    steps: list[Json] = [{"events": events[:8]}, {"sleep": 1.0}, {"events": events[8:]}]
    assert await upstream.read(upstream.request(*steps), background=True, idle_timeout_s=0.6) == events
    assert [each.partition(": ")[2] for each in caplog.messages if "silent" in each] == ["silent for 0.3 s"]
    assert (await upstream.calls())["started"] == 1


@pytest.mark.parametrize(
    ("error", "lost", "longest_s"),
    [(None, 0, 0.0), (ConnectionLost("cut"), 0, 0.0), (ConnectionLost("cut"), 3, 4.0), (rate_limit("7"), 0, 8.75)],
)
def test_delay_before_an_answer_is_taken_up_is_that_of_any_retry(
    error: Exception | None, lost: int, longest_s: float
) -> None:
    stream = stream_at(5, lost)
    delay_s = stream._delay_before_next(error)
    assert delay_s is not None
    assert (7 if error and "429" in str(error) else 0) <= delay_s <= longest_s


@pytest.mark.parametrize(("error", "lost"), [(rate_limit("3600"), 0), (None, MAX_RESUMPTIONS)])
def test_answer_that_is_lost_too_often_or_for_too_long_is_given_up(error: Exception | None, lost: int) -> None:
    assert stream_at(5, lost)._delay_before_next(error) is None


class Connections:
    """What each connection to an upstream has, in place of `stream_payloads`; then it is lost. The last one is
    repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *connections: list[Json]) -> None:
        self.opened = 0
        self._connections = connections
        monkeypatch.setattr(background_stream, "stream_payloads", self._open)
        monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.0)

    async def _open(self, *_: Any) -> AsyncGenerator[list[bytes], None]:
        events = self._connections[min(self.opened, len(self._connections) - 1)]
        self.opened += 1
        for each in events:
            yield [json.dumps(each).encode()]
        raise ConnectionLost("cut")


def numbered(*numbers: int) -> list[Json]:
    response = {"id": "resp_1"}
    return [{"type": "response.x", "sequence_number": number, "response": response} for number in numbers]


async def read_numbers(stream: BackgroundStream) -> list[int]:
    async with aclosing(stream.payloads()) as reads:
        return [json.loads(payload)["sequence_number"] async for payloads in reads for payload in payloads]


async def test_upstream_that_repeats_what_was_read_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[Json] = [*numbered(0, 1, 2, 3), {"type": "response.completed", "sequence_number": 4, "response": {}}]
    connections = Connections(monkeypatch, whole[:2], whole[:4], whole)
    assert await read_numbers(stream_at()) == [0, 1, 2, 3, 4]
    assert connections.opened == 3


@pytest.mark.parametrize("again", [numbered(0, 1), [{"object": "response", "id": "resp_1", "status": "in_progress"}]])
async def test_connections_without_a_new_event_are_bounded(monkeypatch: pytest.MonkeyPatch, again: list[Json]) -> None:
    connections = Connections(monkeypatch, numbered(0, 1), again)
    with pytest.raises(ConnectionLost):
        await read_numbers(stream_at())
    assert connections.opened == 1 + MAX_RESUMPTIONS


async def test_whole_answer_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"object": "response", "id": "resp_1", "status": "completed", "sequence_number": None}
    connections = Connections(monkeypatch, numbered(0, 1), [whole])
    assert await read_numbers(stream_at()) == [0, 1, None]
    assert connections.opened == 2


async def test_answer_without_numbers_cannot_be_taken_up(upstream: Upstream) -> None:
    _, events = renamed(STREAMS["llama_cpp"])
    with pytest.raises(ConnectionLost):
        await upstream.read(upstream.request({"events": events[:5]}, {"reset": True}), background=True)


async def test_answer_that_the_upstream_has_lost_ends_in_its_error(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, events = renamed(EXACT["text"])
    monkeypatch.setattr(Position, "response_id", property(lambda _: "resp_other", lambda *_: None), raising=False)
    with pytest.raises(openai.NotFoundError):
        await upstream.read(upstream.request({"events": events[:5]}, {"reset": True}), background=True)


async def test_attempts_to_take_up_an_answer_are_bounded(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.0)
    response_id, events = renamed(EXACT["text"])
    script: list[Json] = [{"events": events[:5]}, *({"reset": True} for _ in range(50)), {"hang": True}]
    with pytest.raises(ConnectionLost):
        await upstream.read(upstream.request(*script), background=True)
    assert await upstream.status(response_id) == "cancelled"


async def leave(upstream: Upstream, request: Json, background: BackgroundResponse) -> None:
    """Read a part of an answer."""
    client = upstream.client(background=True)
    async with aclosing(open_stream(client, record(api="responses"), request, background)) as opened:
        await anext(opened)
    await client.close()


async def test_answer_that_a_worker_has_left_is_read_from_its_beginning(upstream: Upstream) -> None:
    response_id, events = renamed(EXACT["text"])
    request = upstream.request({"events": events[:5]}, {"sleep": 0.3}, {"events": events[5:]})
    background = BackgroundResponse()
    stored: list[str] = []
    background.on_change = lambda: stored.append(background.stored)
    background.is_taken_over = True
    await leave(upstream, request, background)
    name = upstream.client().config.name
    assert stored == [background.stored] == [f"{name} {response_id}"]
    left = BackgroundResponse(background.stored)
    assert await upstream.read(request, background=True, left=left) == events
    assert (left.stored, (await upstream.calls())["started"]) == ("", 1)


@pytest.mark.parametrize("where", ["lost", "elsewhere"])
async def test_answer_that_the_upstream_does_not_have_is_requested(upstream: Upstream, where: str) -> None:
    _, events = renamed(EXACT["text"])
    name = upstream.client().config.name if where == "lost" else "another-upstream"
    left = BackgroundResponse(f"{name} resp_unknown")
    assert await upstream.read(upstream.request({"events": events}), background=True, left=left) == events
    assert (await upstream.calls())["started"] == 1


async def test_answer_that_is_read_no_further_is_cancelled(upstream: Upstream) -> None:
    response_id, events = renamed(EXACT["text"])
    background = BackgroundResponse()
    await leave(upstream, upstream.request({"events": events[:5]}, {"hang": True}), background)
    assert (await upstream.status(response_id), background.stored) == ("cancelled", "")


async def test_cancelled_task_cancels_the_answer(upstream: Upstream) -> None:
    response_id, events = renamed(EXACT["text"])
    reading = asyncio.create_task(
        upstream.read(upstream.request({"events": events[:5]}, {"hang": True}), background=True)
    )

    async def has_begun() -> bool:
        return await upstream.status(response_id) == "in_progress"

    await eventually(has_begun)
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await upstream.status(response_id) == "cancelled"


def test_id_of_any_length_is_not_stored() -> None:
    for length, known in ((MAX_ID_CHARACTERS, True), (MAX_ID_CHARACTERS + 1, False)):
        position = Position()
        position.update([json.dumps({"sequence_number": 0, "response": {"id": "x" * length}}).encode()])
        assert bool(position.response_id) is position.can_resume is known


def test_position_is_that_of_the_last_numbered_event() -> None:
    position = Position()
    assert not position.can_resume
    created = event("created", response={"id": "resp_1"}, sequence_number=0)
    position.update([jsoncodec.dumps(each) for each in (created, event("in_progress", sequence_number=1))])
    assert (position.response_id, position.number, position.can_resume) == ("resp_1", 1, True)
    position.update([jsoncodec.dumps(event("keepalive"))])
    assert (position.number, position.has_ended) == (1, False)
    position.update([jsoncodec.dumps(event("completed", response={"id": "resp_1"}, sequence_number=2))])
    assert (position.number, position.has_ended) == (2, True)
