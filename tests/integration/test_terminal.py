"""The commands of a terminal beside a worker and a frontend."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.stack import Stack, stack
from support.terminal_session import CONTROL_C, CONTROL_Z, TerminalSession

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    async with stack(lease_s="0.5") as running:
        await running.workers[0].wait_for_log("the upstream's models")
        yield running


async def output_of(product: Stack, *arguments: str) -> str:
    """What a command writes into a pipe."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_cli", *arguments, env=product.environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_answer_continues_after_ctrl_c_and_its_rest_is_printed(product: Stack) -> None:
    async with TerminalSession("ask", "What", "survives?", environment=product.environment) as terminal:
        await terminal.until("Try to break it")
        terminal.type(CONTROL_C)
        assert await terminal.wait() == 130
    text, _, note = terminal.shown.partition("^C")
    assert note.startswith("\nThe answer continues. Its rest: tailrace tail gen_")
    *_, generation_id, _, cursor = note.split()
    rest = await output_of(product, "tail", generation_id, "--after", cursor, "--wire", "text")
    assert rest
    assert text + rest == await output_of(product, "tail", generation_id, "--wire", "text")


async def test_answer_that_lost_its_worker_starts_over_on_the_terminal(product: Stack) -> None:
    async with TerminalSession("ask", "What survives?", environment=product.environment) as terminal:
        await terminal.until("Try to break it")
        await product.workers[0].stop(signal.SIGKILL)
        await product.workers[0].start()
        assert await terminal.wait() == 0
    first, note, second = re.split(r"^(The answer starts over: attempt 2\. .*)\n", terminal.shown, flags=re.MULTILINE)
    assert "worker" in note
    assert second.startswith(first.rstrip("\n"))
    assert second == await output_of(product, "tail", "--wire", "text")


async def test_terminal_shows_text_and_a_pipe_gets_events(product: Stack) -> None:
    async with aiohttp.ClientSession() as http:
        api = Api(http, product.url)
        generation_id = await api.create(model="demo", tokens_per_second=4000)
        text = (await api.wait_for_result(generation_id))["output"][0]["text"]
    async with TerminalSession("tail", generation_id, environment=product.environment) as terminal:
        assert await terminal.wait() == 0
    assert terminal.shown.rstrip("\n") == text.rstrip("\n")
    assert (await output_of(product, "tail", generation_id)).startswith("id: ")
    assert generation_id in await output_of(product, "ls")


async def test_timeline_of_an_answer_that_lost_its_worker_is_shown_on_a_terminal_and_plain_in_a_pipe(
    product: Stack,
) -> None:
    async with aiohttp.ClientSession() as http:
        api = Api(http, product.url)
        steps: list[dict[str, Any]] = [
            {"delta": {"content": "So "}}, {"sleep": 0.3}, {"delta": {"content": "far"}}, {"sleep": 0.3},
            {"delta": {}, "finish_reason": "stop"}, {"done": True},
        ]  # fmt: skip
        generation_id = await api.create_scripted(*steps)
        stream = await api.stream(generation_id)
        await stream.until_text("So ")
        await product.workers[0].stop(signal.SIGKILL)
        await product.workers[0].start()
        result = await api.wait_for_result(generation_id)
    async with TerminalSession("debug", generation_id, environment=product.environment) as terminal:
        assert await terminal.wait() == 0
    for shown in ("worker_lost", "attempt 2 restarted", "completed", "estimated", "Gaps between two pieces of content"):
        assert shown in terminal.shown
    assert "\x1b[1mTimeline" in terminal.raw
    assert max(map(len, terminal.shown.splitlines())) <= 80
    plain = await output_of(product, "debug", generation_id)
    assert "\x1b" not in plain
    assert "attempt 2 restarted" in plain
    value = json.loads(await output_of(product, "debug", generation_id, "--json"))
    assert value["stream"] == result["stream"]
    assert value["stream"]["slowest"][0]["seconds"] > 0.25
    assert [attempt["ended"] for attempt in value["attempts"]] == ["worker_lost", "completed"]
    assert len({attempt["worker"] for attempt in value["attempts"]}) == 2


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (CONTROL_C, 130)])
async def test_top_is_left_by_a_key_and_leaves_the_terminal_as_it_was(product: Stack, key: bytes, status: int) -> None:
    environment = product.environment | {"TAILRACE_URL": product.url}
    async with aiohttp.ClientSession() as http:
        api = Api(http, product.url)
        generation_id = await api.create_scripted({"delta": {"content": "So far"}}, {"hang": True})
        async with TerminalSession("top", environment=environment) as terminal:
            await terminal.until(generation_id)
            assert not terminal.echoes()
            terminal.type(key)
            assert await terminal.wait() == status
            assert terminal.echoes()
        await api.request("POST", f"/v1/generations/{generation_id}/cancel")
    assert terminal.raw.startswith("\x1b[?1049h\x1b[?25l")
    assert terminal.raw.endswith("\x1b[?25h\x1b[?1049l")


