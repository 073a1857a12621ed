"""`tailrace workers`, `callers`, `top` and `audit`, and what they ask frontends in open mode and with keys."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.api import eventually
from support.product import Product, running_product
from tailrace.queue.presence import WorkerPresence, WorkerStatus
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace_cli import main
from tailrace_cli.audit import following
from tailrace_cli.frontend_client import FrontendClient, opened_frontend

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKER, OTHER = "aaaaworker000001", "aaaaworker000002"
KEYS = "ops:key-of-ops-1;scopes=admin,viewer:key-of-viewer-1;scopes=admin:view,web:key-of-web-1"
SECRET = "0123456789abcdef"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    async with running_product() as product:
        yield product


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(product: Product) -> AsyncIterator[str]:
    async with product.frontend(api_keys=KEYS, ticket_secret=SECRET) as frontend:
        yield frontend.url


@pytest.fixture(autouse=True)
def _open_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, product: Product) -> None:
    for name in ("TAILRACE_API_KEY", "TAILRACE_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAILRACE_URL", product.stack.url)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))


@pytest_asyncio.fixture(loop_scope="module")
async def workers(product: Product) -> AsyncIterator[WorkerPresence]:
    """Two of them that are alive, though no process is there: they obey no command."""
    server = RedisServer.connect(product.stack.redis.url)
    presence = WorkerPresence(server, lease_ms=Settings().lease_ms)
    await presence.heartbeat(WORKER, WorkerStatus("host-a", 7, "1.2", running=3, slots=10, rss_bytes=1 << 26))
    await presence.heartbeat(OTHER, WorkerStatus("host-b", 8, "1.2", running=0, slots=10, draining=True))
    yield presence
    for name in (WORKER, OTHER):
        await presence.deregister(name)
    await server.close()


async def run(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> Any:
    """What a command that exits with this status has printed."""
    capsys.readouterr()
    assert await asyncio.to_thread(main, list(argv)) == status
    return capsys.readouterr()


async def test_workers_are_a_table_or_the_rows_of_the_api(
    product: Product, workers: WorkerPresence, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (await run(capsys, "workers")).out.splitlines()
    assert header.split() == ["WORKER", "STATE", "RUNNING", "TOK/S", "MEMORY", "UP", "HOST", "PID", "VERSION"]
    assert [row.split()[:3] for row in rows] == [[WORKER, "ready", "3/10"], [OTHER, "drains", "0/10"]]
    assert " 64 MiB " in rows[0]
    printed = json.loads((await run(capsys, "workers", "--json")).out)
    answer = (await product.api.request("GET", "/v1/admin/workers")).value["data"]
    assert [each | {"silent": 0} for each in printed] == [each | {"silent": 0} for each in answer]


@pytest.mark.usefixtures("workers")
async def test_command_to_a_worker_is_asked_for_where_there_is_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = (await run(capsys, "workers", "drain", WORKER, status=2)).err
    assert "3 generations end where it is. Drain it? There is no terminal to ask on; --yes answers yes" in error
    error = (await run(capsys, "workers", "stop", WORKER, status=2)).err
    assert "It runs 3 now. Stop it?" in error


@pytest.mark.usefixtures("workers")
async def test_worker_is_known_by_the_beginning_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "begins the names of 2 workers" in (await run(capsys, "workers", "drain", "aaaa", "--yes", status=2)).err
    assert "no worker whose name begins with 'b'" in (await run(capsys, "workers", "stop", "b", "--yes", status=1)).err
    error = (await run(capsys, "workers", "drain", WORKER, "--yes", status=1)).err
    assert "does not listen" in error, "it is found, and only a process would obey"


async def test_policy_is_set_shown_and_removed(product: Product, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--weight", "2.5", "--max-running", "5", "--models", "demo,gpt-*")
    changed = json.loads((await run(capsys, "callers", "set", "anna", *words, "--json")).out)
    assert changed["policy"] == {"weight": 2.5, "max_running": 5, "models": ["demo", "gpt-*"]}
    shown = (await run(capsys, "callers", "show", "anna")).out
    assert "running               0/5\n" in shown
    assert "weight                2.5  (policy)\n" in shown
    assert "max_readers           2,500\n" in shown
    header, *rows = (await run(capsys, "callers")).out.splitlines()
    assert header.split()[:5] == ["CALLER", "RUN", "WAIT", "READ", "WEIGHT"]
    assert [row.split()[:5] for row in rows if row.startswith("anna")] == [["anna", "0/5", "0", "0", "2.5"]]
    changed = json.loads((await run(capsys, "callers", "--json", "set", "anna", "--models", "default")).out)
    assert changed["policy"] == {"weight": 2.5, "max_running": 5}
    await run(capsys, "callers", "reset", "anna")
    names = [each["name"] for each in json.loads((await run(capsys, "callers", "--json")).out)]
    assert "anna" not in names


async def test_callers_are_listed_beyond_one_page(product: Product, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"caller-{n:03}" for n in range(105)]
    for name in names:
        await product.api.request("PUT", f"/v1/admin/callers/{name}", json={"weight": 2})
    listed = [each["name"] for each in json.loads((await run(capsys, "callers", "--json")).out)]
    for name in names:
        await product.api.request("DELETE", f"/v1/admin/callers/{name}")
    assert [name for name in listed if name.startswith("caller-")] == names


async def test_set_without_a_limit_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are --weight, --max-running" in (await run(capsys, "callers", "set", "anna", status=2)).err


async def test_value_and_name_that_the_frontend_refuses_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weight: " in (await run(capsys, "callers", "set", "anna", "--weight", "-1", status=2)).err
    assert "name" in (await run(capsys, "callers", "show", "an na", status=2)).err


async def test_caller_is_blocked_and_served_again(
    guarded: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_URL", guarded)
    monkeypatch.setenv("TAILRACE_API_KEY", "key-of-ops-1")
    error = (await run(capsys, "callers", "block", "ben", status=2)).err
    assert "its 0 running and 0 waiting generations go on. Block it? There is no terminal" in error
    assert "ben (blocked)" in (await run(capsys, "callers", "block", "ben", "--yes", "--reason", "abuse")).out
    assert "(blocked)" not in (await run(capsys, "callers", "unblock", "ben")).out


@pytest.mark.usefixtures("workers")
async def test_top_prints_once_into_a_pipe(product: Product, capsys: pytest.CaptureFixture[str]) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("So far")
    lines = (await run(capsys, "top")).out.splitlines()
    assert lines[0].startswith("tailrace  running 3/10  waiting ")
    assert [line for line in lines if line.startswith(WORKER)]
    assert [line.split()[:3] for line in lines if line.startswith(generation_id)] == [[generation_id, "open", "demo"]]
    value = json.loads((await run(capsys, "top", "--json")).out)
    assert value.keys() == {"overview", "callers", "generations"}
    assert value["overview"]["running"] == 3
    assert generation_id in [each["id"] for each in value["generations"]]
    await writer.end()


async def test_audit_has_the_newest_entries_the_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    await run(capsys, "callers", "set", "carl", "--weight", "3")
    await run(capsys, "callers", "reset", "carl")
    acts = json.loads((await run(capsys, "audit", "--json", "-n", "50")).out)
    ours = [(each["action"], each["outcome"]) for each in acts if each["target"] == "carl"]
    assert ours == [("patch_caller", "ok"), ("delete_caller_policy", "ok")]
    header, *rows = (await run(capsys, "audit")).out.splitlines()
    assert header.split() == ["TIME", "WHO", "ACTION", "OUTCOME", "TARGET", "ADDRESS"]
    assert [row.split()[2:] for row in rows if " carl " in row and "patch" in row] == [
        ["open", "patch_caller", "ok", "carl", "127.0.0.1"]
    ]
    await run(capsys, "audit", "-n", "0", status=2)


async def test_audit_is_followed_over_a_frontend_that_stops(product: Product) -> None:
    """The address stays; behind it is another process."""
    frontend = await product.stack.add_frontend()
    async with opened_frontend(Settings(url=frontend.url)) as client:
        last = (await client.get("/v1/admin/audit", limit=1))["data"][0]["id"]
        seen: list[str] = []

        async def follow() -> None:
            async for entry in following(client, last):
                seen.append(entry["target"])  # noqa: PERF401 - each is looked for as it comes

        async def has(target: str) -> bool:
            return target in seen

        async with asyncio.timeout(20):
            task = asyncio.create_task(follow())
            await client.get("/v1/admin/callers/first")
            await eventually(lambda: has("first"))
            await frontend.stop()
            await product.api.request("GET", "/v1/admin/callers/second")
            await frontend.start()
            await frontend.ready()
            await eventually(lambda: has("second"))
            task.cancel()
    await frontend.stop()
    assert seen.count("first") == seen.count("second") == 1


async def test_key_is_needed_and_its_scopes_are_explained(
    guarded: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--url", guarded)
    error = (await run(capsys, "workers", *at, status=1)).err
    assert error == f"tailrace workers: {guarded} needs an API key: set TAILRACE_API_KEY\n"
    monkeypatch.setenv("TAILRACE_API_KEY", "no-such-key")
    error = (await run(capsys, "workers", *at, status=1)).err
    assert error.startswith(f"tailrace workers: {guarded} refuses the key of TAILRACE_API_KEY. ")
    assert "no-such-key" not in error
    monkeypatch.setenv("TAILRACE_API_KEY", "key-of-web-1")
    assert "lacks the scope admin:view" in (await run(capsys, "top", *at, status=1)).err
    monkeypatch.setenv("TAILRACE_API_KEY", "key-of-viewer-1")
    await run(capsys, "callers", *at)
    assert "lacks the scope admin:operate" in (await run(capsys, "callers", "reset", "web", *at, status=1)).err
    monkeypatch.setenv("TAILRACE_API_KEY", "key-of-ops-1")
    names = [each["name"] for each in json.loads((await run(capsys, "callers", "--json", *at)).out)]
    assert names == ["ops", "viewer", "web"]
    await run(capsys, "callers", "block", "web", "--yes", *at)
    monkeypatch.setenv("TAILRACE_API_KEY", "key-of-web-1")
    assert "blocked" in (await run(capsys, "workers", *at, status=1)).err


async def test_events_of_a_stream_are_read_by_name(product: Product) -> None:
    async with opened_frontend(Settings(url=f"{product.stack.url}/v1/")) as client:
        assert client.url == product.stack.url
        async for name, value in client.events("/v1/admin/overview/events"):
            assert name == "snapshot"
            assert isinstance(client, FrontendClient)
            assert "recent" in value
            break
