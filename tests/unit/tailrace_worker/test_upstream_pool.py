"""The clients of a worker: one for each upstream, kept over reloads where that is possible."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from tailrace.events import Failure
from tailrace.queue import UpstreamCalls
from tailrace.settings import Settings
from tailrace.upstreams import DEFAULT_UPSTREAM
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream_pool import UpstreamPool

UPSTREAM = '[[upstreams]]\nname = "{0}"\nbase_url = "http://{0}.test/v1"\n'
ONE, TWO = UPSTREAM.format("one"), UPSTREAM.format("two")


class Harness:
    def __init__(self, file: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        file.write_text(text)
        self.closed: list[str] = []
        harness, close = self, UpstreamClient.close

        async def closing(client: UpstreamClient) -> None:
            harness.closed.append(client.config.name)
            await close(client)

        monkeypatch.setattr(UpstreamClient, "close", closing)
        self.pool = UpstreamPool(Settings(config=str(file)), cast("UpstreamCalls", None), "this worker")

    async def reload(self, text: str) -> None:
        self.file.write_text(text)
        assert await self.pool.upstreams.reload()
        await asyncio.gather(*self.pool._closing)

    @property
    def names(self) -> list[str]:
        return [client.config.name for client in self.pool.clients]


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path / "tailrace.toml", ONE + TWO, monkeypatch)
    yield harness
    await harness.pool.close()


async def test_reload_keeps_what_is_the_same_and_closes_what_is_gone(harness: Harness) -> None:
    one, two = harness.pool.clients
    called: list[str] = []
    harness.pool.listeners.append(lambda: called.append("reloaded"))
    await harness.reload(TWO + ONE.replace("one.test", "elsewhere.test"))
    assert harness.names == ["two", "one"]
    assert harness.pool.clients[0] is two
    assert harness.pool.clients[1] is not one
    assert harness.pool.clients[1].address == "http://elsewhere.test/v1"
    assert (harness.closed, called) == (["one"], ["reloaded"])


async def test_client_is_closed_after_its_last_call(harness: Harness) -> None:
    config = harness.pool.upstreams.all[0]
    with harness.pool.client(config) as first, harness.pool.client(config) as second:
        assert first is second
        await harness.reload(TWO)
        assert harness.closed == []
        with harness.pool.client(config) as late:
            assert late is first, "its targets were chosen before the reload"
    await asyncio.gather(*harness.pool._closing)
    assert harness.closed == ["one"]


async def test_upstream_of_an_older_file_can_still_be_called(harness: Harness) -> None:
    config = harness.pool.upstreams.all[0]
    await harness.reload(TWO)
    with harness.pool.client(config) as client:
        assert client.config == config
    await asyncio.gather(*harness.pool._closing)
    assert harness.closed == ["one", "one"]
    assert harness.names == ["two"]


async def test_client_of_an_upstream_sends_its_own_key_and_no_name_of_openais_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ONE_KEY": "key-of-one", "OPENAI_API_KEY": "sk-other", "OPENAI_ORG_ID": "org-x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://other.test/v1")
    harness = Harness(tmp_path / "tailrace.toml", ONE + 'api_key_env = "ONE_KEY"\n' + TWO, monkeypatch)
    one, two = (client.sdk._build_headers(_options()) for client in harness.pool.clients)
    assert (one["authorization"], two["authorization"]) == ("Bearer key-of-one", "Bearer none")
    assert "openai-organization" not in {*map(str.lower, one), *map(str.lower, two)}
    assert [client.address for client in harness.pool.clients] == ["http://one.test/v1", "http://two.test/v1"]
    await harness.pool.close()


def _options() -> Any:
    from openai._models import FinalRequestOptions

    return FinalRequestOptions(method="post", url="/x")


async def test_failure_of_any_upstream_is_redacted_by_the_keys_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_KEY", "key-of-one-01234")
    monkeypatch.setenv("TWO_KEY", "key-of-one-01234-and-more")
    text = ONE + 'api_key_env = "ONE_KEY"\n' + TWO + 'api_key_env = "TWO_KEY"\n'
    harness = Harness(tmp_path / "tailrace.toml", text, monkeypatch)
    failure = Failure("key-of-one-01234 and key-of-one-01234-and-more", "code")
    assert harness.pool.redact(failure).message == "*** and ***"
    for client in harness.pool.clients:
        assert client.redact(failure).message == "*** and ***"
    await harness.pool.close()


async def test_reload_redacts_the_key_of_a_new_upstream_in_the_errors_of_every_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_KEY", "key-of-two-01234")
    harness = Harness(tmp_path / "tailrace.toml", ONE, monkeypatch)
    await harness.reload(ONE + TWO + 'api_key_env = "TWO_KEY"\n')
    for client in harness.pool.clients:
        assert client.redact(Failure("key-of-two-01234", "code")).message == "***"
    await harness.pool.close()


async def test_new_key_leaves_the_connections_of_the_other_upstreams(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREE_KEY", "key-of-three-01234")
    one, two = harness.pool.clients
    await harness.reload(ONE + TWO + UPSTREAM.format("three") + 'api_key_env = "THREE_KEY"\n')
    assert harness.pool.clients[:2] == [one, two]
    assert harness.closed == []


async def test_key_of_an_upstream_that_the_file_no_longer_has_stays_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-secret-of-one-123456"
    monkeypatch.setenv("ONE_KEY", key)
    harness = Harness(tmp_path / "tailrace.toml", ONE + 'api_key_env = "ONE_KEY"\n' + TWO, monkeypatch)
    with harness.pool.client(harness.pool.upstreams.all[0]) as client:
        await harness.reload(TWO)
        quoted = Failure(f"failed for key {key}", "code")
        for redact in (harness.pool.redact, client.redact, harness.pool.clients[0].redact):
            assert redact(quoted).message == "failed for key ***"
    await harness.pool.close()


async def test_pool_without_a_file_has_the_one_upstream() -> None:
    pool = UpstreamPool(Settings(), cast("UpstreamCalls", None), "this worker")
    assert [client.config for client in pool.clients] == [DEFAULT_UPSTREAM]
    assert pool.upstreams.is_default
    await pool.close()
