"""The AI SDK itself, from npm: its reader on every stream, and its chat, which `useChat` wraps, on a whole product."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support import npm
from support.api import eventually
from support.logs import REQUEST
from support.stack import Stack, stack
from support.wire_parsing import CASES, Case, encoded
from tailrace.ids import new_token
from tailrace.wire import WIRE_FORMATS, ui_message_object
from tailrace_cli.children import die_with_parent

HERE = Path(__file__).parent / "ai_sdk"
WIRE = WIRE_FORMATS["ui-messages"]
Json = dict[str, Any]
DONE: list[Json] = [{"done": True}]
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}

pytestmark = [
    pytest.mark.long,
    npm.requires_npm,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def sdk() -> Path:
    """The folder of the scripts, with their locked npm packages installed."""
    return npm.install(HERE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(sdk: Path) -> AsyncIterator[Stack]:  # installed before processes measure their leases
    async with stack(lease_s="1", drain_s="0.2", model="scripted", frontends=2) as running:
        yield running


# ── the reader ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sdk_reads_every_stream_as_the_messages_of_the_chat_have_it(sdk: Path) -> None:
    """No stream puts the page into its error state but by its own `error`, and each leaves what a later load shows."""
    cases = {name: Case(name) for name in CASES}
    streams = {name: encoded(WIRE, case.record, case.last_attempt).decode() for name, case in cases.items()}
    pages = json.loads(await output_of("read.mjs", sdk, json.dumps(streams).encode()))
    assert pages.keys() == cases.keys()
    for name, page in pages.items():
        case = cases[name]
        is_read = case.is_whole or case.done.status == "cancelled"
        assert (page["status"] == "ready") is is_read, name
        assert page.get("error") == (None if is_read else (case.done.error and case.done.error.message)), name
        context = ui_message_object.context(case.record, REQUEST)
        answer = ui_message_object.with_answer(REQUEST["messages"], context, case.done.output)[1:]
        assert [without_cut_calls(message) for message in page["messages"]] == answer, name


async def output_of(script: str, folder: Path, given: bytes) -> bytes:
    """The output of a script that ends by itself."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", script, cwd=folder, env=npm.environment(), stdin=pipe, stdout=pipe, stderr=pipe,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    output, errors = await process.communicate(given)
    assert process.returncode == 0, errors.decode()
    return output


def without_cut_calls(message: Json) -> Json:
    """A call that was cut short stays in the page that has watched it, and is not loaded again."""
    return message | {"parts": [part for part in message["parts"] if part.get("state") != "input-streaming"]}


# ── the chat ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Page:
    """A chat of the SDK in a process of its own, as a page of a browser has it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.state: Json = {}

    @classmethod
    async def open(cls, url: str, chat_id: str | None = None, **options: Any) -> "Page":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "node", "chat.mjs", cwd=HERE, env=npm.environment(), stdin=pipe, stdout=pipe, preexec_fn=die_with_parent
        )
        page = cls(process)
        await page.do("open", id=chat_id or new_token(), url=url, **options)
        return page

    async def do(self, command: str, **options: Any) -> Json:
        """Run a command; the state of the chat after it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **options}).encode() + b"\n")
        self.state = json.loads(await self._process.stdout.readline())
        return self.state

    async def ask(self, text: str = "?") -> Json:
        """Send a message and wait for the whole answer."""
        await self.do("send", text=text)
        return await self.do("end")

    async def resume(self) -> Json:
        await self.do("resume")
        return await self.do("end")

    @property
    def id(self) -> str:
        return str(self.state["id"])

    @property
    def answer(self) -> Json:
        message: Json = self.state["messages"][-1]
        assert message["role"] == "assistant"
        return message

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.answer["parts"] if part["type"] == "text")

    @property
    def end(self) -> Json:
        """What `onFinish` received for the last request."""
        last: Json = self.state["finished"][-1]
        return last

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def pages() -> AsyncIterator[list[Page]]:
    """Pages that end with the test."""
    opened: list[Page] = []
    yield opened
    for page in opened:
        await page.close()


async def opened(pages: list[Page], product: Stack, *steps: Json, **options: Any) -> Page:
    """A page whose answers have these steps."""
    given: Json = {"bodies": [{"script": [*steps, *DONE]}]} | options
    page = await Page.open(product.url, **given)
    pages.append(page)
    return page


def finish(reason: str) -> Json:
    return {"delta": {}, "finish_reason": reason}


def content(text: str) -> Json:
    return {"delta": {"content": text}}


