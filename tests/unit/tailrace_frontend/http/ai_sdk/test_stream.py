"""The stream of a chat on a fake Redis: what is sent, and how the response ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from support.hub_harness import Client, HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from support.ui_message_reader import UiMessageReader
from tailrace import jsoncodec, keys
from tailrace.events import Entry, GenerationRecord
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.http.ai_sdk.stream import answer_chat
from tailrace_frontend.http.stream_endpoint import stream_headers
from tailrace_frontend.services import Services

CHAT = "chat-1"
RECORD = record(owner="open", api="ui-messages")
ENTRIES = LOGS["text"](RECORD)
VARIES = (b"vary", b"Origin")
NAMED = (b"x-tailrace-generation", RECORD.id.encode())


class ChatHarness(HubHarness):
    """Services on the harness' log, and a chat that maps to its record."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.services = Services(Settings(**settings))
        self.services.log = self.hub.log
        self.services.chats._queue.index._server = self.log.server
        self.services.generations._states._log = self.services.generations._log = self.services.encoders._log = self.log
        self.hub = self.services.hub
        self.hub.log = self.log

    async def begin(self, entries: Sequence[Entry], of: GenerationRecord = RECORD) -> None:
        await self.redis.flushall()
        await self.create(of, entries)
        await self.redis.set(keys.chat(of.owner, CHAT), f"{of.created} {of.id}")

    async def get(self, chat_id: str = CHAT, **headers: str) -> Client:
        """`GET …/stream`, until the response has begun."""
        client = Client()
        raw = [(name.encode(), value.encode()) for name, value in ({"host": "localhost"} | headers).items()]
        scope = {"type": "http", "query_string": b"", "headers": raw, SCOPE: client.connection}
        self.tasks.append(asyncio.create_task(answer_chat(self.services, chat_id, scope, client.send)))
        await until(lambda: client.messages)
        return client


@pytest.fixture
async def frontend() -> AsyncIterator[ChatHarness]:
    frontend = ChatHarness(cors_origins="https://app.example.org")
    yield frontend
    await frontend.close()


async def test_stream_begins_with_the_first_part_and_goes_on_live(frontend: ChatHarness) -> None:
    await frontend.begin(ENTRIES[:4])
    client = await frontend.get()
    assert client.start["status"] == 200
    assert client.start["headers"] == stream_headers(WIRE_FORMATS["ui-messages"], [VARIES, NAMED])
    assert (b"x-vercel-ai-ui-message-stream", b"v1") in client.start["headers"]
    await until(lambda: client.body)
    frontend.confirm(RECORD)
    await frontend.append(RECORD, ENTRIES[4:])
    await until(lambda: client.completed)
    reader = UiMessageReader.of(client.body)
    assert (reader.text, reader.finish_reason, reader.is_done) == ("Hello, world\u2028.", "stop", True)


async def test_stream_is_the_same_for_every_reader(frontend: ChatHarness) -> None:
    """Each reload of the page reads the answer from its beginning, under the same id."""
    await frontend.begin(ENTRIES[:-1])
    clients = [await frontend.get() for _ in range(3)]
    await until(lambda: all(client.body.count(b"text-delta") for client in clients))
    frontend.confirm(RECORD)
    await frontend.append(RECORD, ENTRIES[-1:])
    await until(lambda: all(client.completed for client in clients))
    readers = [UiMessageReader.of(client.body) for client in clients]
    assert {reader.id for reader in readers} == {"msg_abcdefghijklmnopqrstuvwxyz"}
    assert {reader.text for reader in readers} == {"Hello, world\u2028."}


