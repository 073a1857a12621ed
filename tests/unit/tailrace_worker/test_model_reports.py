import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailrace.errors import RedisUnavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_worker import model_reports
from tailrace_worker.model_reports import ModelReports
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream_pool import UpstreamPool


class Reported:
    """Takes the place of `UpstreamModels`."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.failures: list[str] = []
        self.refusals = 0

    async def report(self, worker: str, names: list[str]) -> None:
        assert worker == "one"
        if self.refusals:
            self.refusals -= 1
            raise RedisUnavailable
        self.names.append(names)

    async def report_failure(self, worker: str, reason: str) -> None:
        assert worker == "one"
        self.failures.append(reason)


async def run_until(
    reported: Reported, count: int, reconnects: ReconnectSignal | None = None, settings: Settings | None = None
) -> None:
    reports: Any = reported
    no_queue: Any = None
    pool = UpstreamPool(settings or Settings(), no_queue, "one")
    running = asyncio.create_task(ModelReports(pool, reports, "one", reconnects or ReconnectSignal()).run())
    async with asyncio.timeout(5):
        while len(reported.names) < count:
            await asyncio.sleep(0.001)
            if reconnects:
                reconnects.notify()
    await cancel_and_wait(running)
    await pool.close()


def listing(monkeypatch: pytest.MonkeyPatch, *answers: list[str] | Exception) -> Callable[[], int]:
    """The upstream answers so, the last answer again and again. Returns the number of requests so far."""
    asked = 0

    async def list_models(_: Any) -> list[str]:
        nonlocal asked
        asked += 1
        answer = answers[min(asked, len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(model_reports, "list_models", list_models)
    monkeypatch.setattr(model_reports, "RETRY_S", 0.001)
    return lambda: asked


async def test_models_are_reported_once_the_upstream_lists_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = listing(monkeypatch, ConnectionLost("x"), ConnectionLost("x"), [f"m{i}" for i in range(7)])
    reported = Reported()
    await run_until(reported, 1)
    assert reported.names == [[f"m{i}" for i in range(7)]]
    assert asked() == 3
    assert reported.failures == ["The connection to the upstream was lost."] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "the upstream's models cannot be listed: The connection to the upstream was lost. [https://api.openai.com/v1]",
        "the upstream's models: m0, m1, m2, m3, m4 and 2 more",
    ]


async def test_models_are_reported_again_while_the_upstream_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    listing(monkeypatch, ["demo"], ConnectionLost("x"))
    reported = Reported()
    await run_until(reported, 3, ReconnectSignal())
    assert reported.names == [["demo"]] * 3


async def test_models_that_redis_does_not_take_are_reported_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    listing(monkeypatch, ["demo"])
    reported = Reported()
    reported.refusals = 2
    await run_until(reported, 1, ReconnectSignal())
    assert reported.names == [["demo"]]


FILE = """\
[[upstreams]]
name = "one"
base_url = "http://one.test/v1"
models = ["llama-*", "fixed"]
aliases = { fast = "llama-8b" }
[[upstreams]]
name = "two"
base_url = "http://two.test/v1"
"""


async def test_models_of_several_upstreams_are_one_list_in_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lists = {"one": ["llama-8b", "embed-1", "other"], "two": ["gpt", "llama-8b", "text-embedding-3"]}

    async def list_models(client: UpstreamClient) -> list[str]:
        return lists[client.config.name]

    monkeypatch.setattr(model_reports, "list_models", list_models)
    (tmp_path / "tailrace.toml").write_text(FILE)
    reported = Reported()
    await run_until(reported, 3, settings=Settings(config=str(tmp_path / "tailrace.toml")))
    assert reported.names == [
        ["fast", "fixed"],
        ["fast", "fixed", "llama-8b"],
        ["fast", "fixed", "llama-8b", "gpt", "text-embedding-3"],
    ]
    assert "the models of upstream one: llama-8b, embed-1, other" in caplog.messages


async def test_upstream_that_cannot_be_listed_has_the_names_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: Counter[str] = Counter()

    async def list_models(client: UpstreamClient) -> list[str]:
        asked[client.config.name] += 1
        if client.config.name == "one" and asked["one"] < 3:
            raise ConnectionLost("x")
        return ["llama-8b"] if client.config.name == "one" else ["gpt"]

    monkeypatch.setattr(model_reports, "list_models", list_models)
    monkeypatch.setattr(model_reports, "RETRY_S", 0.001)
    (tmp_path / "tailrace.toml").write_text(FILE)
    reported = Reported()
    await run_until(reported, 5, settings=Settings(config=str(tmp_path / "tailrace.toml")))
    begun, listed = ["fast", "fixed"], ["fast", "fixed", "gpt"]
    assert reported.names == [begun, begun, listed, listed, ["fast", "fixed", "llama-8b", "gpt"]]
    assert asked == {"one": 3, "two": 1}, "a list that was read is kept"
    assert [each for each in caplog.messages if "cannot be listed" in each] == [
        "the models of upstream one cannot be listed: The connection to the upstream was lost. [http://one.test/v1]"
    ]
    assert reported.failures == []


async def test_upstream_that_hangs_hides_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def list_models(client: UpstreamClient) -> list[str]:
        if client.config.name == "one":
            await asyncio.Event().wait()
        return ["gpt"]

    monkeypatch.setattr(model_reports, "list_models", list_models)
    (tmp_path / "tailrace.toml").write_text(FILE)
    reported = Reported()
    await run_until(reported, 2, settings=Settings(config=str(tmp_path / "tailrace.toml")))
    assert reported.names == [["fast", "fixed"], ["fast", "fixed", "gpt"]]
