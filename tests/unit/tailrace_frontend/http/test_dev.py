"""The routes of `tailrace dev`: where they exist, for which requests, and what they kill."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace.process import requested_kill
from tailrace.settings import DEV_PROCESSES, Settings
from tailrace_frontend.app import Frontend

HEADER = {"x-tailrace-dev": "1"}
KEYS = {"api_keys": SecretStr("anna:anna-key-1"), "ticket_secret": SecretStr("0123456789abcdef")}
ELSEWHERE = "https://app.example.org"


class Processes:
    """The file of `tailrace dev`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **pids: int) -> Any:
        """Write the file; its content."""
        rows = {name.replace("_", "-"): {"pid": pid, "restarts": 0} for name, pid in pids.items()}
        self._path.write_text(json.dumps(rows))
        return rows


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    path = tmp_path / "processes.json"
    monkeypatch.setenv(DEV_PROCESSES, str(path))
    return Processes(path)


def frontend(**settings: Any) -> Frontend:
    return Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings))


def refusal(response: Response) -> tuple[int, str]:
    return response.status, response.value["error"]["code"]


async def kill(app: Frontend, name: str, **headers: str) -> Response:
    return await ask(app, "POST", f"/dev/kill/{name}", headers=HEADER | headers)


async def test_routes_of_dev_do_not_exist_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEV_PROCESSES, raising=False)
    app = frontend()
    assert refusal(await ask(app, "GET", "/dev")) == (404, "not_found")
    assert refusal(await kill(app, "frontend")) == (404, "not_found")


async def test_routes_of_dev_do_not_exist_beyond_loopback(processes: Processes) -> None:
    processes.write(worker=1)
    app = frontend(host="0.0.0.0", **KEYS)
    assert refusal(await ask(app, "GET", "/dev")) == (404, "not_found")
    assert refusal(await kill(app, "worker")) == (404, "not_found")


async def test_processes_are_those_of_the_file_at_each_request(processes: Processes) -> None:
    app = frontend()
    assert refusal(await ask(app, "GET", "/dev")) == (503, "unavailable")
    for pid in (4711, 4712):
        rows = processes.write(worker=pid)
        response = await ask(app, "GET", "/dev")
        assert (response.status, response.value) == (200, rows)
        assert response.headers["cache-control"] == "no-store"


async def test_kill_of_the_worker_sends_sigkill_to_its_process(processes: Processes, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    processes.write(worker=process.pid)
    app = frontend()
    response = await kill(app, "worker", origin="http://localhost")
    assert (response.status, response.value) == (202, {"killed": "worker", "pid": process.pid})
    assert await process.wait() == -signal.SIGKILL
    assert requested_kill.take(tmp_path / "processes.json", process.pid)
    assert refusal(await kill(app, "worker")) == (503, "unavailable")


async def test_kill_of_the_worker_that_cannot_be_noted_is_reported_and_done(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def note(*_: object) -> None:
        raise OSError("No space left on device")

    killed: list[tuple[int, int]] = []
    processes.write(worker=4711)
    app = frontend()
    monkeypatch.setattr(requested_kill, "note", note)
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    assert (await kill(app, "worker")).status == 202
    assert killed == [(4711, signal.SIGKILL)]
    assert "the kill of the worker counts as a crash: No space left on device" in caplog.messages


async def test_kill_of_the_frontend_follows_its_response(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    response = await kill(frontend(), "frontend")
    assert (response.status, response.value) == (202, {"killed": "frontend", "pid": os.getpid()})
    assert killed == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize("name", ["demo-model", "dev", "Worker", "1"])
async def test_no_other_process_can_be_killed(processes: Processes, name: str) -> None:
    processes.write(**{name: os.getpid()})
    assert refusal(await kill(frontend(), name)) == (404, "not_found")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-tailrace-dev": ""}, (403, "origin_refused")),
        ({"x-tailrace-dev": "0"}, (403, "origin_refused")),
        ({"origin": ELSEWHERE}, (403, "origin_refused")),
        ({"origin": "http://localhost:9999"}, (403, "origin_refused")),
        ({"origin": "null"}, (403, "origin_refused")),
        ({"host": "rebound.example.org"}, (421, "host_refused")),
    ],
)
async def test_kill_is_refused_to_other_pages(
    processes: Processes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    processes.write(worker=os.getpid())
    assert refusal(await kill(frontend(cors_origins=ELSEWHERE), "worker", **headers)) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "rebound.example.org"}, (421, "host_refused")),
        ({"origin": ELSEWHERE}, (403, "origin_refused")),
    ],
)
async def test_processes_are_refused_to_other_pages(
    processes: Processes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    processes.write()
    assert refusal(await ask(frontend(cors_origins=ELSEWHERE), "GET", "/dev", headers=headers)) == expected


async def test_header_of_kill_is_refused_to_a_preflight_of_another_origin(processes: Processes) -> None:
    preflight = {
        "origin": ELSEWHERE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-tailrace-dev",
    }
    response = await ask(frontend(cors_origins=ELSEWHERE), "OPTIONS", "/dev/kill/worker", headers=preflight)
    assert response.status == 400


async def test_kill_needs_a_key_where_there_are_keys(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    processes.write(worker=4711)
    app = frontend(**KEYS)
    assert refusal(await kill(app, "worker")) == (401, "invalid_api_key")
    assert killed == []
    assert (await kill(app, "worker", authorization="Bearer anna-key-1")).status == 202
    assert killed == [(4711, signal.SIGKILL)]


async def test_routes_of_dev_are_not_in_the_reference(processes: Processes) -> None:
    assert not [path for path in frontend().api.openapi()["paths"] if path.startswith("/dev")]


@pytest.mark.parametrize(("host", "is_dev"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_page_has_the_buttons_where_the_routes_exist(
    monkeypatch: pytest.MonkeyPatch, host: str, is_dev: bool
) -> None:
    monkeypatch.setenv(DEV_PROCESSES, "/a/file")
    keys: dict[str, Any] = {"api_keys": "anna:a-key-of-anna", "ticket_secret": "0123456789abcdef"}
    api = Frontend(Settings(host=host, **keys)).api
    assert (b" data-dev>" in (await ask(api, "GET", "/")).body) is is_dev
    assert ((await ask(api, "GET", "/dev")).status != 404) is is_dev
