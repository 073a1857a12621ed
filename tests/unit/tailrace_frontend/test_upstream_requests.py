"""Requests in the API of the upstream that will serve them."""

from pathlib import Path

import pytest

from tailrace.errors import UnsupportedParameter
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace.upstreams import CurrentUpstreams
from tailrace_frontend.upstream_requests import dialects_of, request_for

TWO = """
[[upstreams]]
name = "chat"
base_url = "http://127.0.0.1:1/v1"
models = ["both", "chat"]

[[upstreams]]
name = "responses"
base_url = "http://127.0.0.1:2/v1"
dialect = "responses"
models = ["both", "responses"]
"""
SEARCH: Json = {"input": "Hello?", "tools": [{"type": "web_search"}]}


@pytest.fixture
def upstreams(tmp_path: Path) -> CurrentUpstreams:
    file = tmp_path / "tailrace.toml"
    file.write_text(TWO)
    return CurrentUpstreams(Settings(config=str(file)))


def test_apis_are_those_of_the_models_upstreams(upstreams: CurrentUpstreams) -> None:
    named = {model: dialects_of(upstreams, {"model": model}) for model in ("both", "chat", "responses", "none")}
    assert named == {
        "both": ["chat", "responses"], "chat": ["chat"], "responses": ["responses"], "none": ["chat"],
    }  # fmt: skip


def test_request_is_for_the_first_upstream_that_has_a_place_for_it(upstreams: CurrentUpstreams) -> None:
    assert request_for(upstreams, "responses", {"model": "both", "input": "Hello?"})["messages"]
    assert request_for(upstreams, "responses", {"model": "both", **SEARCH})["tools"] == SEARCH["tools"]


def test_refusal_is_that_of_the_first_upstream(upstreams: CurrentUpstreams) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        request_for(upstreams, "responses", {"model": "chat", **SEARCH})
    assert refusal.value.param == "tools[0].type"
    with pytest.raises(UnsupportedParameter) as refusal:
        request_for(upstreams, "chat", {"model": "responses", "messages": [], "n": 2})
    assert refusal.value.param == "n"
    assert request_for(upstreams, "chat", {"model": "both", "messages": [], "n": 2})["n"] == 2


def test_one_upstream_has_the_api_of_the_settings() -> None:
    one = CurrentUpstreams(Settings(upstream_dialect="responses"))
    assert dialects_of(one, {"model": "any"}) == ["responses"]
