"""The children of `tailrace dev`, without processes; integration/test_dev.py has the whole command."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tailrace.settings import Settings
from tailrace_cli import dev

SERVER: Any = SimpleNamespace(url="redis://127.0.0.1:1/0", data_dir=Path("answers"))


class Child:
    """Runs until `stop`; the one named `failing` cannot start."""

    all: list["Child"]
    failing = ""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.arguments = arguments
        self.environment = environment
        self.stopped = asyncio.Event()
        Child.all.append(self)

    async def keep_running(self) -> None:
        if self.name != Child.failing:
            await self.stopped.wait()

    async def stop(self, _: float) -> None:
        self.stopped.set()


@pytest.fixture(autouse=True)
def _children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "Child", Child)
    monkeypatch.setattr(Child, "all", [], raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def run(*, stops: bool = True) -> int:
    stopping = asyncio.Event()
    if stops:
        stopping.set()
    async with asyncio.timeout(10):
        return await dev._run_children(Settings(port=1), SERVER, stopping)


async def test_dev_without_an_upstream_runs_the_demo_model_and_points_the_worker_at_it() -> None:
    assert await run() == 0
    model, worker, frontend = Child.all
    assert [model.name, worker.name, frontend.name] == ["demo-model", "worker", "frontend"]
    assert worker.environment["OPENAI_BASE_URL"] == f"http://127.0.0.1:{model.arguments[1]}/v1"
    assert worker.environment["TAILRACE_REDIS_URL"] == frontend.environment["TAILRACE_REDIS_URL"] == SERVER.url


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_KEY"])
async def test_dev_with_an_upstream_runs_no_demo_model(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "given")
    assert await run() == 0
    assert [child.name for child in Child.all] == ["worker", "frontend"]
    assert Child.all[0].environment[name] == "given"


@pytest.mark.parametrize("name", ["demo-model", "worker", "frontend"])
async def test_dev_stops_every_child_and_fails_where_one_cannot_start(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Child, "failing", name)
    assert await run(stops=False) == 1
    assert [child.stopped.is_set() for child in Child.all] == [True] * 3


async def test_frontend_that_is_never_ready_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "READY_S", 0.01)
    await dev._announce_when_ready("http://127.0.0.1:1", "an upstream", SERVER)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the frontend at http://127.0.0.1:1 is not ready after" in printed.err
