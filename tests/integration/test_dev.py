"""`tailrace dev` as a newcomer uses it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.api import Api
from tailrace_cli.embedded import free_port

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},  # coverage.py's
}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A `tailrace dev` that keeps its answers in `tmp_path/answers`."""
    arguments = ("dev", "--port", str(free_port()), "--data-dir", str(tmp_path / "answers"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_cli", *arguments, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    printed: dict[str, str] = {}
    while "answers" not in printed:
        name, _, value = (await process.stdout.readline()).decode().strip().partition(" ")
        printed[name] = value.strip()
    assert printed["Redis"] == (tmp_path / "answers" / "redis-url").read_text().strip()
    yield printed["Tailrace"]
    process.terminate()
    assert await process.wait() == 0


async def test_tail_finds_the_server_of_dev_by_its_data_dir(url: str, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        api = Api(http, url)
        generation_id = await api.create(model="demo", tokens_per_second=4000)
        text = (await api.wait_for_result(generation_id))["output"][0]["text"]
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_cli", "tail", generation_id, "--wire", "text",
        env=ENVIRONMENT | {"TAILRACE_DATA_DIR": str(tmp_path / "answers")}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await tail.communicate()
    assert (printed.decode(), tail.returncode) == (text, 0)
