"""From nothing to a first answer: `scripts/dev` in a new checkout, and a wheel in an empty environment."""

import asyncio
import re
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from support.api import Api, eventually
from support.dev import Dev, dev
from support.installation import (
    ROOT,
    checkout,
    empty_environment,
    environment,
    locked_versions,
    run,
    size_mb,
    skip_without_index,
)
from support.ollama import WORDS, ollama
from tailrace_demo import running as demo_server

LIMIT_MB = 200
PACKAGES = ("tailrace", "tailrace_frontend", "tailrace_worker", "tailrace_cli", "tailrace_demo")

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), ".")
    run(sys.executable, "-m", "pip", *build, cwd=checkout(folder / "checkout"))
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = [ROOT / "shared" / "tailrace", *(ROOT / "services" / name for name in PACKAGES[1:])]
    files = {str(path.relative_to(source.parent)) for source in sources for path in source.rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert {Path(name).suffix for name in names} >= {".py", ".lua", ".html", ".js", ".css", ".svg", ".typed"}


async def test_wheel_with_its_own_dependencies_answers_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """As `uvx tailrace dev` would run it: the packages are those that the wheel names, at the locked versions."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(locked_versions(ROOT / "requirements.txt")))
    python = await asyncio.to_thread(empty_environment, tmp_path / "environment")
    options = ("--quiet", "--no-compile", "--constraint", str(constraints))
    await asyncio.to_thread(run, str(python), "-m", "pip", "install", *options, str(wheel), cwd=tmp_path)
    async with dev(tmp_path, "--demo", python=str(python)) as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        generation_id = await api.create(model="demo", tokens_per_second=4000)
        assert (await api.wait_for_result(generation_id))["status"] == "completed"
        assert b"Tailrace" in (await api.request("GET", "/")).body
        assert str(ROOT) not in running.errors


async def test_first_word_of_ollama_follows_one_command_in_a_new_checkout(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """`git clone`, `scripts/dev`, a question: no setting. What it installs stays below LIMIT_MB."""
    folder = await asyncio.to_thread(checkout, tmp_path / "checkout")
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(demo_server(app=ollama()))
        began = time.monotonic()
        running = await stack.enter_async_context(first_start(folder, upstream.removesuffix("/v1")))
        api = Api(await stack.enter_async_context(aiohttp.ClientSession()), running.url)
        model = running.banner["models"].split(", ")[0]
        generation_id = await api.create(model=model)

        async def has_word() -> bool:
            return bool((await api.get(generation_id)).value["output"])

        await eventually(has_word)
        record_property("first_word_s", round(time.monotonic() - began, 1))
        assert (await api.wait_for_result(generation_id))["output"][0]["text"] == "".join(WORDS)
    assert re.search(
        r"^Setting up \.venv, once: \d+ packages; this takes about 20 seconds …$", running.errors, re.MULTILINE
    )
    assert re.search(r"^Set up after \d+ s\.$", running.errors, re.MULTILINE)
    installed_mb = size_mb(folder / ".venv")
    record_property("installed_mb", round(installed_mb))
    assert installed_mb < LIMIT_MB
    assert not list(folder.glob(".venv/lib/*/site-packages/pytest"))


@asynccontextmanager
async def first_start(folder: Path, ollama_url: str) -> AsyncIterator[Dev]:
    """`scripts/dev` in a checkout that has no `.venv`; it ends with the block."""
    errors = folder.parent / "errors"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            "scripts/dev", "--port", "0", cwd=folder, env=environment(OLLAMA_HOST=ollama_url, PYTHON=sys.executable),
            stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    running = Dev(process, errors)
    try:
        try:
            await running.read_banner()
        except AssertionError:
            skip_without_index(1, (folder / ".venv" / "setup.log").read_text())
            raise
        yield running
    finally:
        assert await running.stop() == 0, running.errors