SLOW = 60
"""Tokens a second of an answer in whose middle a page is left: a busy machine needs a second for that."""


def tokens(count: int, rate: float = 200) -> Json:
    return {"tokens": {"count": count, "rate": rate}}


def text_of(count: int) -> str:
    return "".join(f"t{k} " for k in range(count))


def call(index: int, call_id: str, arguments: str, name: str = "look") -> Json:
    function = {"name": name, "arguments": arguments}
    return {"delta": {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}}


async def get(url: str) -> Json:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        value: Json = await response.json()
        return value


async def loaded(product: Stack, page: Page) -> list[Json]:
    messages: list[Json] = (await get(f"{product.url}/api/chat/{page.id}/messages"))["messages"]
    return messages


async def stop(product: Stack, page: Page) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{product.url}/api/chat/{page.id}/stop") as response:
        assert response.status == 200


@pytest.mark.parametrize("text", ["Hello there.", "ä€💧\u2028\u2029\x85\n\n: x\ndata: y\r\n", " "])
async def test_text_arrives_as_the_upstream_sent_it(product: Stack, pages: list[Page], text: str) -> None:
    page = await opened(pages, product, *map(content, text), finish("stop"))
    state = await page.ask()
    assert (state["status"], page.text, page.end["finishReason"]) == ("ready", text, "stop")
    assert [part["type"] for part in page.answer["parts"]] == ["step-start", "text"]
    assert (await loaded(product, page))[-1] == page.answer


async def test_reasoning_and_text_are_parts_of_their_own(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, {"delta": {"reasoning_content": "Hm."}}, content("Yes."), finish("stop"))
    await page.ask()
    assert [(part["type"], part.get("text")) for part in page.answer["parts"][1:]] == [
        ("reasoning", "Hm."),
        ("text", "Yes."),
    ]
    assert (await loaded(product, page))[-1] == page.answer


@pytest.mark.parametrize(
    ("reason", "finish_reason"), [("length", "length"), ("content_filter", "content-filter"), ("eos", "other")]
)
async def test_finish_reason_reaches_the_page(
    product: Stack, pages: list[Page], reason: str, finish_reason: str
) -> None:
    page = await opened(pages, product, content("Once upon a"), finish(reason))
    assert (await page.ask())["status"] == "ready"
    assert (page.text, page.end["finishReason"]) == ("Once upon a", finish_reason)


async def test_refusal_is_a_text_that_returns_as_a_refusal(product: Stack, pages: list[Page]) -> None:
    script_id = new_token()
    script = [{"delta": {"refusal": "I cannot."}}, finish("stop"), *DONE]
    page = await opened(pages, product, bodies=[{"script": script, "script_id": script_id}])
    await page.ask()
    assert page.text == "I cannot."
    await page.ask("Why?")
    sent = (await upstream(product, script_id))["last_request"]["messages"]
    assert sent == [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"role": "user", "content": "Why?"},
    ]


