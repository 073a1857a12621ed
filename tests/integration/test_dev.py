"""`tailrace dev` as a newcomer uses it."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from support.api import Api, eventually
from support.dev import ENVIRONMENT, Dev, dev
from support.ollama import WORDS, ollama
from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace_cli import ports
from tailrace_cli.upstreams import OLLAMA_PORT
from tailrace_demo import running as demo_server

pytestmark = pytest.mark.long

KILLER = {"x-tailrace-dev": "1"}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Dev]:
    async with dev(tmp_path) as running:
        yield running


@pytest.fixture
async def api(running: Dev) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as http:
        yield Api(http, running.url)


async def processes(api: Api) -> Any:
    return (await api.request("GET", "/dev")).value


async def test_tail_finds_the_server_of_dev_by_its_data_dir(api: Api, running: Dev, tmp_path: Path) -> None:
    assert running.banner["Redis"] == (tmp_path / "answers" / "redis-url").read_text().strip()
    generation_id = await api.create(model="demo", tokens_per_second=4000)
    text = (await api.wait_for_result(generation_id))["output"][0]["text"]
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_cli", "tail", generation_id, "--wire", "text",
        env=ENVIRONMENT | {"TAILRACE_DATA_DIR": str(tmp_path / "answers")}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await tail.communicate()
    assert (printed.decode(), tail.returncode) == (text, 0)


async def test_process_file_has_every_child_and_is_private(api: Api, running: Dev, tmp_path: Path) -> None:
    file = tmp_path / "answers" / "processes.json"
    assert file.stat().st_mode & 0o777 == 0o600
    rows = await processes(api)
    assert rows.keys() == {"dev", "worker", "frontend", "demo-model"}
    for row in rows.values():
        os.kill(row["pid"], 0)
        assert row["restarts"] == 0
    await running.stop()
    assert not file.exists()


async def test_worker_that_the_page_kills_is_restarted_and_the_answer_survives(api: Api, running: Dev) -> None:
    generation_id = await api.create(model="demo", tokens_per_second=50)
    await eventually(lambda: has_text(api, generation_id))
    before = (await processes(api))["worker"]
    response = await api.request("POST", "/dev/kill/worker", headers=KILLER)
    assert (response.status, response.value["pid"]) == (202, before["pid"])
    done = await api.wait_for_result(generation_id)
    assert done["status"] == "completed"
    after = (await processes(api))["worker"]
    assert after["pid"] != before["pid"]
    assert after["restarts"] == 1
    assert "end by their time" not in running.errors


async def test_answer_survives_more_kills_by_the_page_than_it_has_attempts(api: Api) -> None:
    generation_id = await api.create(model="demo", tokens_per_second=50)
    kills = Settings().max_attempts
    for killed in range(1, kills + 1):
        await eventually(lambda: is_in_attempt(api, generation_id, killed))  # noqa: B023 - awaited at once
        assert (await api.request("POST", "/dev/kill/worker", headers=KILLER)).status == 202
    done = await api.wait_for_result(generation_id)
    assert (done["status"], done["error"]) == ("completed", None)


async def is_in_attempt(api: Api, generation_id: str, attempt: int) -> bool:
    summary = (await api.request("GET", f"/v1/generations/{generation_id}?output=false")).value
    return bool(summary["status"] == "running" and summary["attempt"] == attempt)


async def has_text(api: Api, generation_id: str) -> bool:
    return bool((await api.get(generation_id)).value["output"])


async def test_request_during_the_restart_of_the_frontend_waits_and_is_answered(running: Dev) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        api = Api(http, running.url)
        before = (await processes(api))["frontend"]
        assert (await api.request("POST", "/dev/kill/frontend", headers=KILLER)).status == 202
        await until_gone(before["pid"])
        assert (await api.request("GET", "/healthz")).value == {"status": "ok"}
        assert (await processes(api))["frontend"]["pid"] != before["pid"]


async def until_gone(pid: int) -> None:
    async def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await eventually(is_gone)


async def test_frontend_that_the_page_kills_answers_again(api: Api, running: Dev) -> None:
    before = (await processes(api))["frontend"]
    response = await api.request("POST", "/dev/kill/frontend", headers=KILLER)
    assert (response.status, response.value["pid"]) == (202, before["pid"])

    async def is_restarted() -> bool:
        try:
            return bool((await processes(api))["frontend"]["restarts"] == 1)
        except aiohttp.ClientError:
            return False

    await eventually(is_restarted)
    assert f"frontend exited ({signal.SIGKILL.name})" in running.errors


async def test_second_dev_takes_the_next_free_port_and_both_are_named(running: Dev, tmp_path: Path) -> None:
    """No port is chosen, and the usual one is taken: by this test, if by no other program."""
    usual = Settings.model_fields["port"].default
    with contextlib.suppress(Misconfigured), ports.bind("127.0.0.1", usual):
        (tmp_path / "second").mkdir()
        async with dev(tmp_path / "second", "--demo", port=False) as second:
            assert usual < (urlsplit(second.url).port or 0) < usual + ports.TRIES
            assert second.banner["port"].startswith(f"{usual} is taken by another ")


async def test_dev_on_a_chosen_port_that_another_dev_has_names_that_one(running: Dev, tmp_path: Path) -> None:
    port = str(urlsplit(running.url).port)
    other, same = str(tmp_path / "other"), str(tmp_path / "answers")
    pid = running.process.pid
    holder = f"another `tailrace dev` (pid {pid})"
    refused = f"tailrace dev: port {port} is taken by {holder}; choose another with --port\n"
    assert await run("dev", "--port", port, "--data-dir", other) == (2, refused)
    status, errors = await run("dev", "--port", "0", "--data-dir", same)
    assert status == 2
    assert f"{same} is in use by another `tailrace dev` ({running.url}, pid {pid})" in errors


async def run(*arguments: str) -> tuple[int, str]:
    """The exit status and the errors of a `tailrace` command that prints nothing else."""
    command = (sys.executable, "-m", "tailrace_cli", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert output == b""
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_banner_is_all_that_is_printed_and_names_each_process(running: Dev, api: Api) -> None:
    rows = await processes(api)
    shown = dict(each.split() for each in running.banner["processes"].split(" · "))
    assert {name: rows[name]["pid"] for name in ("worker", "frontend", "demo-model")}.items() <= {
        name: int(pid) for name, pid in shown.items()
    }.items()
    assert shown.keys() == {"worker", "frontend", "demo-model", "Valkey"}
    assert running.banner["answers"].startswith("kept for 7 days under ")
    assert running.errors == ""


async def test_page_is_opened_in_the_browser_once_everything_runs(tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    async with dev(tmp_path, "--open", environment={"BROWSER": str(browser)}) as running:

        async def is_opened() -> bool:
            return opened.exists()

        await eventually(is_opened)
        assert opened.read_text().strip() == running.url


async def test_first_word_comes_from_ollama_on_its_usual_port_without_a_setting(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One command, then the first question of the page: its default model is the first that Ollama lists."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(demo_server(port=OLLAMA_PORT, app=ollama()))
        except OSError:
            pytest.skip(f"port {OLLAMA_PORT} is taken: Ollama runs here")
        began = time.monotonic()
        running = await stack.enter_async_context(dev(tmp_path, environment={"OLLAMA_HOST": ""}))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        api = Api(http, running.url)
        assert (
            running.banner["upstream"] == f"Ollama at http://127.0.0.1:{OLLAMA_PORT} (the demo model instead: --demo)"
        )
        assert running.banner["models"] == "llama3.2:latest, qwen3:8b"
        model = (await api.request("GET", "/v1/models")).value["data"][0]["id"]
        generation_id = await api.create(model=model)
        await eventually(lambda: has_text(api, generation_id))
        record_property("first_word_s", time.monotonic() - began)
        assert (await api.wait_for_result(generation_id))["output"][0]["text"] == "".join(WORDS)


async def test_demo_model_is_used_where_it_is_wanted(tmp_path: Path) -> None:
    async with demo_server(app=ollama()) as url:
        host = url.removesuffix("/v1")
        async with dev(tmp_path, "--demo", environment={"OLLAMA_HOST": host}) as running:
            assert running.banner["upstream"] == "the built-in demo model"
