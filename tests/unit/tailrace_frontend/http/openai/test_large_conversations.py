"""Small requests that continue a large conversation, on a real server: they follow the rules for large bodies."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from support.asgi import Response, ask
from support.log_writer import LogWriter
from tailrace import jsoncodec
from tailrace.events import Options
from tailrace.ids import RESPONSE_PREFIX, id_as
from tailrace.translation.input_items import input_items
from tailrace_frontend.callers import OPEN_KEY
from tailrace_frontend.http.api import create_api
from tailrace_frontend.large_requests import LARGE_BYTES, TURN_BYTES
from tailrace_frontend.services import Services
from tailrace_frontend.upstream_requests import request_for

PATH = "/v1/responses"
OPTIONS = Options(deadline_s=60, retention_s=60)
LARGE = TURN_BYTES + 1


async def ended(services: Services, size: int) -> str:
    """The id of a response that has ended, with an input of so many bytes."""
    asked = {"model": "demo", "input": [{"role": "user", "content": "x" * size}]}
    state, _ = await services.generations.create(OPEN_KEY.owner, asked, OPTIONS, record_fields={"api": "responses"})
    writer = await LogWriter.start(services.log, state.record.id)
    await writer.end()
    return id_as(RESPONSE_PREFIX, state.record.id)


async def post(services: Services, path: str, previous: str, text: str = "And?") -> Response:
    body = {"model": "demo", "input": text, "background": True, "previous_response_id": previous}
    return await ask(create_api(services), "POST", path, body=jsoncodec.dumps(body))


@pytest.mark.parametrize("path", [PATH, PATH + "/input_tokens"])
async def test_large_conversation_waits_for_its_turn_and_a_small_one_does_not(services: Services, path: str) -> None:
    small, large = await ended(services, 10), await ended(services, LARGE)
    async with services.turn(LARGE):
        waiting = asyncio.create_task(post(services, path, large))
        assert (await post(services, path, small)).status == 200
        assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    assert (await asyncio.wait_for(waiting, 5)).status == 200


@pytest.mark.parametrize("path", [PATH, PATH + "/input_tokens"])
async def test_large_body_that_continues_a_large_conversation_needs_one_turn(services: Services, path: str) -> None:
    large = await ended(services, LARGE)
    assert (await asyncio.wait_for(post(services, path, large, "y" * LARGE), 5)).status == 200
    async with services.turn(LARGE):
        pass


class Turns:
    """Counts the turns of the event loop, and notes in which of them a function works on something large."""

    def __init__(self) -> None:
        self.now = 0
        self.used: list[int] = []

    async def count(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)

    def noted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if any(_size(each) > LARGE_BYTES for each in arguments):
                self.used.append(self.now)
            return function(*arguments, **named)

        return call


def _size(value: Any) -> int:
    return value.nbytes if isinstance(value, memoryview) else len(str(value))


@pytest.mark.parametrize(
    ("method", "tail", "steps"), [("POST", "", 5), ("POST", "/input_tokens", 4), ("GET", "/{}/input_items", 3)]
)
async def test_steps_of_a_large_conversation_are_in_turns_of_their_own(
    services: Services, monkeypatch: pytest.MonkeyPatch, method: str, tail: str, steps: int
) -> None:
    large, turns = await ended(services, LARGE), Turns()
    for module in ("conversation", "http.openai.responses"):
        monkeypatch.setattr(f"tailrace_frontend.{module}.input_items", turns.noted(input_items))
    monkeypatch.setattr("tailrace_frontend.http.openai.responses.request_for", turns.noted(request_for))
    monkeypatch.setattr(msgspec.json, "decode", turns.noted(msgspec.json.decode))
    monkeypatch.setattr(jsoncodec, "dumps", turns.noted(jsoncodec.dumps))
    counting = asyncio.create_task(turns.count())
    if method == "GET":
        response = await ask(create_api(services), method, PATH + tail.format(large))
    else:
        response = await post(services, PATH + tail, large)
    counting.cancel()
    assert response.status == 200, response.body
    assert len(turns.used) >= steps
    assert len(set(turns.used)) == len(turns.used)