async def test_top_gives_the_terminal_back_while_it_is_paused(product: Stack) -> None:
    async with TerminalSession("top", environment=product.environment | {"TAILRACE_URL": product.url}) as terminal:
        await terminal.until("CALLER")
        terminal.type(CONTROL_Z)
        await terminal.until_raw("\x1b[?25h\x1b[?1049l")
        await terminal.until_stopped()
        assert terminal.echoes()
        terminal.send(signal.SIGCONT)
        await terminal.until_raw("\x1b[?1049h\x1b[?25l", times=2)
        terminal.type(b"q")
        assert await terminal.wait() == 0


async def test_top_shows_why_it_is_not_of_this_second_until_the_frontend_is_back(product: Stack) -> None:
    frontend = await product.add_frontend()
    async with TerminalSession("top", environment=product.environment | {"TAILRACE_URL": frontend.url}) as terminal:
        await terminal.until("CALLER")
        await frontend.stop()
        await terminal.until(f"{frontend.url} does not answer: Connection refused")
        await frontend.start()
        await frontend.ready()
        await eventually(lambda: is_in_order(terminal))
        terminal.type(b"q")
        assert await terminal.wait() == 0
    await frontend.stop()
    product.frontends.remove(frontend)


async def is_in_order(terminal: TerminalSession) -> bool:
    """Whether the last whole frame has no problem."""
    *_, last, _ = terminal.shown.split("tailrace  running ")
    return "does not answer" not in last


async def test_worker_is_drained_once_the_user_has_agreed(product: Stack) -> None:
    environment = product.environment | {"TAILRACE_URL": product.url}
    worker = await product.add_worker()
    await worker.wait_for_log("the upstream's models")
    known = json.loads(await output_of(product, "workers", "--json", "--url", product.url))
    (name,) = [each["id"] for each in known if each["pid"] == worker.pid]
    for answer, status in (("n", 1), ("y", 0)):
        async with TerminalSession("workers", "drain", name, environment=environment) as terminal:
            await terminal.until("0 generations end where it is. Drain it? [y/N] ")
            terminal.type(f"{answer}\n".encode())
            assert await terminal.wait() == status
    assert terminal.shown.splitlines()[-1] == f"{name}  drains"
    await eventually(lambda: drains(product, name))
    await worker.stop()
    product.workers.remove(worker)


async def drains(product: Stack, name: str) -> bool:
    workers = json.loads(await output_of(product, "workers", "--json", "--url", product.url))
    return any(each["draining"] for each in workers if each["id"] == name)


async def test_log_of_a_service_on_a_terminal_is_in_colours_and_has_its_calls(product: Stack) -> None:
    environment = product.environment | {"TAILRACE_LEASES": "3"}
    async with TerminalSession("frontend", "--port", "0", environment=environment) as terminal:
        await terminal.until(" · Redis ok · 1 worker\n")
        (url,) = re.findall(r"listening on (http://\S+)", terminal.shown)
        async with aiohttp.ClientSession() as http:
            await Api(http, url).request("GET", "/v1/models?api_key=secret")
        await terminal.until("GET /v1/models 200")
        terminal.type(CONTROL_C)
        assert await terminal.wait() == 0
    first, *lines = terminal.shown.splitlines()
    assert first.endswith(
        "WARNING frontend    TAILRACE_LEASES is no setting of Tailrace; did you mean TAILRACE_LEASE_S?"
    )
    assert all(re.match(r"\d\d:\d\d:\d\d (INFO   |WARNING) frontend    \S", line) for line in lines if line != "^C")
    assert "\x1b[36mfrontend" in terminal.raw
    assert "secret" not in terminal.shown
