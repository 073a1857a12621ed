"""The children of `tailrace dev`, without processes; integration/test_dev.py has the whole command."""

import asyncio
import json
import os
import re
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from support.stored_log import create_generation
from tailrace import keys
from tailrace.log import Log
from tailrace.process import requested_kill
from tailrace.settings import DEV_PROCESSES, LISTENERS, Settings, load
from tailrace_cli import banner, dev, ports
from tailrace_cli.children import OnExit
from tailrace_cli.embedded import EmbeddedServer
from tailrace_cli.ports import BoundPort
from tailrace_cli.upstreams import Upstream

DEMO = Upstream("the demo model", None)
OTHER = Upstream("another", {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"})
UPSTREAM = ("OPENAI_BASE_URL", "OPENAI_API_KEY")


class Child:
    """Runs until `stop`; the one named `failing` cannot start."""

    all: list["Child"]
    failing = ""

    def __init__(
        self, name: str, *, environment: Mapping[str, str], sockets: Sequence[socket],
        on_start: Callable[[str, int], None], on_exit: OnExit | None,
    ) -> None:  # fmt: skip
        self.on_exit = on_exit
        self.name = name
        self.environment = environment
        self.sockets = sockets
        self.on_start = on_start
        self.stopped = asyncio.Event()
        Child.all.append(self)

    async def keep_running(self) -> None:
        self.on_start(self.name, len(self.name))
        if self.name != Child.failing:
            await self.stopped.wait()

    async def stop(self, _: float) -> None:
        self.stopped.set()


@pytest.fixture(autouse=True)
def _children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "Child", Child)
    monkeypatch.setattr(Child, "all", [], raising=False)
    for name in (*UPSTREAM, *(f"TAILRACE_{each.upper()}" for each in (*dev.DEFAULTS, "host", "port"))):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    return SimpleNamespace(url="redis://127.0.0.1:1/0", data_dir=tmp_path, pid=9)


@pytest.fixture
def port() -> Iterator[BoundPort]:
    with ports.bind("127.0.0.1", 0) as port:
        yield port


async def run(
    server: Any, port: BoundPort, upstream: Upstream = DEMO, *, stops: bool = True, opens_browser: bool = False,
    **settings: Any,
) -> int:  # fmt: skip
    stopping = asyncio.Event()
    if stops:
        stopping.set()
    async with asyncio.timeout(10):
        with dev.Processes(dev.with_defaults(load(**settings)), server, port, upstream) as processes:
            return await processes.run(stopping, opens_browser=opens_browser)


async def test_dev_without_an_upstream_runs_the_demo_model_and_points_the_worker_at_it(
    server: Any, port: BoundPort
) -> None:
    assert await run(server, port) == 0
    model, worker, frontend = Child.all
    assert [model.name, worker.name, frontend.name] == ["demo-model", "worker", "frontend"]
    (listener,) = model.sockets
    assert worker.environment["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
    assert model.environment[LISTENERS] != frontend.environment[LISTENERS]
    assert listener.fileno() == -1  # closed at the end
    assert worker.environment["TAILRACE_REDIS_URL"] == frontend.environment["TAILRACE_REDIS_URL"] == server.url


@pytest.mark.parametrize(("given", "expected"), [(None, "5"), ("9", "9")])
async def test_dev_waits_less_long_for_a_silent_demo_model_unless_that_is_set(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    if given:
        monkeypatch.setenv("TAILRACE_UPSTREAM_IDLE_TIMEOUT_S", given)
    assert await run(server, port) == 0
    assert Child.all[1].environment["TAILRACE_UPSTREAM_IDLE_TIMEOUT_S"] == expected


async def test_dev_with_an_upstream_runs_no_demo_model(server: Any, port: BoundPort) -> None:
    assert await run(server, port, OTHER) == 0
    assert [child.name for child in Child.all] == ["worker", "frontend"]
    assert Child.all[0].environment["OPENAI_BASE_URL"] == "http://127.0.0.1:11434/v1"
    assert "TAILRACE_UPSTREAM_IDLE_TIMEOUT_S" not in Child.all[0].environment


@pytest.mark.parametrize("name", UPSTREAM)
async def test_dev_leaves_a_configured_upstream_as_it_is(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "given")
    assert await run(server, port, Upstream("given", {})) == 0
    assert {each for each in UPSTREAM if each in Child.all[0].environment} == {name}
    assert Child.all[0].environment[name] == "given"


@pytest.mark.parametrize(("upstream", "config"), [(DEMO, ""), (Upstream("those of a file", {}), "tailrace.toml")])
async def test_file_of_upstreams_reaches_the_children_unless_they_use_the_demo_model(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, config: str
) -> None:
    monkeypatch.setenv("TAILRACE_CONFIG", "tailrace.toml")
    with dev.Processes(Settings(), server, port, upstream):
        assert {child.environment["TAILRACE_CONFIG"] for child in Child.all} == {config}


async def test_frontend_inherits_the_port_and_the_worker_none(server: Any, port: BoundPort) -> None:
    descriptors = [each.fileno() for each in port.sockets]
    assert await run(server, port, OTHER) == 0
    worker, frontend = Child.all
    assert frontend.environment[LISTENERS] == ",".join(map(str, descriptors))
    assert frontend.environment["TAILRACE_PORT"] == str(port.number)
    assert LISTENERS not in worker.environment
    assert list(worker.sockets) == []


async def test_port_is_closed_once_the_frontend_has_stopped(server: Any, port: BoundPort) -> None:
    assert await run(server, port, OTHER) == 0
    assert [each.fileno() for each in port.sockets] == [-1]


async def test_settings_of_dev_suit_one_machine_unless_they_are_set(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_LEASE_S", "7")
    assert await run(server, port, OTHER, host="localhost") == 0
    for child in Child.all:
        given = {name.lower(): child.environment[f"TAILRACE_{name.upper()}"] for name in (*dev.DEFAULTS, "host")}
        assert given == {
            "drain_s": "1.0", "drain_accept_s": "0.0", "lease_s": "7.0", "retention_s": "604800",
            "webhook_allow_private": "True", "host": "localhost",
        }  # fmt: skip
        assert load(**given).lease_s == 7


async def test_children_are_in_the_file_of_processes_while_they_run(server: Any, port: BoundPort) -> None:
    table = server.data_dir / "processes.json"
    seen: list[Any] = []

    async def look() -> None:
        while len(seen) < 4:
            await asyncio.sleep(0)
            seen[:] = json.loads(table.read_text()).items() if table.exists() else []
        for child in Child.all:
            child.stopped.set()

    looking = asyncio.create_task(look())
    assert await run(server, port, stops=False) == 1
    await looking
    pids = {"dev": os.getpid(), "demo-model": 10, "worker": 6, "frontend": 8}
    assert dict(seen) == {name: {"pid": pid, "restarts": 0} for name, pid in pids.items()}
    assert {child.environment[DEV_PROCESSES] for child in Child.all} == {str(table)}
    assert not table.exists()


async def run_beside_a_dead_worker(server: Any, port: BoundPort, log: Log, valkey: EmbeddedServer) -> str:
    """Run `tailrace dev` to its end; returns the id of a generation that has a lease of the worker `dead`."""
    generation_id = await create_generation(log)
    await log.unfinished.add_restored(generation_id)
    await log.acquire(generation_id, "a run", worker="dead")
    server.url = valkey.url
    assert await run(server, port) == 0
    return generation_id


async def test_exit_of_the_worker_alone_ends_leases(
    server: Any, port: BoundPort, log: Log, redis: Redis, valkey: EmbeddedServer
) -> None:
    generation_id = await run_beside_a_dead_worker(server, port, log, valkey)
    model, worker, frontend = Child.all
    assert (model.on_exit, frontend.on_exit) == (None, None)
    assert worker.on_exit is not None
    await worker.on_exit("dead", 6)
    state = await log.state(generation_id)
    assert state.lease <= await log.server.now()
    assert (state.status, state.handovers) == ("running", 0)  # a sweeper decides whether it is charged


@pytest.mark.parametrize(("noted", "handovers"), [(6, 1), (7, 0)])
async def test_worker_that_the_page_kills_hands_its_generations_over(
    server: Any, port: BoundPort, log: Log, redis: Redis, valkey: EmbeddedServer, noted: int, handovers: int
) -> None:
    generation_id = await run_beside_a_dead_worker(server, port, log, valkey)
    worker = Child.all[1]
    assert worker.on_exit is not None
    requested_kill.note(Path(worker.environment[DEV_PROCESSES]), noted)
    await worker.on_exit("dead", 6)
    state = await log.state(generation_id)
    assert (state.handovers, state.failed_attempts, state.lost_attempts) == (handovers, 0, 0)
    assert state.status == ("queued" if handovers else "running")
    if handovers:
        assert await redis.zscore(keys.QUEUE, state.job_id) is not None


async def test_lease_that_redis_does_not_end_is_reported(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dev, "REPLACE_S", 0.2)
    with dev.Processes(Settings(), server, port, OTHER) as processes:
        async with asyncio.timeout(10):
            await processes._replace_worker("dead", 6)
    (message,) = [each.getMessage() for each in caplog.records if each.name == dev.__name__]
    assert re.fullmatch(r"the leases of the worker end by their time: \S.*", message)


@pytest.mark.parametrize("name", ["demo-model", "worker", "frontend"])
async def test_dev_stops_every_child_and_fails_where_one_cannot_start(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Child, "failing", name)
    assert await run(server, port, stops=False) == 1
    assert [child.stopped.is_set() for child in Child.all] == [True] * 3


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything is ready at once, and the addresses that a browser opens."""
    opened: list[str] = []

    async def wait_until_ready(*_: object) -> str:
        return ""

    async def fetch_models(_: object) -> tuple[list[str], str]:
        return ["qwen3:8b", "llama3.2"], ""

    def open_page(url: str) -> bool:
        opened.append(url)
        for child in Child.all:
            child.stopped.set()
        return len(opened) == 1

    monkeypatch.setattr(banner, "wait_until_ready", wait_until_ready)
    monkeypatch.setattr(banner, "fetch_models", fetch_models)
    monkeypatch.setattr(webbrowser, "open", open_page)
    return opened


async def test_banner_names_models_and_processes_and_then_the_page_is_opened(
    server: Any, port: BoundPort, ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    port.taken_by = "another program"
    await run(server, port, stops=False, opens_browser=True)
    printed = capsys.readouterr().out
    assert "port 8080 is taken by another program; --port chooses one\n" in printed
    assert "  models     qwen3:8b, llama3.2\n" in printed
    assert "  processes  frontend 8 · worker 6 · demo-model 10 · Valkey 9\n" in printed
    assert ready == [port.url]


async def test_machine_without_a_browser_is_reported(
    server: Any, port: BoundPort, ready: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ready.append("an earlier one")
    await run(server, port, stops=False, opens_browser=True)
    assert caplog.messages == [f"there is no browser to open {port.url}"]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"model": "llama3.2"}, "llama3.2, qwen3:8b"),
        ({"models": "llama*"}, "llama3.2"),
        ({"api_keys": "anna:anna-key-1", "ticket_secret": "0123456789abcdef"}, "qwen3:8b, llama3.2"),
    ],
)
async def test_models_of_the_banner_follow_the_settings(
    server: Any, port: BoundPort, ready: list[str], capsys: pytest.CaptureFixture[str], settings: Any, shown: str
) -> None:
    await run(server, port, stops=False, opens_browser=True, **settings)
    assert f"  models     {shown}\n" in capsys.readouterr().out


async def test_frontend_that_is_never_ready_is_reported(
    server: Any, port: BoundPort, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(banner, "READY_S", 0.01)
    monkeypatch.setattr(banner, "ASK_S", 0.05)
    with dev.Processes(Settings(), server, port, OTHER) as processes:
        await processes._greet(opens_browser=True)
    assert capsys.readouterr().out == ""
    assert caplog.messages == [f"the frontend at {port.url} does not answer after 0 s"]


async def test_secret_of_tickets_is_generated_once_and_kept_for_its_user_alone(
    server: Any, port: BoundPort, tmp_path: Path
) -> None:
    keys = load(api_keys="anna:anna-key-1", data_dir=tmp_path / "data")
    settings = dev.with_ticket_secret(keys)
    settings.check_frontend()
    secret = settings.ticket_secret.get_secret_value()
    assert dev.with_ticket_secret(keys).ticket_secret.get_secret_value() == secret
    assert (tmp_path / "data" / "ticket-secret").stat().st_mode & 0o777 == 0o600
    assert await run(server, port, OTHER, api_keys="anna:anna-key-1", ticket_secret=secret) == 0
    assert {child.environment["TAILRACE_TICKET_SECRET"] for child in Child.all} == {secret}


def test_secret_of_tickets_that_is_set_is_kept(tmp_path: Path) -> None:
    chosen = load(api_keys="anna:anna-key-1", ticket_secret="0123456789abcdef", data_dir=tmp_path / "data")
    assert dev.with_ticket_secret(chosen) is chosen
    assert dev.with_ticket_secret(load(data_dir=tmp_path / "data")).ticket_secret.get_secret_value() == ""
    assert not (tmp_path / "data").exists()
