"""The files that the documentation shows are files that a worker takes."""

import re
from pathlib import Path

import pytest

from tailrace.settings import Settings
from tailrace.upstreams import UpstreamConfig, Upstreams
from tailrace.upstreams.config import parse

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "upstreams" / "tailrace.toml"
PAGE = (ROOT / "docs" / "upstreams.md").read_text()


def test_example_is_loaded_and_serves_what_its_comments_promise() -> None:
    upstreams = Upstreams.load(Settings(config=str(EXAMPLE)))
    assert [(each.upstream.name, each.model) for each in upstreams.targets("fast")] == [
        ("gpu", "llama-3.1-8b"),
        ("router", "meta-llama/llama-3.1-8b-instruct"),
    ]
    assert [each.upstream.name for each in upstreams.targets("gpt-4o")] == ["openai"]
    gpu, router, openai = upstreams.all
    assert (gpu.max_concurrency, router.max_concurrency) == (64, None)
    price = openai.price_of("gpt-4o-mini")
    assert price is not None
    assert (price.input, price.output) == (0.15, 0.6)


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_file_on_the_page_is_valid(text: str) -> None:
    assert parse(text)


def test_page_and_example_have_every_key() -> None:
    table = set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Several upstreams")[2], flags=re.MULTILINE))
    assert set(UpstreamConfig.model_fields) <= table
    example = EXAMPLE.read_text()
    assert [name for name in UpstreamConfig.model_fields if not re.search(rf"^{name} = ", example, re.MULTILINE)] == []
