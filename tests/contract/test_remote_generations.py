"""`tailrace ls`, `show` and `cancel` at a frontend: the same as over Redis, with a key of the caller."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from support.api import Api
from support.product import UNKNOWN_ID, Product, running_product
from tailrace_cli import main

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = (
    "web:key-of-web-11;scopes=read,web:key-of-web-22,other:key-of-other-1,ops:key-of-ops-11;scopes=admin,"
    "viewer:key-of-viewer-1;scopes=admin:view"
)
READS, CANCELS, OTHER = "key-of-web-11", "key-of-web-22", "key-of-other-1"
OPERATES, VIEWS = "key-of-ops-11", "key-of-viewer-1"


class Guarded(NamedTuple):
    product: Product
    url: str

    @property
    def api(self) -> Api:
        return Api(self.product.http, self.url, CANCELS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    async with (
        running_product() as product,
        product.frontend(api_keys=KEYS, ticket_secret="0123456789abcdef") as frontend,
    ):
        yield Guarded(product, frontend.url)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guarded: Guarded) -> None:
    for name in ("TAILRACE_URL", "TAILRACE_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAILRACE_REDIS_URL", guarded.product.stack.redis.url)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TAILRACE_API_KEY", READS)


async def run(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> Any:
    """What a command that exits with this status has printed."""
    capsys.readouterr()
    assert await asyncio.to_thread(main, list(argv)) == status
    return capsys.readouterr()


async def values(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads((await run(capsys, *argv, "--json")).out)


async def test_list_and_generation_are_those_over_redis(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    at, by = ("--url", guarded.url), ("--caller", "web")
    running = await guarded.api.create()
    ended = await guarded.product.completed("The ", "log.", api=guarded.api)
    await (await guarded.product.writer(running)).write_text("So far")
    assert await values(capsys, "ls", *at) == await values(capsys, "ls", *by)
    for each in (running, ended):
        assert await values(capsys, "show", each, *at) == await values(capsys, "show", each)
    assert await values(capsys, "show", *at) == await values(capsys, "show", *by)
    _, *rows = (await run(capsys, "ls", *at)).out.splitlines()
    assert [row.split()[:2] for row in rows] == [[ended, "completed"], [running, "running"]]
    text = (await run(capsys, "show", ended, *at)).out
    assert "status    completed\n" in text
    assert "ended     " in text
    assert text.endswith("\nAnswer\n\nThe log.\n")
    assert "ticket" not in (await run(capsys, "show", ended, *at, "--json")).out


async def test_list_is_as_long_as_it_shall_be(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    """Longer than a page of the API."""
    ids = [await guarded.api.create() for _ in range(105)]
    listed = await values(capsys, "ls", "--url", guarded.url, "-n", "103")
    assert [each["id"] for each in listed] == ids[:-104:-1]


async def test_key_cancels_what_is_its_callers(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_URL", guarded.url)
    generation_id = await guarded.api.create()
    assert "lacks the scope cancel" in (await run(capsys, "cancel", generation_id, status=1)).err
    monkeypatch.setenv("TAILRACE_API_KEY", OTHER)
    printed = await run(capsys, "cancel", generation_id, status=1)
    assert (printed.out, printed.err) == ("", "tailrace cancel: The requested resource does not exist.\n")
    monkeypatch.setenv("TAILRACE_API_KEY", CANCELS)
    assert (await run(capsys, "cancel", generation_id)).out == f"{generation_id}  cancelled\n"
    assert (await run(capsys, "cancel", generation_id)).out == f"{generation_id}  cancelled already\n"


@pytest.mark.parametrize("is_remote", [True, False])
async def test_cancels_as_json_have_what_became_of_each(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_remote: bool
) -> None:
    monkeypatch.setenv("TAILRACE_API_KEY", CANCELS)
    at = ("--url", guarded.url) if is_remote else ()
    first, second = [await guarded.api.create() for _ in range(2)]
    await run(capsys, "cancel", first, *at)
    rows = json.loads((await run(capsys, "cancel", first, second, UNKNOWN_ID, "--json", *at, status=1)).out)
    *known, missing = rows
    assert known == [
        {"id": first, "status": "cancelled", "changed": False},
        {"id": second, "status": "cancelled", "changed": True},
    ]
    assert missing.keys() == {"id", "error"}


async def test_caller_is_named_for_redis_alone(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    error = (await run(capsys, "ls", "--caller", "web", "--url", guarded.url, status=2)).err
    assert "the key names the caller" in error


async def test_caller_without_a_generation_has_no_latest_one(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_API_KEY", OTHER)
    assert "no generation of this caller yet" in (await run(capsys, "show", "--url", guarded.url, status=1)).err
    assert await values(capsys, "ls", "--url", guarded.url) == []


async def test_operator_has_the_generations_of_all_callers(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_URL", guarded.url)
    ended = await guarded.product.completed("The log.", api=guarded.api)
    waiting = await guarded.api.create()
    as_caller = await values(capsys, "show", ended)
    monkeypatch.setenv("TAILRACE_API_KEY", OPERATES)
    assert await values(capsys, "show", ended) == as_caller
    text = (await run(capsys, "show", ended)).out
    assert "caller    web\n" in text
    assert text.endswith("\nAnswer\n\nThe log.\n")
    header, *rows = (await run(capsys, "ls", "--all", "-n", "2")).out.splitlines()
    assert header.split() == ["ID", "STATUS", "CALLER", "MODEL", "AGE", "TOKENS", "ERROR", "QUESTION"]
    assert [row.split()[:3] for row in rows] == [[waiting, "queued", "web"], [ended, "completed", "web"]]
    found = await values(capsys, "ls", "--all", "status:completed owner:web", "-n", "1")
    assert [each["id"] for each in found] == [ended]
    assert [each["id"] for each in await values(capsys, "ls", "--all", waiting)] == [waiting]
    assert "no qualifier" in (await run(capsys, "ls", "--all", "colour:red", status=2)).err
    assert (await run(capsys, "cancel", waiting)).out == f"{waiting}  cancelled\n"
    assert "does not exist" in (await run(capsys, "show", UNKNOWN_ID, status=1)).err


async def test_search_is_as_long_as_it_shall_be(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_API_KEY", VIEWS)
    ids = [await guarded.api.create() for _ in range(105)]
    found = await values(capsys, "ls", "--all", "owner:web", "--url", guarded.url, "-n", "103")
    assert [each["id"] for each in found] == ids[:-104:-1]


async def test_operator_without_the_scope_of_content_sees_none(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_URL", guarded.url)
    ended = await guarded.product.completed("The log.", api=guarded.api)
    monkeypatch.setenv("TAILRACE_API_KEY", VIEWS)
    text = (await run(capsys, "show", ended)).out
    assert "status    completed\n" in text
    assert "Answer" not in text
    shown = await values(capsys, "show", ended)
    assert (shown["request"], shown["output"]) == (None, [])
    waiting = await guarded.api.create()
    assert "lacks the scope" in (await run(capsys, "cancel", waiting, status=1)).err
    monkeypatch.setenv("TAILRACE_API_KEY", OTHER)
    assert "does not exist" in (await run(capsys, "show", ended, status=1)).err
    assert "lacks the scope admin:view" in (await run(capsys, "ls", "--all", status=1)).err
