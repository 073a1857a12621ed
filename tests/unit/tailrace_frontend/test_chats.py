"""The operations on chats without HTTP, on a real server."""

from typing import Any

import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on
from support.log_writer import LogWriter
from support.logs import call_opened
from support.queues import LEASE_MS, queue_on
from tailrace.events import Json, Options, ToolArguments
from tailrace.log import Log
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_frontend.chats import Chats
from tailrace_frontend.generations import Generations
from tailrace_frontend.streaming.hub import Hub

OWNER, CHAT = "anna", "chat-1"
OPTIONS = Options(deadline_s=60, retention_s=60)
ASKED: Json = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}
STEP: Json = {"type": "step-start"}


class ChatHarness:
    """Chats, and the generations that they stand for."""

    def __init__(self, log: Log, queue: Queue) -> None:
        settings = Settings(lease_s=LEASE_MS / 1000)
        self.log = log
        self.generations = Generations(settings, log, queue, confirmations_on(log, queue), Hub(settings, log))
        self.chats = Chats(queue, self.generations)

    async def ask(self, *messages: Json, chat_id: str = CHAT, owner: str = OWNER) -> str:
        """A new answer in the chat: its generation."""
        request = {"id": chat_id, "model": "demo", "messages": list(messages or [ASKED])}
        state, _ = await self.generations.create(owner, request, OPTIONS, record_fields={"api": "ui-messages"})
        await self.chats.begin_answer(chat_id, state)
        return state.record.id

    async def write(self, generation_id: str, *texts: str) -> LogWriter:
        writer = await LogWriter.start(self.log, generation_id)
        await writer.write_text(*texts)
        return writer

    async def messages(self, **of: Any) -> list[Json]:
        return await self.chats.messages(of.get("chat_id", CHAT), of.get("owner", OWNER))


@pytest.fixture
def harness(redis: Redis, log: Log) -> ChatHarness:
    return ChatHarness(log, queue_on(redis))


def answer(generation_id: str, *parts: Json) -> Json:
    return {"id": generation_id.replace("gen_", "msg_"), "role": "assistant", "parts": [STEP, *parts]}


def text(value: str) -> Json:
    return {"type": "text", "text": value, "state": "done"}


async def test_unknown_chat_has_no_generation_and_no_messages(harness: ChatHarness) -> None:
    assert await harness.chats.newest(CHAT, OWNER) is None
    assert await harness.chats.stop(CHAT, OWNER) is None
    assert await harness.messages() == []


async def test_chat_stands_for_the_newest_of_its_generations(harness: ChatHarness) -> None:
    for _ in range(2):
        generation_id = await harness.ask()
        state = await harness.chats.newest(CHAT, OWNER)
        assert state is not None
        assert state.record.id == generation_id
        assert state.record.api == "ui-messages"


async def test_chat_of_another_owner_is_unknown(harness: ChatHarness) -> None:
    generation_id = await harness.ask()
    assert await harness.chats.newest(CHAT, "ben") is None
    assert await harness.chats.stop(CHAT, "ben") is None
    assert await harness.messages(owner="ben") == []
    assert not (await harness.log.state(generation_id)).is_final


async def test_chat_whose_generation_was_deleted_is_unknown(harness: ChatHarness) -> None:
    await harness.generations.delete(await harness.ask(), OWNER)
    assert await harness.chats.newest(CHAT, OWNER) is None
    assert await harness.chats.stop(CHAT, OWNER) is None
    assert await harness.messages() == []


async def test_stop_cancels_the_answer_and_keeps_what_it_has(harness: ChatHarness) -> None:
    generation_id = await harness.ask()
    await harness.write(generation_id, "Once", " upon")
    for _ in range(2):
        state = await harness.chats.stop(CHAT, OWNER)
        assert state is not None
        assert (state.record.id, state.status) == (generation_id, "cancelled")
    assert await harness.messages() == [ASKED, answer(generation_id, text("Once upon"))]


async def test_stop_leaves_an_answer_that_has_ended(harness: ChatHarness) -> None:
    await (await harness.write(await harness.ask(), "Yes")).end()
    state = await harness.chats.stop(CHAT, OWNER)
    assert state is not None
    assert state.status == "completed"


async def test_answer_that_is_being_written_is_cancelled_by_the_next_one(harness: ChatHarness) -> None:
    """A page whose stop button only closes its connection asks again while the upstream still runs."""
    first = await harness.ask()
    await harness.write(first, "Once")
    second = await harness.ask()
    assert (await harness.log.state(first)).status == "cancelled"
    assert (await harness.log.state(second)).status == "queued"


async def test_answer_that_has_ended_is_left_by_the_next_one(harness: ChatHarness) -> None:
    first = await harness.ask()
    await (await harness.write(first, "Yes")).end()
    await harness.ask()
    assert (await harness.log.state(first)).status == "completed"


async def test_answer_that_was_deleted_does_not_hinder_the_next_one(harness: ChatHarness) -> None:
    await harness.generations.delete(await harness.ask(), OWNER)
    assert (await harness.log.state(await harness.ask())).status == "queued"


async def test_messages_have_the_answer_once_it_has_ended(harness: ChatHarness) -> None:
    """Until then the page reads it from the stream, from its first part: it would be there twice."""
    generation_id = await harness.ask()
    writer = await harness.write(generation_id, "Hello", " there")
    assert await harness.messages() == [ASKED]
    await writer.end()
    assert await harness.messages() == [ASKED, answer(generation_id, text("Hello there"))]


async def test_messages_of_a_failed_answer_have_what_it_wrote(harness: ChatHarness) -> None:
    generation_id = await harness.ask()
    await (await harness.write(generation_id, "Once")).end("failed")
    assert await harness.messages() == [ASKED, answer(generation_id, text("Once"))]


async def test_messages_of_an_answer_that_never_began_are_those_that_were_sent(harness: ChatHarness) -> None:
    await harness.ask()
    await harness.chats.stop(CHAT, OWNER)
    assert await harness.messages() == [ASKED]


async def test_messages_of_an_answer_that_goes_on_with_a_message_are_as_many_as_before(harness: ChatHarness) -> None:
    call: Json = {"type": "tool-search", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}
    begun = {"id": "a1", "role": "assistant", "parts": [STEP, call]}
    generation_id = await harness.ask(ASKED, begun)
    await (await harness.write(generation_id, "Found")).end()
    assert await harness.messages() == [ASKED, begun | {"parts": [STEP, call, STEP, text("Found")]}]


async def test_messages_leave_out_a_call_that_was_stopped(harness: ChatHarness) -> None:
    generation_id = await harness.ask()
    writer = await harness.write(generation_id, "Let me look.")
    await writer.write(call_opened(1), ToolArguments(1, '{"q', call="functions.search:0"))
    await harness.chats.stop(CHAT, OWNER)
    assert await harness.messages() == [ASKED, answer(generation_id, text("Let me look."))]
