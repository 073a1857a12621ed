"""Which upstream `tailrace dev` uses, and how it is described."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.ollama import ollama
from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace_cli import local_http, upstreams
from tailrace_cli.embedded import free_port
from tailrace_demo import running


async def choose(environment: dict[str, str], **options: Any) -> upstreams.Upstream:
    return await asyncio.to_thread(upstreams.choose, environment, **options)


async def test_ollama_is_used_where_it_has_a_model_and_nothing_else_is_configured() -> None:
    async with running(app=ollama()) as url:
        host = url.removeprefix("http://").removesuffix("/v1")
        chosen = await choose({"OLLAMA_HOST": host})
        assert chosen.environment == {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "ollama"}
        assert chosen.description == f"Ollama at http://{host} (the demo model instead: --demo)"
        assert (await choose({"OLLAMA_HOST": host}, wants_demo=True)).environment is None
        for configured in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
            assert (await choose({"OLLAMA_HOST": host, configured: "http://other/v1"})).environment == {}


async def test_ollama_without_a_model_is_named_and_the_demo_model_is_used() -> None:
    async with running(app=ollama([])) as url:
        chosen = await choose({"OLLAMA_HOST": url.removesuffix("/v1")})
    assert chosen.environment is None
    assert "has no model: `ollama pull` one" in chosen.description


async def test_ollama_with_embedding_models_alone_is_not_used() -> None:
    async with running(app=ollama(["nomic-embed-text:latest", "bge-m3:latest"])) as url:
        chosen = await choose({"OLLAMA_HOST": url.removesuffix("/v1")})
    assert chosen.environment is None
    assert "has no model that can chat: `ollama pull` one" in chosen.description


@pytest.mark.parametrize(
    "address",
    ["foo", "localhost:8000/v1", "ftp://example.org/v1", "http://", "https:///v1", "http://[x/v1", "http://a:b"],
)
async def test_address_of_no_upstream_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured, match=r"^OPENAI_BASE_URL is not the address of an upstream"):
        await choose({"OPENAI_BASE_URL": address})
    assert (await choose({"OPENAI_BASE_URL": address}, wants_demo=True)).environment is None


async def test_key_that_no_header_can_have_is_refused_without_its_value() -> None:
    with pytest.raises(Misconfigured) as raised:
        await choose({"OPENAI_API_KEY": "sk-secret\n"})
    assert raised.value.message == "OPENAI_API_KEY is no key: it begins or ends with a space or a line end"


async def test_demo_model_is_used_where_there_is_no_ollama() -> None:
    chosen = await choose({"OLLAMA_HOST": f"127.0.0.1:{free_port()}"})
    assert chosen.environment is None
    assert "start Ollama" in chosen.description


async def test_ollama_is_looked_for_on_its_usual_port(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(local_http, "get_json", lambda url, **_: asked.append(url))
    await choose({})
    assert asked == ["http://127.0.0.1:11434/v1/models"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("gpu", "http://gpu:11434"),
        ("[::]:8000", "http://127.0.0.1:8000"),
        ("[::1]", "http://[::1]:11434"),
        ("http://gpu:8000/", "http://gpu:8000"),
        ("http://gpu", "http://gpu:80"),
        ("https://gpu", "https://gpu:443"),
        ("gpu:many", "http://127.0.0.1:11434"),
        ("[::1", "http://127.0.0.1:11434"),
    ],
)
def test_address_of_ollama_follows_its_own_variable(host: str, expected: str) -> None:
    assert upstreams.ollama_address(host) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OPENAI_API_KEY": "sk-secret"}, "https://api.openai.com/v1"),
        ({"OPENAI_BASE_URL": "https://me:secret@example.org:8443/v1?key=secret"}, "https://example.org:8443/v1"),
    ],
)
async def test_configured_upstream_is_described_without_secrets(environment: dict[str, str], expected: str) -> None:
    assert (await choose(environment)).description == expected


async def test_file_with_upstreams_is_used_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "tailrace.toml"
    file.write_text('[[upstreams]]\nname = "gpu"\nbase_url = "http://gpu.test/v1"\napi_key_env = "GPU_KEY"\n')
    settings = Settings(config=str(file))
    chosen = await choose({"GPU_KEY": "k", "OPENAI_BASE_URL": "http://other/v1"}, settings=settings)
    assert chosen == ("gpu (http://gpu.test/v1)", {})
    assert (await choose({}, settings=settings, wants_demo=True)).environment is None
    with pytest.raises(Misconfigured, match=r"has no GPU_KEY \(of the upstream gpu\)"):
        await choose({}, settings=settings)
    file.write_text("[[upstreams]]\n")
    with pytest.raises(Misconfigured, match="line 1: name: it is missing"):
        await choose({}, settings=settings)