async def test_structured_output_is_asked_for_by_the_body(product: Stack, pages: list[Page]) -> None:
    script_id, schema = new_token(), {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    body = {"script": [content('{"a":1}'), finish("stop"), *DONE], "script_id": script_id, "response_format": schema}
    page = await opened(pages, product, bodies=[body])
    await page.ask()
    assert json.loads(page.text) == {"a": 1}
    assert (await upstream(product, script_id))["last_request"]["response_format"] == schema


async def upstream(product: Stack, script_id: str) -> Json:
    return await get(f"{product.upstream.removesuffix('/v1')}/calls?script_id={script_id}")


async def test_parallel_calls_are_run_by_the_page_and_their_results_asked_about(
    product: Stack, pages: list[Page]
) -> None:
    script_id = new_token()
    asks = [content("Let me look."), call(0, "c0", '{"q":0}'), call(1, "c1", '{"q":1}'), finish("tool_calls"), *DONE]
    answers = [content("Found."), finish("stop"), *DONE]
    bodies = [{"script": script, "script_id": script_id, "tools": [LOOK]} for script in (asks, answers)]
    page = await opened(pages, product, bodies=bodies, results={"look": {"found": True}})
    state = await page.ask()
    assert state["requests"] == ["POST /api/chat"] * 2
    assert [message["role"] for message in state["messages"]] == ["user", "assistant"], "the answer goes on"
    assert [part["type"] for part in page.answer["parts"]] == [
        "step-start", "text", "tool-look", "tool-look", "step-start", "text",
    ]  # fmt: skip
    assert page.text == "Let me look.Found."
    sent = (await upstream(product, script_id))["last_request"]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[3] == {"role": "tool", "tool_call_id": "c1", "content": '{"found":true}'}
    assert await loaded(product, page) == state["messages"]


async def test_call_of_an_unknown_tool_is_a_dynamic_one(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, call(0, "c0", '{"q":0}'), finish("tool_calls"))
    await page.ask()
    part = page.answer["parts"][-1]
    assert (part["type"], part["toolName"], part["state"]) == ("dynamic-tool", "look", "input-available")
    assert (await loaded(product, page))[-1] == page.answer


@pytest.mark.parametrize("tools", [[LOOK], []])
async def test_call_whose_arguments_are_no_json_is_an_error_of_the_call(
    product: Stack, pages: list[Page], tools: list[Json]
) -> None:
    body = {"script": [call(0, "c0", '{"q'), finish("tool_calls"), *DONE], "tools": tools}
    page = await opened(pages, product, bodies=[body])
    state = await page.ask()
    assert (state["status"], page.answer["parts"][-1]["state"]) == ("ready", "output-error")
    assert await loaded(product, page) == state["messages"]


async def test_failure_in_the_middle_is_the_error_of_the_page(product: Stack, pages: list[Page]) -> None:
    failure = {"raw": 'data: {"error":{"message":"Overloaded.","code":"overloaded"}}\n\n'}
    page = await opened(pages, product, content("Once"), failure)
    state = await page.ask()
    assert (state["status"], state["error"]["message"], page.text) == ("error", "Overloaded.", "Once")
    assert page.end["isError"] is True


async def test_refused_request_is_the_error_of_the_page_with_the_whole_body(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, bodies=[{"n": 3}])
    state = await page.ask()
    assert state["status"] == "error"
    assert json.loads(state["error"]["message"])["error"]["param"] == "n"


# ── resuming ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_resuming_an_unknown_chat_changes_nothing(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product)
    state = await page.resume()
    assert (state["status"], state["messages"]) == ("ready", [])
    assert state["requests"] == [f"GET /api/chat/{page.id}/stream"]
    assert "error" not in state


async def test_resuming_from_a_404_is_an_error_of_the_page(product: Stack, pages: list[Page]) -> None:
    """The reason why an unknown chat must be 204."""
    page = await Page.open(f"{product.url}/nowhere")
    pages.append(page)
    state = await page.resume()
    assert state["status"] == "error"
    assert json.loads(state["error"]["message"])["error"]["code"] == "not_found"


async def test_reloaded_page_reads_the_answer_from_its_beginning(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, tokens(200, SLOW), finish("stop"))
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    await page.close()
    before = await loaded(product, page)
    assert [message["role"] for message in before] == ["user"]
    again = await Page.open(product.frontends[1].url, page.id, messages=before)
    pages.append(again)
    state = await again.resume()
    assert (state["status"], again.text) == ("ready", text_of(200))
    assert await loaded(product, again) == state["messages"]


async def test_reload_in_the_answer_to_results_loses_no_call(product: Stack, pages: list[Page]) -> None:
    """The SDK begins the whole message again, also its steps before the results. No tool is run twice."""
    asks = [{"delta": {"reasoning_content": "Hm."}}, content("Let me look."), call(0, "c0", '{"q":0}')]
    asks += [call(1, "c1", "{}", "peek"), finish("tool_calls"), *DONE]
    answers = [tokens(200, SLOW), finish("stop"), *DONE]
    results = {"look": {"found": True}, "peek": "seen"}
    bodies = [{"script": script, "tools": [LOOK]} for script in (asks, answers)]
    page = await opened(pages, product, bodies=bodies, results=results)
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    await page.close()
    before = await loaded(product, page)
    again = await Page.open(product.frontends[1].url, page.id, messages=before, results=results)
    pages.append(again)
    state = await again.resume()
    assert (state["status"], state["requests"]) == ("ready", [f"GET /api/chat/{page.id}/stream"])
    assert [part["type"] for part in again.answer["parts"]] == [
        "step-start", "reasoning", "text", "tool-look", "dynamic-tool", "step-start", "text",
    ]  # fmt: skip
    assert again.text == "Let me look." + text_of(200)
    assert await loaded(product, again) == state["messages"]


async def test_page_that_keeps_partial_answers_has_one_message_after_three_reloads(
    product: Stack, pages: list[Page]
) -> None:
    page = await opened(pages, product, tokens(600, SLOW), finish("stop"))
    await page.do("send", text="?")
    for reload in range(1, 4):
        await page.do("text", contains=f"t{20 * reload} ")
        kept, chat_id = page.state["messages"], page.id
        await page.close()
        page = await Page.open(product.url, chat_id, messages=kept)
        pages.append(page)
        await page.do("resume")
    state = await page.do("end")
    assert [message["role"] for message in state["messages"]] == ["user", "assistant"]
    assert text_of(600) in page.text


async def test_finished_answer_is_not_streamed_again(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, content("Yes."), finish("stop"))
    await page.ask()
    state = await page.resume()
    assert (state["status"], page.text, len(state["messages"])) == ("ready", "Yes.", 2)


async def test_cut_connection_is_an_error_and_never_a_whole_answer(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, tokens(300, SLOW), finish("stop"))
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGKILL)
    state = await page.do("end")
    assert state["status"] == "error"
    assert "finishReason" not in page.end
    await frontend.start()
    await frontend.ready()
    await page.do("keep", messages=await loaded(product, page))
    assert (await page.resume())["status"] == "ready"
    assert page.text == text_of(300)


