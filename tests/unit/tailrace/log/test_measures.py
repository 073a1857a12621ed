from typing import Any

import msgspec
import pytest

from tailrace.events import Bucket, Done, FailedRequest, Item, Stream, Timings, Upstream
from tailrace.log.measures import Measures, measures_from, streamed_tokens, tokens_per_second, with_measures
from tailrace.upstreams.prices import Price


def test_stored_measures_are_read_again() -> None:
    failed = [FailedRequest(0.5, "upstream_error", "dead", 0.25)]
    stream = Stream(chunks=3, bytes=400, gaps=[Bucket(2, 0.03)], failed=failed)
    measures = Measures(0.5, 1.5, 2.0, stream, (1.0, 2.0, 0.5), Upstream("chatcmpl-1", "m-1", "live"))
    assert measures_from(msgspec.json.encode(measures)) == measures
    assert measures.price == Price(input=1, output=2, cached=0.5)
    assert Measures().price is None


@pytest.mark.parametrize("stored", [None, b"", b"x", b"[]", b'{"first_token":"x"}'])
def test_measures_that_are_missing_or_unreadable_are_none(stored: bytes | None) -> None:
    """They must not keep a process from ending a generation."""
    assert measures_from(stored) == Measures()


def test_measures_without_content_add_only_the_attempts_to_an_end() -> None:
    done = Done("cancelled", 9.0, timings=Timings(queue=1.0, total=2.0))
    assert with_measures(done, Measures(), 2) == msgspec.structs.replace(done, stream=Stream(attempts=2))


def test_end_has_the_upstream_of_the_measures() -> None:
    upstream = Upstream("chatcmpl-1", "m-1", "live")
    done = with_measures(Done("cancelled", 9.0), Measures(upstream=upstream), 1)
    assert done.upstream == upstream


@pytest.mark.parametrize(
    ("tokens", "seconds", "rate"),
    [(50, 2.0, 25.0), (None, 2.0, None), (0, 2.0, None), (50, 0.0001, None), (50, 0, None)],
)
def test_rate_needs_tokens_and_a_time(tokens: int | None, seconds: float, rate: float | None) -> None:
    assert tokens_per_second(tokens, seconds) == rate


@pytest.mark.parametrize(
    ("details", "items", "tokens"),
    [
        ({"reasoning_tokens": 30}, [], 20),
        ({"reasoning_tokens": 30}, [Item(0, "reasoning", text="Hm")], 50),
        ({"reasoning_tokens": 90}, [], 0),
        ({"reasoning_tokens": "x"}, [], 50),
        ([], [], 50),
        (None, [], 50),
    ],
)
def test_tokens_of_a_hidden_reasoning_were_not_streamed(details: Any, items: list[Item], tokens: int) -> None:
    usage = {"completion_tokens": 50, "completion_tokens_details": details}
    assert streamed_tokens(Done("completed", 1.0, usage=usage, output=items)) == tokens
    assert streamed_tokens(Done("completed", 1.0)) is None
