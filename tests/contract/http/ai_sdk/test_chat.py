"""`/api/chat` on a real server: answer, resume, stop, messages, and who may do so."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, ClassVar

import aiohttp
import pytest

from support.api import Api, Response, eventually
from support.log_writer import LogWriter
from support.logs import text_opened
from support.product import Product, has_metric
from support.ui_message_reader import UiMessageReader
from tailrace import keys
from tailrace.events import Text
from tailrace.ids import new_token

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}


class ChatStream:
    """The response to a POST or to a resumption, read as it arrives."""

    opened: ClassVar[list["ChatStream"]] = []

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.opened.append(self)
        self.response = response
        self.reader = UiMessageReader()
        self._rest = b""

    @property
    def generation_id(self) -> str:
        return self.response.headers["x-tailrace-generation"]

    def _feed(self, data: bytes) -> None:
        frames, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        self.reader.feed(frames + separator)

    async def until_text(self, text: str) -> None:
        while text not in self.reader.text:
            data = await self.response.content.readany()
            assert data, "the stream has ended"
            self._feed(data)

    async def rest(self) -> UiMessageReader:
        async for data in self.response.content.iter_any():
            self._feed(data)
        assert self._rest == b""
        return self.reader


class Chat:
    """A chat, as a page has it."""

    def __init__(self, product: Product, api: Api, chat_id: str | None = None) -> None:
        self._product = product
        self._api = api
        self.id = chat_id or new_token()
        self.path = f"/api/chat/{self.id}"

    def body(self, **fields: Any) -> dict[str, Any]:
        """What `DefaultChatTransport` sends."""
        return {"id": self.id, "messages": [ASKED], "trigger": "submit-message", "model": "demo"} | fields

    async def ask(self, **fields: Any) -> ChatStream:
        http, url = self._product.http, f"{self._api.url}/api/chat"
        response = await http.post(url, json=self.body(**fields), headers=self._api._headers)
        assert response.status == 200, await response.text()
        return ChatStream(response)

    async def post(self, **fields: Any) -> Response:
        """A POST that is refused."""
        return await self._api.request("POST", "/api/chat", json=self.body(**fields))

    async def resume(self, api: Api | None = None) -> ChatStream | None:
        """What `useChat({resume: true})` does when its page is loaded."""
        chosen = api or self._api
        response = await self._product.http.get(f"{chosen.url}{self.path}/stream", headers=chosen._headers)
        if response.status == 204:
            assert await response.read() == b""
            return None
        assert response.status == 200, await response.text()
        return ChatStream(response)

    async def stop(self) -> Response:
        return await self._api.request("POST", f"{self.path}/stop")

    async def messages(self) -> list[dict[str, Any]]:
        response = await self._api.request("GET", f"{self.path}/messages")
        assert response.status == 200
        assert response.value["id"] == self.id
        found: list[dict[str, Any]] = response.value["messages"]
        return found

    async def answer(self, *texts: str) -> tuple[ChatStream, LogWriter]:
        """An answer that has these texts and goes on."""
        stream = await self.ask()
        writer = await self._product.writer(stream.generation_id)
        await writer.write_text(*texts)
        await stream.until_text("".join(texts))
        return stream, writer


@pytest.fixture(autouse=True)
def close_streams() -> Iterator[None]:
    """What a test has not read to its end, its page has left."""
    yield
    while ChatStream.opened:
        ChatStream.opened.pop().response.close()


@pytest.fixture
def chat(product: Product) -> Chat:
    return Chat(product, product.api)


# Answering


async def test_post_is_answered_with_the_ui_message_stream(product: Product, chat: Chat) -> None:
    stream, writer = await chat.answer("Hello", " there")
    headers = stream.response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    await writer.end()
    reader = await stream.rest()
    assert (reader.text, reader.finish_reason, reader.is_done) == ("Hello there", "stop", True)
    assert reader.id == stream.generation_id.replace("gen_", "msg_")


async def test_generation_of_a_chat_is_one_like_every_other(product: Product, chat: Chat) -> None:
    stream, writer = await chat.answer("Hello")
    await writer.end()
    await stream.rest()
    generation = (await product.api.get(stream.generation_id)).value
    assert generation["request"] == {"id": chat.id, "messages": [ASKED], "trigger": "submit-message", "model": "demo"}
    assert (await product.api.read(stream.generation_id)).text == "Hello"


async def test_failure_of_a_generation_is_an_error_part_with_its_message_alone(chat: Chat) -> None:
    stream, writer = await chat.answer("Once")
    await writer.end("failed")
    reader = await stream.rest()
    assert (reader.text, reader.error) == ("Once", "The generation failed.")


async def test_options_of_tailrace_are_obeyed_and_not_stored(product: Product, chat: Chat) -> None:
    stream = await chat.ask(tailrace={"retention_s": 7, "on_interrupt": "fail"})
    state = await product.log.state(stream.generation_id)
    options = state.record.options
    assert (options.retention_s, options.on_interrupt, options.on_disconnect) == (7, "fail", "continue")
    assert "tailrace" not in (await product.api.get(stream.generation_id)).value["request"]
    await chat.stop()
    await stream.rest()


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [({"messages": []}, 400, "messages"), ({"model": None}, 400, "model"), ({"n": 3}, 400, "n")],
)
async def test_refused_post_stores_nothing(
    product: Product, chat: Chat, fields: dict[str, Any], status: int, param: str
) -> None:
    async with product.nothing_stored():
        response = await chat.post(**fields)
    assert (response.status, response.error["param"]) == (status, param)


async def test_idle_stream_is_kept_alive_by_comments(product: Product) -> None:
    async with product.frontend(keepalive_s="0.3") as frontend:
        stream = await Chat(product, Api(product.http, frontend.url)).ask()
        received = b""
        while received.count(b": ping\n\n") < 2:
            received += await stream.response.content.readany()
        stream.response.close()


# Resuming


@pytest.mark.parametrize("chat_id", ["never-seen", "💧", "gen_x", "x" * 300])
async def test_stream_of_an_unknown_chat_is_204(product: Product, chat_id: str) -> None:
    assert await Chat(product, product.api, chat_id).resume() is None


async def test_stream_is_the_answer_from_its_first_part_under_the_same_id(chat: Chat) -> None:
    """The page has been reloaded three times: one message, with the whole text."""
    stream, writer = await chat.answer("Hello", " there")
    stream.response.close()
    again = [await chat.resume() for _ in range(3)]
    await writer.write_text("!")
    await writer.end()
    readers = [await each.rest() for each in again if each]
    assert {(reader.id, reader.text) for reader in readers} == {(stream.reader.id, "Hello there!")}
    assert len(readers) == 3


async def test_stream_is_the_same_on_another_frontend(product: Product, chat: Chat) -> None:
    stream, writer = await chat.answer("Hello")
    async with product.frontend() as frontend:
        other = await chat.resume(Api(product.http, frontend.url))
        assert other is not None
        await writer.end()
        whole, resumed = await stream.rest(), await other.rest()
    assert (resumed.id, resumed.parts) == (whole.id, whole.parts)


async def test_answer_goes_on_while_its_page_is_away(chat: Chat) -> None:
    stream, writer = await chat.answer("Once")
    stream.response.close()
    await writer.write_text(" upon")
    resumed = await chat.resume()
    assert resumed is not None
    await resumed.until_text("Once upon")
    await writer.end()
    assert (await resumed.rest()).text == "Once upon"


async def test_stream_of_an_answer_that_has_ended_is_204(chat: Chat) -> None:
    stream, writer = await chat.answer("Hello")
    await writer.end()
    await stream.rest()
    assert await chat.resume() is None


async def test_chat_maps_to_its_newest_answer_and_the_one_before_is_cancelled(product: Product, chat: Chat) -> None:
    first, _ = await chat.answer("first")
    second, _ = await chat.answer("second")
    resumed = await chat.resume()
    assert resumed is not None
    assert resumed.generation_id == second.generation_id
    before = await first.rest()
    assert (before.text, before.finish_reason) == ("first", "other")
    assert (await product.log.state(first.generation_id)).status == "cancelled"
    assert (await chat.stop()).value["id"] == second.generation_id
    for stream in (second, resumed):
        await stream.rest()


# Stopping


async def test_stop_ends_the_answer_and_what_it_has_can_be_loaded(product: Product, chat: Chat) -> None:
    stream, _ = await chat.answer("Once", " upon")
    response = await chat.stop()
    assert (response.status, response.value) == (200, {"id": stream.generation_id, "status": "cancelled"})
    reader = await stream.rest()
    assert (reader.finish_reason, reader.error) == ("other", None)
    assert {part["state"] for part in reader.parts if "state" in part} == {"done"}
    assert (await product.log.state(stream.generation_id)).status == "cancelled"
    assert await chat.resume() is None
    answer = {"id": reader.id, "role": "assistant", "parts": reader.parts}
    assert await chat.messages() == [ASKED, answer]


async def test_stop_is_idempotent_and_an_unknown_chat_has_nothing_to_stop(product: Product, chat: Chat) -> None:
    stream = await chat.ask()
    responses = await asyncio.gather(*(chat.stop() for _ in range(5)))
    assert {(response.status, response.value["status"]) for response in responses} == {(200, "cancelled")}
    assert await stream.rest()
    assert (await Chat(product, product.api).stop()).status == 204


async def test_stopped_answer_is_history_of_the_next_post(product: Product, chat: Chat) -> None:
    stream, _ = await chat.answer("Once")
    await chat.stop()
    await stream.rest()
    history = [*await chat.messages(), {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "Go on."}]}]
    again = await chat.ask(messages=history)
    assert (await product.api.get(again.generation_id)).value["request"]["messages"] == history
    await chat.stop()
    await again.rest()
    assert await chat.messages() == history, "an answer that was stopped before it began is no message"


# Messages


async def test_messages_of_an_unknown_chat_are_none(product: Product) -> None:
    assert await Chat(product, product.api).messages() == []


async def test_messages_have_an_answer_that_ended_with_no_reader(chat: Chat) -> None:
    stream, writer = await chat.answer("Hello")
    stream.response.close()
    assert await chat.messages() == [ASKED], "the answer comes by the stream"
    await writer.end()
    (asked, answer) = await chat.messages()
    assert asked == ASKED
    assert answer["id"] == stream.reader.id
    assert answer["parts"][1:] == [{"type": "text", "text": "Hello", "state": "done"}]


async def test_messages_of_an_expired_chat_are_none(chat: Chat) -> None:
    stream = await chat.ask(tailrace={"retention_s": 1})
    await chat.stop()
    await stream.rest()

    async def has_expired() -> bool:
        return await chat.messages() == []

    await eventually(has_expired)
    assert await chat.resume() is None


# Owners


async def test_chat_of_another_caller_is_an_unknown_one(product: Product) -> None:
    hers = Chat(product, product.anna)
    stream, writer = await hers.answer("secret")
    his = Chat(product, product.ben, hers.id)
    assert await his.resume() is None
    assert await his.messages() == []
    assert (await his.stop()).status == 204
    his_answer = await his.ask()
    resumed = await hers.resume()
    assert resumed is not None
    assert resumed.generation_id == stream.generation_id
    await writer.end()
    assert (await stream.rest()).text == "secret"
    assert (await resumed.rest()).text == "secret"
    await his.stop()
    await his_answer.rest()


async def test_chat_needs_a_key_where_there_are_keys(product: Product) -> None:
    for method, path in (("POST", ""), ("GET", "/c/stream"), ("POST", "/c/stop"), ("GET", "/c/messages")):
        response = await product.stranger.request(method, f"/api/chat{path}", json=Chat(product, product.api).body())
        assert response.refusal == (401, "invalid_api_key")


async def test_key_of_a_chat_has_no_text_of_the_page(product: Product) -> None:
    chat = Chat(product, product.api, "my-secret-chat")
    stream = await chat.ask()
    names = [name async for name in product.log.server.client.scan_iter(match="*:chat:*", count=1000)]
    assert keys.chat("open", chat.id).encode() in names
    assert not [name for name in names if b"my-secret-chat" in name]
    await chat.stop()
    await stream.rest()


# Failures of the frontend


async def test_stopping_frontend_cuts_the_stream_and_the_answer_goes_on(product: Product, chat: Chat) -> None:
    """A regular end would leave the page `ready` with half an answer."""
    async with product.frontend(drain_s="0.2") as frontend:
        there = Api(product.http, frontend.url)
        on_it = Chat(product, there)
        stream, writer = await on_it.answer("Once")
        await frontend.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
        assert stream.reader.finish_reason is None
    resumed = await Chat(product, product.api, on_it.id).resume()
    assert resumed is not None
    await writer.write_text(" upon")
    await writer.end()
    assert (await resumed.rest()).text == "Once upon"


async def test_restarted_answer_is_an_error_for_its_readers_and_whole_for_later_ones(
    product: Product, chat: Chat
) -> None:
    stream, first = await chat.answer("Once")
    await product.log.release(stream.generation_id, first.epoch, new_token())
    second = await LogWriter.acquire(product.log, stream.generation_id, new_token(), worker="second")
    await second.write(second.restarted(2))
    reader = await stream.rest()
    assert reader.error == "The answer was interrupted and has restarted: read it again from its beginning."
    resumed = await chat.resume()
    assert resumed is not None
    await second.write(text_opened(1), Text(1, "Twice"))
    await second.end()
    whole = await resumed.rest()
    assert (whole.id, whole.text, whole.error) == (reader.id, "Twice", None)


async def test_last_place_of_a_reader_leaves_nothing_behind(product: Product) -> None:
    async with product.frontend(max_readers="1") as frontend:
        api = Api(product.http, frontend.url)
        chat = Chat(product, api)
        stream = await chat.ask()
        async with product.nothing_stored():
            response = await Chat(product, api).post()
        assert response.refusal == (429, "rate_limit_exceeded")
        await chat.stop()
        await stream.rest()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))


async def test_body_of_an_error_is_json_which_the_page_shows_as_it_is(product: Product, chat: Chat) -> None:
    response = await chat.post(messages=[{"role": "user", "content": "?"}])
    assert json.loads(response.body)["error"]["message"] == "messages[0].parts: must be a list"
