"""A rollout: processes of the previous commit and of this one serve the same generations.

The other version's sources come from git, `HEAD^` or the commit in `TAILRACE_PREVIOUS`, and run in this environment. A
frontend and a worker share nothing but Redis: what the tests compare is states, logs, messages and jobs.
"""

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.stack import Stack, stack

ROOT = Path(__file__).parents[2]
SOURCES = ("shared", "services")
COMMIT = os.environ.get("TAILRACE_PREVIOUS", "HEAD^")
SIDES = ["worker", "frontend"]
ANSWER: list[dict[str, Any]] = [{"tokens": {"count": 60, "rate": 20}}, {"usage": {"total_tokens": 60}}, {"done": True}]
TEXT = "".join(f"t{n} " for n in range(60))

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The import path of the previous version."""
    folder = tmp_path_factory.mktemp("previous")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", COMMIT, *SOURCES]
    try:
        archive = subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"there are no sources of {COMMIT}, as in a copy without history: {reason.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return os.pathsep.join(str(folder / source) for source in SOURCES)


class Mixed:
    """A product that has processes of both versions."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, previous: str) -> None:
        self.stack = running
        self._http = http
        self._previous = previous

    async def add(self, kind: str, *, old: bool) -> None:
        """Start one more process."""
        self.stack.environment.pop("PYTHONPATH", None)
        if old:
            self.stack.environment["PYTHONPATH"] = self._previous
        await (self.stack.add_worker() if kind == "worker" else self.stack.add_frontend())

    @property
    def api(self) -> Api:
        return Api(self._http, self.stack.url)


@asynccontextmanager
async def mixed(previous: str, old: str) -> AsyncIterator[Mixed]:
    """A frontend and a worker, one of which (`old`) is of the previous version."""
    async with stack(workers=0, frontends=0, lease_s="1", drain_s="0.2") as running, aiohttp.ClientSession() as http:
        product = Mixed(running, http, previous)
        for kind in SIDES:
            await product.add(kind, old=kind == old)
        yield product
        for process in [*running.frontends, *running.workers]:
            assert "Traceback" not in process.output, process.output


@pytest.mark.parametrize("old", SIDES)
async def test_versions_side_by_side_stream_and_resume_an_answer(previous: str, old: str) -> None:
    async with mixed(previous, old) as product:
        generation_id = await product.api.create_scripted(*ANSWER)
        stream = await product.api.stream(generation_id)
        await stream.until_text("t20 ")
        stream.cut()
        cursor = stream.parser.last_id
        rest = await product.api.read(generation_id, cursor)
        assert stream.text + rest.text == TEXT
        assert rest.kinds[-1] == "done"
        result = await product.api.wait_for_result(generation_id)
        assert (result["status"], result["output"][0]["text"]) == ("completed", TEXT)
        assert (await product.api.read(generation_id)).text == TEXT


@pytest.mark.parametrize("old", SIDES)
async def test_versions_side_by_side_cancel_and_delete(previous: str, old: str) -> None:
    async with mixed(previous, old) as product:
        generation_id = await product.api.create_scripted(*ANSWER)
        stream = await product.api.stream(generation_id)
        await stream.until_text("t5 ")
        cancelled = (await product.api.cancel(generation_id)).value
        await stream.rest()
        assert cancelled["status"] == "cancelled"
        assert cancelled["output"][0]["text"] == stream.text
        assert stream.events[-1].value["status"] == "cancelled"
        assert (await product.api.delete(generation_id)).status == 200
        assert (await product.api.get(generation_id)).refusal == (410, "deleted")


@pytest.mark.parametrize("old", SIDES)
async def test_versions_hand_a_generation_over(previous: str, old: str) -> None:
    """A worker stops in the middle of an answer, one of the other version continues: a rollout, or its undoing."""
    async with mixed(previous, old) as product:
        await product.add("worker", old=old != "worker")
        later = product.stack.workers[-1]
        await later.wait_for_log("runs up to")
        later.send(signal.SIGSTOP)  # so that the first takes the generation
        generation_id = await product.api.create_scripted(*ANSWER)
        stream = await product.api.stream(generation_id)
        await stream.until_text("t5 ")
        later.send(signal.SIGCONT)
        assert await product.stack.workers[0].stop() == 0
        await stream.rest()
        assert "restarted" in stream.kinds
        assert stream.text == TEXT

        async def has_output() -> bool:
            result = (await product.api.get(generation_id)).value
            return bool(result["status"] == "completed" and result["output"][0]["text"] == TEXT)

        await eventually(has_output)
