import pytest

from tailrace.errors import Misconfigured, ModelNotFound
from tailrace_frontend.models import AllowedModels, named_models


def test_empty_lists_allow_every_model() -> None:
    assert AllowedModels("", "").may_use("anna", "any/model:8b")
    assert AllowedModels(" , ", " ,").may_use("anna", "any/model:8b")


@pytest.mark.parametrize(
    ("caller", "model", "allowed"),
    [
        ("anna", "gpt-4o", True), ("anna", "gpt-4o-mini", False), ("anna", "llama3:8b", True), ("anna", "llama", True),
        ("anna", "GPT-4o", False), ("anna", "", False),
        ("ben", "llama3:8b", True), ("ben", "gpt-4o", False), ("ben", "llama3:70b", False),
        ("eve", "demo", False), ("eve", "gpt-4o", True),
    ],
)  # fmt: skip
def test_model_must_be_in_the_list_for_all_and_in_the_callers_own(caller: str, model: str, allowed: bool) -> None:
    lists = AllowedModels("gpt-4o, llama*", "ben=llama3:8b demo,eve=demo gpt-*")
    assert lists.may_use(caller, model) == allowed


def test_names_are_those_that_a_list_has_whole_and_the_caller_may_use() -> None:
    lists = AllowedModels("org/gpt-4o, llama*, demo, demo", "ben=llama3:8b demo mistral,eve=*")
    assert lists.names_for("anna") == ["org/gpt-4o", "demo"]
    assert lists.names_for("ben") == ["demo", "llama3:8b"]
    assert lists.names_for("eve") == ["org/gpt-4o", "demo"]
    assert AllowedModels("", "").names_for("anna") == []


def test_names_begin_with_the_default_and_end_with_those_of_the_upstream_that_are_allowed() -> None:
    upstream = ["llama3:8b", "demo", "gpt-4o", "default"]
    assert AllowedModels("", "", "default").names_for("anna", upstream) == ["default", "llama3:8b", "demo", "gpt-4o"]
    assert AllowedModels("", "").names_for("anna", upstream) == upstream
    lists = AllowedModels("gpt-4o, llama*", "ben=llama3:8b", "default")
    assert lists.names_for("anna", upstream) == ["gpt-4o", "llama3:8b"]
    assert lists.names_for("ben", upstream) == ["llama3:8b"]


def test_model_that_a_caller_may_not_use_does_not_exist() -> None:
    lists = AllowedModels("demo", "")
    lists.check("anna", "demo")
    with pytest.raises(ModelNotFound, match="`gpt-4o` does not exist") as refused:
        lists.check("anna", "gpt-4o")
    assert refused.value.param == "model"


@pytest.mark.parametrize("bad", ["ben", "ben=", "ben= ", "anna=demo"])
def test_malformed_list_of_a_caller_is_reported_by_position(bad: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_MODELS_PER_CALLER: entry 2 is not"):
        AllowedModels("", f"anna=demo,{bad}")


def test_alternatives_for_a_router_are_named_too() -> None:
    request = {"model": "a", "models": ["b", "c"], "fallbacks": [{"a": ["d"]}, "e"]}
    assert list(named_models(request)) == [
        ("model", "a"), ("models", "b"), ("models", "c"), ("fallbacks", ""), ("fallbacks", "e"),
    ]  # fmt: skip
    assert list(named_models({"model": "a", "models": None, "fallbacks": {"a": ["d"]}})) == [
        ("model", "a"), ("fallbacks", ""),
    ]  # fmt: skip


def test_what_is_no_name_is_allowed_by_empty_lists_alone() -> None:
    assert AllowedModels("", "").may_use("anna", "")
    assert not AllowedModels("gpt-4o,llama*", "").may_use("anna", "")


def test_empty_list_of_an_operator_allows_nothing() -> None:
    models = AllowedModels("", "anna=llama*", own_of={"anna": [], "eve": ["demo"]}.get)
    assert not models.may_use("anna", "llama3")
    assert models.names_for("anna", ["llama3"]) == []
    assert (models.may_use("eve", "demo"), models.may_use("eve", "other")) == (True, False)
    assert models.may_use("max", "other")


def test_model_that_no_upstream_serves_does_not_exist() -> None:
    lists = AllowedModels("", "", "default", is_served=lambda model: model.startswith("llama"))
    assert lists.names_for("anna", ["llama3:8b", "gpt-4o"]) == ["llama3:8b"]
    with pytest.raises(ModelNotFound):
        lists.check("anna", "gpt-4o")
    lists.check_request("anna", {"model": "llama3:8b", "models": ["gpt-4o"]})  # of a router, which serves it