async def test_stream_of_an_answer_to_results_begins_with_the_message_that_it_goes_on_with(
    frontend: ChatHarness,
) -> None:
    """The page empties the message when it resumes: without the call its next request would lack it."""
    call = {"type": "tool-look", "toolCallId": "c", "state": "output-available", "input": {}, "output": 1}
    message = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, call]}
    await frontend.begin(ENTRIES[:4])
    await frontend.redis.hset(keys.state(RECORD.id), "request", jsoncodec.dumps({"messages": [message]}))
    client = await frontend.get()
    await until(lambda: b"text-start" in client.body)
    chunks = [jsoncodec.loads(frame[6:]) for frame in client.body.split(b"\n\n")[:-1]]
    assert [chunk["type"] for chunk in chunks[:7]] == [
        "start", "start-step", "tool-input-start", "tool-input-delta", "tool-output-available", "start", "start-step",
    ]  # fmt: skip
    assert {chunk["messageId"] for chunk in chunks if chunk["type"] == "start"} == {"a1"}


@pytest.mark.parametrize("log", ["text", "failed", "cancelled"])
async def test_chat_whose_answer_has_ended_is_204(frontend: ChatHarness, log: str) -> None:
    await frontend.begin(LOGS[log](RECORD))
    client = await frontend.get()
    assert client.start == {"type": "http.response.start", "status": 204, "headers": [VARIES]}
    assert client.body == b""


async def test_unknown_chat_is_204_also_for_another_origin(frontend: ChatHarness) -> None:
    client = await frontend.get("unknown", origin="https://app.example.org")
    assert client.start["status"] == 204
    assert (b"access-control-allow-origin", b"https://app.example.org") in client.start["headers"]


async def test_chat_of_another_owner_and_one_that_is_gone_are_204(frontend: ChatHarness) -> None:
    await frontend.begin(ENTRIES[:4], record(owner="anna"))
    assert (await frontend.get()).start["status"] == 204
    await frontend.begin(ENTRIES[:4])
    await frontend.delete(RECORD)
    assert (await frontend.get()).start["status"] == 204


async def test_draining_frontend_cuts_the_stream(frontend: ChatHarness) -> None:
    """A regular end without `finish` would leave a partial answer that looks complete, without a way to resume it."""
    await frontend.begin(ENTRIES[:4])
    client = await frontend.get()
    await until(lambda: client.body)
    (connection,) = frontend.hub.connections
    connection.drain()
    await until(client.was_aborted)
    assert not client.completed


async def test_reader_after_a_restart_gets_the_last_attempt_alone(frontend: ChatHarness) -> None:
    entries = LOGS["restarted"](RECORD)
    await frontend.begin(entries[:-1])
    await frontend.redis.hset(keys.state(RECORD.id), mapping={"attempt": 2})
    client = await frontend.get()
    await until(lambda: b"upon" in client.body)
    reader = UiMessageReader.of(client.body)
    assert (reader.text, reader.error) == ("Twice upon", None)
    assert reader.types[:3] == ["start", "start-step", "text-start"]


async def test_reader_during_a_restart_is_sent_an_error(frontend: ChatHarness) -> None:
    entries = LOGS["restarted"](RECORD)
    at = next(k for k, entry in enumerate(entries) if entry.event.kind == "restarted")
    await frontend.begin(entries[:at])
    client = await frontend.get()
    await until(lambda: client.body)
    frontend.confirm(RECORD)
    await frontend.append(RECORD, entries[at:])
    await until(lambda: client.completed)
    reader = UiMessageReader.of(client.body)
    assert reader.error == "The answer was interrupted and has restarted: read it again from its beginning."
    assert "Twice" not in reader.text


async def test_reader_of_a_log_that_disappears_is_sent_an_error(frontend: ChatHarness) -> None:
    await frontend.begin(ENTRIES[:4])
    client = await frontend.get()
    await until(lambda: client.body)
    frontend.confirm(RECORD)
    await frontend.delete(RECORD)
    await until(lambda: client.completed)
    assert UiMessageReader.of(client.body).error == "This generation is no longer stored (deleted)."


async def test_reader_beyond_the_limit_is_refused() -> None:
    frontend = ChatHarness(max_readers=1)
    await frontend.begin(ENTRIES[:4])
    await frontend.get()
    client = await frontend.get(accept="text/event-stream")
    assert client.start["status"] == 429
    assert b"Concurrent stream limit" in client.body
    await frontend.close()
