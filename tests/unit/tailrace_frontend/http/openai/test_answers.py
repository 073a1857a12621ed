"""Answers that wait, on fake sockets: when the status is sent, what follows it, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from support.frontend_harness import FrontendHarness
from support.hub_harness import Client, until
from support.logs import record
from support.named_logs import LOGS
from tailrace import jsoncodec
from tailrace.errors import RedisUnavailable
from tailrace.events import Entry, Json
from tailrace.failures import failure
from tailrace.ids import EntryId
from tailrace.log.state import GenerationState
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.callers import OPEN_KEY
from tailrace_frontend.http.openai import errors
from tailrace_frontend.http.openai.answers import StreamedAnswer, WholeAnswer
from tailrace_frontend.http.openai.errors import AnswerFailed

RECORD = record(owner="open", foreground=True)
ENTRIES = LOGS["text"](RECORD)
CHAT, RESPONSES = WIRE_FORMATS["openai-chat"], WIRE_FORMATS["openai-responses"]
OBJECT = b'{"object":"x"}'
KEEPALIVE_S = 0.05


@pytest.fixture
async def frontend() -> AsyncIterator[FrontendHarness]:
    frontend = FrontendHarness(max_readers=1, keepalive_s=KEEPALIVE_S)
    yield frontend
    await frontend.close()


@pytest.fixture
async def slow() -> AsyncIterator[FrontendHarness]:
    """A frontend that sends no status before there is one."""
    frontend = FrontendHarness(max_readers=1, keepalive_s=60)
    yield frontend
    await frontend.close()


def header(client: Client, name: bytes) -> bytes | None:
    return dict(client.start["headers"]).get(name)


def error_of(client: Client) -> Json:
    error: Json = jsoncodec.loads(client.body)["error"]
    return error


class Answer:
    """An answer under way."""

    def __init__(self, frontend: FrontendHarness, response: Any) -> None:
        self.client = Client()
        self.task = asyncio.create_task(frontend.send(response, self.client))

    async def end(self) -> Client:
        async with asyncio.timeout(5):
            return await self.task


async def begin(frontend: FrontendHarness, entries: list[Entry]) -> GenerationState:
    await frontend.create(RECORD, entries)
    return await frontend.log.state(RECORD.id)


async def read(state: GenerationState, _: bool) -> bytes:
    assert state.is_final
    return OBJECT


async def streamed(
    frontend: FrontendHarness, entries: list[Entry], *, after: EntryId | None = None, wire: Any = CHAT,
    may_repeat: bool = True,
) -> Answer:  # fmt: skip
    state = await begin(frontend, entries)
    return Answer(frontend, StreamedAnswer(frontend.services, OPEN_KEY, state, wire, after, may_repeat=may_repeat))


async def whole(
    frontend: FrontendHarness, entries: list[Entry], read: Any = read, *, will_repeat: bool = False
) -> Answer:
    state = await begin(frontend, entries)
    response = WholeAnswer(frontend.services, OPEN_KEY, state, read, may_repeat=True, will_repeat=will_repeat)
    answer = Answer(frontend, response)
    await until(lambda: frontend.hub.count or answer.task.done())
    return answer


# a stream


@pytest.mark.parametrize("wire", [CHAT, RESPONSES])
async def test_stream_sends_its_status_with_the_first_output(slow: FrontendHarness, wire: Any) -> None:
    answer = await streamed(slow, ENTRIES[:1], wire=wire)
    await until(lambda: slow.hub.count)
    await slow.append(RECORD, ENTRIES[1:2])
    await asyncio.sleep(0.02)
    assert answer.client.messages == []
    await slow.append(RECORD, ENTRIES[2:4])
    await until(lambda: answer.client.writes)
    assert (slow.hub.count, slow.hub.tails) == (1, 1)
    await slow.append(RECORD, ENTRIES[4:])
    client = await answer.end()
    assert client.start["status"] == 200
    assert header(client, b"x-tailrace-generation") == RECORD.id.encode()
    assert header(client, b"content-type") == b"text/event-stream; charset=utf-8"
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert client.completed
    assert (slow.hub.count, slow.hub.tails) == (0, 0)


async def test_stream_without_output_sends_its_status_after_an_interval(frontend: FrontendHarness) -> None:
    answer = await streamed(frontend, ENTRIES[:1])
    await until(lambda: answer.client.messages)
    assert answer.client.start["status"] == 200
    await frontend.append(RECORD, ENTRIES[1:])
    assert (await answer.end()).body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("live", [True, False])
async def test_stream_that_fails_before_its_first_output_is_a_true_error(slow: FrontendHarness, live: bool) -> None:
    entries = LOGS["failed-at-once"](RECORD)
    answer = await streamed(slow, entries[:1] if live else entries)
    if live:
        await until(lambda: slow.hub.count)
        await slow.append(RECORD, entries[1:])
    client = await answer.end()
    assert client.start["status"] == 502  # the upstream named a code, and this log knows no status
    assert header(client, b"content-type") == b"application/json"
    assert header(client, b"x-tailrace-generation") == RECORD.id.encode()
    assert header(client, b"x-should-retry") == b"false"
    assert error_of(client)["code"] == "model_not_found"
    assert slow.count("requests_refused", status="502") == 1
    assert slow.hub.count == 0


async def test_stream_that_fails_after_its_first_output_ends_with_an_error(slow: FrontendHarness) -> None:
    client = await (await streamed(slow, LOGS["failed"](RECORD))).end()
    assert client.start["status"] == 200
    assert b'"code":"rate_limit_exceeded"' in client.body
    assert b"[DONE]" not in client.body


async def test_stream_from_a_position_sends_its_status_at_once_and_the_rest(slow: FrontendHarness) -> None:
    answer = await streamed(slow, ENTRIES[:3], after=ENTRIES[2].id)
    await until(lambda: answer.client.messages)
    await slow.append(RECORD, ENTRIES[3:])
    client = await answer.end()
    assert client.body == b"".join(CHAT.bind(RECORD, None)(entry) or b"" for entry in ENTRIES[3:])


async def test_stream_of_a_generation_in_the_background_sends_its_status_at_once(slow: FrontendHarness) -> None:
    await slow.create(RECORD, ENTRIES[:1])
    in_background = msgspec.structs.replace(RECORD, foreground=False)
    state = msgspec.structs.replace(await slow.log.state(RECORD.id), record=in_background)
    answer = Answer(slow, StreamedAnswer(slow.services, OPEN_KEY, state, RESPONSES, may_repeat=True))
    await until(lambda: answer.client.writes)
    assert answer.client.kinds[0] == "response.created"
    await slow.append(RECORD, ENTRIES[1:])
    await answer.end()


async def test_stream_breaks_off_before_its_status_where_the_process_stops(slow: FrontendHarness) -> None:
    """The client repeats its request elsewhere; a status could not be taken back."""
    answer = await streamed(slow, ENTRIES[:1])
    await until(lambda: slow.hub.count)
    await slow.hub.drain(0.05)
    client = await answer.end()
    assert client.messages == []
    assert client.was_aborted()


async def test_stream_whose_client_leaves_before_its_status_gives_its_place_back(slow: FrontendHarness) -> None:
    answer = await streamed(slow, ENTRIES[:1])
    await until(lambda: slow.hub.count)
    answer.client.disconnect()
    await answer.end()
    assert (slow.hub.count, slow.hub.tails, answer.client.messages) == (0, 0, [])


async def test_stream_without_a_place_is_refused_with_the_generations_id(slow: FrontendHarness) -> None:
    state = await begin(slow, ENTRIES[:1])
    await slow.connect(RECORD)
    client = await slow.send(StreamedAnswer(slow.services, OPEN_KEY, state, CHAT, may_repeat=True))
    assert client.start["status"] == 429
    assert header(client, b"retry-after") == b"1"
    assert header(client, b"x-tailrace-generation") == RECORD.id.encode()


@pytest.mark.parametrize("may_repeat", [True, False])
async def test_stream_after_a_rate_limit_is_repeated_only_by_a_request_that_creates(
    slow: FrontendHarness, monkeypatch: pytest.MonkeyPatch, may_repeat: bool
) -> None:
    monkeypatch.setattr(errors, "http_status_of", lambda _: 429)
    client = await (await streamed(slow, LOGS["failed-at-once"](RECORD), may_repeat=may_repeat)).end()
    assert client.start["status"] == 429
    assert (header(client, b"x-should-retry") == b"false") is not may_repeat


# an object


async def test_object_is_sent_at_the_end(slow: FrontendHarness) -> None:
    answer = await whole(slow, ENTRIES[:3])
    await asyncio.sleep(0.02)
    assert answer.client.messages == []
    await slow.append(RECORD, ENTRIES[3:])
    client = await answer.end()
    assert (client.start["status"], client.body) == (200, OBJECT)
    assert header(client, b"content-length") == str(len(OBJECT)).encode()
    assert header(client, b"x-tailrace-generation") == RECORD.id.encode()
    assert slow.hub.count == 0


async def test_object_that_takes_long_is_preceded_by_spaces(frontend: FrontendHarness) -> None:
    answer = await whole(frontend, ENTRIES[:3])
    await until(lambda: len(answer.client.writes) >= 3)
    await frontend.append(RECORD, ENTRIES[3:])
    client = await answer.end()
    assert client.body.lstrip(b" ") == OBJECT
    assert len(client.body) >= len(OBJECT) + 3
    assert jsoncodec.loads(client.body) == {"object": "x"}
    assert header(client, b"content-length") is None
    assert header(client, b"content-type") == b"application/json"
    assert header(client, b"x-accel-buffering") == b"no"
    assert header(client, b"x-tailrace-generation") == RECORD.id.encode()
    assert client.completed


async def failing(_: GenerationState, __: bool) -> bytes:
    raise AnswerFailed(failure("upstream_timeout"))


async def test_object_of_a_failed_generation_is_a_true_error(slow: FrontendHarness) -> None:
    client = await (await whole(slow, ENTRIES, failing)).end()
    assert (client.start["status"], error_of(client)["code"]) == (504, "upstream_timeout")
    assert header(client, b"x-should-retry") == b"false"


async def test_object_that_fails_after_its_status_is_an_error_body(frontend: FrontendHarness) -> None:
    answer = await whole(frontend, ENTRIES[:3], failing)
    await until(lambda: answer.client.writes)
    await frontend.append(RECORD, ENTRIES[3:])
    client = await answer.end()
    assert (client.start["status"], error_of(client)["code"]) == (200, "upstream_timeout")
    assert client.completed
    assert frontend.count("requests_refused", status="504") == 1


async def test_late_failure_breaks_the_body_off_where_its_client_repeats(
    frontend: FrontendHarness,
) -> None:
    answer = await whole(frontend, ENTRIES[:3], failing, will_repeat=True)
    await until(lambda: answer.client.writes)
    await frontend.append(RECORD, ENTRIES[3:])
    client = await answer.end()
    assert client.body.strip() == b""
    assert not client.completed
    assert frontend.count("requests_refused", status="504") == 1


async def test_object_that_cannot_be_read_is_an_error_that_no_sdk_repeats(slow: FrontendHarness) -> None:
    async def away(_: GenerationState, __: bool) -> bytes:
        raise RedisUnavailable

    client = await (await whole(slow, ENTRIES, away)).end()
    assert client.start["status"] == 503
    assert header(client, b"x-should-retry") == b"false"


@pytest.mark.parametrize("is_late", [False, True])
async def test_object_breaks_off_where_the_process_stops(
    frontend: FrontendHarness, slow: FrontendHarness, is_late: bool
) -> None:
    used = frontend if is_late else slow
    answer = await whole(used, ENTRIES[:3])
    if is_late:
        await until(lambda: answer.client.writes)
    await used.hub.drain(0.05)
    client = await answer.end()
    assert client.was_aborted()
    assert not client.completed
    assert bool(client.messages) == is_late


async def test_object_breaks_off_where_its_key_was_withdrawn(
    frontend: FrontendHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await whole(frontend, ENTRIES[:3])
    monkeypatch.setattr(frontend.services.callers, "may_read", lambda _: False)
    assert (await answer.end()).was_aborted()
    assert frontend.hub.count == 0


async def test_object_whose_client_leaves_gives_its_place_back(slow: FrontendHarness) -> None:
    answer = await whole(slow, ENTRIES[:3])
    answer.client.disconnect()
    await answer.end()
    assert (slow.hub.count, slow.hub.tails, answer.client.messages) == (0, 0, [])


async def test_object_of_a_generation_that_has_ended_takes_no_place(slow: FrontendHarness) -> None:
    state = await begin(slow, ENTRIES)
    await slow.connect(RECORD)
    client = await slow.send(WholeAnswer(slow.services, OPEN_KEY, state, read, may_repeat=False, will_repeat=False))
    assert client.body == OBJECT
