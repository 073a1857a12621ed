"""The names of attributes, as tools will look for them: a change of any is a change for an operator."""

import pytest

from tailrace.tracing.names import CAPTURE, LATEST, NAMES, OPT_IN, OWN, Vocabulary

V1_36 = {
    "gen_ai.completion", "gen_ai.operation.name", "gen_ai.prompt", "gen_ai.request.choice.count",
    "gen_ai.request.max_tokens", "gen_ai.request.model", "gen_ai.request.temperature", "gen_ai.request.top_p",
    "gen_ai.response.finish_reasons", "gen_ai.response.id", "gen_ai.response.model", "gen_ai.system",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
}  # fmt: skip
NEWEST = V1_36 - {"gen_ai.completion", "gen_ai.prompt", "gen_ai.system"} | {
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.provider.name", "gen_ai.request.stream",
    "gen_ai.response.time_to_first_chunk", "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
}  # fmt: skip
OURS = {
    "error.type", "messaging.destination.name", "messaging.message.id", "messaging.operation.name",
    "messaging.operation.type", "messaging.system", "server.address", "server.port", "tailrace.attempt",
    "tailrace.epoch", "tailrace.generation.id", "tailrace.model", "tailrace.outcome", "tailrace.owner",
    "tailrace.restart.reason", "tailrace.resumed", "tailrace.retry", "tailrace.upstream", "tailrace.wire",
    "tailrace.worker",
}  # fmt: skip


@pytest.mark.parametrize(
    ("opt_in", "names"), [("", V1_36), ("http/dup", V1_36), (LATEST, NEWEST), (f"http, {LATEST}", NEWEST)]
)
def test_switch_changes_the_names_of_a_whole_generation(opt_in: str, names: set[str]) -> None:
    vocabulary = Vocabulary({OPT_IN: opt_in})
    assert set(vocabulary.attributes(dict.fromkeys(NAMES, 1))) == names
    assert set(vocabulary.attributes(dict.fromkeys(OWN, 1))) == OURS


def test_keys_of_both_tables_differ() -> None:
    assert NAMES.keys().isdisjoint(OWN)


def test_values_that_are_unknown_are_left_out() -> None:
    assert Vocabulary({}).attributes({"output_tokens": None, "input_tokens": 0}) == {"gen_ai.usage.input_tokens": 0}


@pytest.mark.parametrize(
    ("value", "captures"), [("", False), ("false", False), ("NO_CONTENT", False), ("true", True), ("SPAN_ONLY", True)]
)
def test_content_is_captured_where_it_is_asked_for(value: str, captures: bool) -> None:
    assert Vocabulary({CAPTURE: value}).captures_content is captures
