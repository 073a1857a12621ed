from pathlib import Path
from typing import Any

import pytest

from tailrace.events import Api, Json, Options
from tailrace.queue import CallerLimits, Reservation
from tailrace.settings import Settings
from tailrace.upstreams import CurrentUpstreams
from tailrace_frontend.reservations import MOST_CHOICES, reservation_of

OPTIONS = Options(deadline_s=60, retention_s=60)
LIMITED = CallerLimits.of(Settings(max_tokens_per_minute_per_caller=500))
CONFIG = """
[[upstreams]]
name = "primary"
base_url = "http://127.0.0.1:1/v1"
prices = { "demo" = { input = 0.5, output = 2.0 } }
"""


def of(
    limits: CallerLimits = LIMITED, upstreams: CurrentUpstreams | None = None, api: Api = "chat", **fields: Any
) -> Reservation | None:
    request: Json = {"model": "demo", "messages": [{"role": "user", "content": "Hello?"}]} | fields
    return reservation_of("gen", api, request, OPTIONS, limits, upstreams)


def test_caller_without_a_limit_of_tokens_and_without_a_budget_reserves_nothing() -> None:
    assert of(CallerLimits.of(Settings())) is None
    assert of(CallerLimits.of(Settings(budget_month_usd_per_caller=0.5))) is not None


@pytest.mark.parametrize(
    ("fields", "most", "choices"),
    [
        ({}, 0, 1),
        ({"max_tokens": 7}, 7, 1),
        ({"max_completion_tokens": 9, "max_tokens": 8}, 9, 1),
        ({"max_completion_tokens": 8, "max_tokens": 9, "n": 3}, 9, 3),
        ({"max_tokens": None, "n": None}, 0, 1),
        ({"max_tokens": True, "n": -1}, 0, 1),
        ({"max_tokens": "7", "n": 10**9}, 0, MOST_CHOICES),
        ({"max_tokens": 10**30}, 0, 1),
        ({"max_tokens": 10**30, "max_completion_tokens": 1}, 0, 1),
        ({"max_tokens": None, "max_completion_tokens": 1}, 1, 1),
    ],
)
def test_limit_of_the_output_and_choices_are_those_of_the_request(fields: Json, most: int, choices: int) -> None:
    reservation = of(**fields)
    assert reservation is not None
    assert (reservation.max_output, reservation.choices) == (most, choices)
    assert (reservation.input, reservation.tokens_per_minute, reservation.hold) == (2, 500, 60_000)


@pytest.mark.parametrize(
    ("api", "fields", "most"),
    [
        ("chat", {"max_output_tokens": 1}, 0),
        ("chat", {"max_output_tokens": 1, "max_tokens": 700}, 700),
        ("chat", {"max_output_tokens": 700, "max_tokens": 1}, 700),
        ("ui-messages", {"max_output_tokens": 1}, 0),
        ("ui-messages", {"max_tokens": 7}, 7),
        ("responses", {"max_output_tokens": 7}, 7),
        ("responses", {"max_tokens": 1, "max_completion_tokens": 1}, 0),
        ("responses", {"max_tokens": 1, "max_output_tokens": 700}, 700),
    ],
)
def test_field_of_another_api_lowers_no_reservation(api: Api, fields: Json, most: int) -> None:
    reservation = of(api=api, **fields)
    assert reservation is not None
    assert reservation.max_output == most


def test_prices_are_those_of_the_upstream_that_serves_the_model(tmp_path: Path) -> None:
    (tmp_path / "tailrace.toml").write_text(CONFIG)
    upstreams = CurrentUpstreams(Settings(config=str(tmp_path / "tailrace.toml")))
    reservation, other = of(upstreams=upstreams), of(upstreams=upstreams, model="free")
    assert reservation is not None
    assert other is not None
    assert (reservation.input_price, reservation.output_price) == (500.0, 2000.0)
    assert (other.input_price, other.output_price) == (0.0, 0.0)