async def test_stopping_frontend_is_an_error_and_never_a_whole_answer(product: Stack, pages: list[Page]) -> None:
    page = await opened(pages, product, tokens(300, SLOW), finish("stop"))
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGTERM)
    assert (await page.do("end"))["status"] == "error"
    await frontend.start()
    await frontend.ready()
    await page.do("keep", messages=await loaded(product, page))
    assert (await page.resume())["status"] == "ready"
    assert page.text == text_of(300)


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stop_of_the_sdk_leaves_the_page_alone(product: Stack, pages: list[Page]) -> None:
    """It closes the connection: the answer goes on and can be resumed."""
    page = await opened(pages, product, tokens(200, SLOW), finish("stop"))
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    await page.do("stop")
    assert (await page.do("end"))["status"] == "ready"
    assert page.end["isAbort"] is True
    await page.do("keep", messages=await loaded(product, page))
    await page.resume()
    assert page.text == text_of(200)


async def test_stop_of_the_server_ends_the_answer_for_the_page_and_at_the_upstream(
    product: Stack, pages: list[Page]
) -> None:
    script_id = new_token()
    script = [tokens(10_000), finish("stop"), *DONE]
    page = await opened(pages, product, bodies=[{"script": script, "script_id": script_id}])
    await page.do("send", text="?")
    await page.do("text", contains="t20 ")
    await stop(product, page)
    state = await page.do("end")
    assert (state["status"], page.end) == (
        "ready",
        {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "other"},
    )
    assert page.answer["parts"][-1]["state"] == "done"

    async def is_closed() -> bool:
        return bool((await upstream(product, script_id))["closed_by_client"] == 1)

    await eventually(is_closed)
    assert await loaded(product, page) == state["messages"]
    assert len((await page.resume())["messages"]) == 2, "nothing is streamed again"


async def test_stopped_answer_is_history_of_the_next_request(product: Stack, pages: list[Page]) -> None:
    script_id = new_token()
    long = [content("Once"), {"hang": True}]
    short = [content("Upon."), finish("stop"), *DONE]
    bodies = [{"script": script, "script_id": script_id} for script in (long, short)]
    page = await opened(pages, product, bodies=bodies)
    await page.do("send", text="?")
    await page.do("text", contains="Once")
    await stop(product, page)
    await page.do("end")
    await page.ask("Go on.")
    assert (await upstream(product, script_id))["last_request"]["messages"] == [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Once"},
        {"role": "user", "content": "Go on."},
    ]
    assert page.text == "Upon."


async def test_stop_in_the_middle_of_a_call_sends_nothing_by_itself(product: Stack, pages: list[Page]) -> None:
    """A page that sends results of calls by itself would ask again, right after its user has stopped the answer."""
    script = [content("Let me look."), call(0, "c0", '{"q'), {"hang": True}]
    page = await opened(pages, product, bodies=[{"script": script, "tools": [LOOK]}], results={"look": 1})
    await page.do("send", text="?")
    await page.do("text", contains="look.")
    await stop(product, page)
    state = await page.do("end")
    assert state["requests"] == ["POST /api/chat"]
    assert state["status"] == "ready"


async def test_regenerated_answer_takes_the_place_of_the_first(product: Stack, pages: list[Page]) -> None:
    bodies = [{"script": [content(text), finish("stop"), *DONE]} for text in ("One.", "Two.")]
    page = await opened(pages, product, bodies=bodies)
    await page.ask()
    await page.do("regenerate")
    state = await page.do("end")
    assert (len(state["messages"]), page.text) == (2, "Two.")
    assert await loaded(product, page) == state["messages"]
