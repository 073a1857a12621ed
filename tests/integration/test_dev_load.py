"""`tailrace dev --load`: what it fills, and that nothing of it stays."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.dev import dev
from tailrace.settings import Settings
from tailrace_cli.load_mix import CALLERS, callers_in

pytestmark = pytest.mark.long

NAMES = set(callers_in(Settings()))
LOAD_S = 60.0
"""For which a state of the load is waited for: it is random, and its first kill comes after seconds."""


def asking(api: Api, path: str, has: Callable[[Any], bool]) -> Callable[[], Awaitable[Any]]:
    async def ask() -> Any:
        value = (await api.request("GET", f"/v1/admin{path}")).value
        return value if has(value) else None

    return ask


async def test_load_has_callers_failures_cancels_and_rescued_generations_and_ends_whole(tmp_path: Path) -> None:
    async with dev(tmp_path, "--load", "8") as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        assert running.banner["load"].startswith("8 generations a second by open, mobile, batch and evals; faults, and")
        assert running.banner["load"].endswith(f" {running.url}/dashboard")
        for path, has in (
            ("/callers", lambda answer: {each["name"] for each in answer["data"] if used(each)} >= NAMES),
            ("/generations?q=status:failed", lambda answer: answer["data"]),
            ("/generations?q=status:cancelled", lambda answer: answer["data"]),
            ("/overview", lambda answer: answer["readers"] and answer["running"]),
            ("/callers/open", lambda answer: answer["use"]["readers"]),
            ("/generations?q=status:completed&limit=100", lambda answer: any(map(is_rescued, answer["data"]))),
        ):
            await eventually(asking(api, path, has), LOAD_S)
        weights = {
            each["name"]: each["limits"]["weight"]
            for each in (await api.request("GET", "/v1/admin/callers")).value["data"]
        }
        assert weights["open"] > weights["batch"] > weights["evals"]
        processes = (await api.request("GET", "/dev")).value
        assert processes["worker"]["restarts"] >= 1
        running.process.send_signal(signal.SIGINT)
        assert await running.process.wait() == 0
    assert [name for name, row in processes.items() if is_alive(row["pid"])] == []
    assert "the load has killed the worker" in running.errors
    assert "Traceback" not in running.errors
    async with dev(tmp_path) as running, aiohttp.ClientSession() as http:
        callers = (await Api(http, running.url).request("GET", "/v1/admin/callers")).value["data"]
        assert [each["name"] for each in callers] == ["open"], "the policies of the load are removed"
        left = await Api(http, running.url).request("GET", "/v1/admin/generations?q=status:queued%20status:running")
        assert left.value["data"] == []


def used(caller: Any) -> bool:
    return bool(caller["use"]["day"]["tokens"])


def is_rescued(generation: Any) -> bool:
    """It is one that only a kill can have interrupted: no fault is played to it."""
    return bool(generation["attempt"] > 1 and generation["model"] in ("demo", "demo:reasoning", "demo:long"))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_load_without_faults_names_none_and_asks_for_none(tmp_path: Path) -> None:
    async with dev(tmp_path, "--load", "--no-faults") as running, aiohttp.ClientSession() as http:
        assert running.banner["load"].startswith("2 generations a second by open, mobile, batch and evals; no faults: ")
        api = Api(http, running.url)
        answer = await eventually(
            asking(api, "/generations?limit=100", lambda answer: len(answer["data"]) >= 5), LOAD_S
        )
    faults = {model.partition("@")[0] for caller in CALLERS.values() for model in caller.faults}
    assert faults.isdisjoint(each["model"] for each in answer["data"])
