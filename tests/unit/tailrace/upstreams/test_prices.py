from typing import Any

import pytest

from support.logs import USAGE
from tailrace.upstreams.prices import Price, cost_of


def test_cost_is_the_usage_at_the_price_of_a_million_tokens() -> None:
    usage = {"prompt_tokens": 2_000_000, "completion_tokens": 500_000}
    assert cost_of(usage, Price(input=0.1, output=0.4)) == 0.4
    assert cost_of({"prompt_tokens": 1, "completion_tokens": 0}, Price(input=0.001, output=9)) == 1e-9


def test_cached_tokens_cost_as_much_as_the_input_unless_they_have_a_price() -> None:
    assert cost_of(USAGE, Price(input=1, output=2)) == (12 * 1 + 7 * 2) / 1e6
    assert cost_of(USAGE, Price(input=1, output=2, cached=0.25)) == (8 * 1 + 4 * 0.25 + 7 * 2) / 1e6
    assert cost_of(USAGE, Price(input=1, output=2, cached=0)) == (8 * 1 + 7 * 2) / 1e6


def test_cached_tokens_are_never_more_than_the_prompt() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 9}}
    assert cost_of(usage, Price(input=1, output=1, cached=0.5)) == 1e-6


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 3}, {"completion_tokens": 3}, {"prompt_tokens": "3", "completion_tokens": 3},
     {"prompt_tokens": -1, "completion_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": 2**60},
     {"prompt_tokens": True, "completion_tokens": 3}],
)  # fmt: skip
def test_cost_of_a_usage_without_counts_is_unknown(usage: Any) -> None:
    assert cost_of(usage, Price(input=1, output=1)) is None


@pytest.mark.parametrize("details", [None, 3, [], {"cached_tokens": "4"}, {"cached_tokens": -4}])
def test_malformed_details_of_the_prompt_count_no_cached_tokens(details: Any) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": details}
    assert cost_of(usage, Price(input=1, output=1, cached=0)) == 4e-6


def test_cost_without_a_price_is_unknown() -> None:
    assert cost_of(USAGE, None) is None


def test_free_model_costs_nothing_and_not_an_unknown_amount() -> None:
    assert cost_of(USAGE, Price(input=0, output=0)) == 0
