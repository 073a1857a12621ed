import pytest

from support.logs import TRUNCATED, USAGE
from tailrace.events import Done, Failure, FinalStatus, Finish, Stream, Timings
from tailrace.stats import Stats
from tailrace.stats.ends import finish_reason, record_end
from tailrace.stats.table import BY_NAME


def test_end_is_counted_with_its_tokens_and_times() -> None:
    stats = Stats("worker")
    stats.model_label = lambda name: f"label of {name}"
    timings = Timings(queue=0.5, first_token=0.75, total=3.0)
    record_end(
        stats, "demo", Done("completed", 1.0, [Finish(0, "stop")], USAGE, timings=timings, stream=Stream(stalls=2))
    )
    assert stats.count("generations_total", "completed", "stop").value == 1
    assert stats.count("input_tokens_total", "label of demo").value == USAGE["prompt_tokens"]
    assert stats.count("output_tokens_total", "label of demo").value == USAGE["completion_tokens"]
    assert stats.count("stalls_total").value == 2
    for name, seconds in (("queue_time", 0.5), ("time_to_first_token", 0.75), ("e2e_latency", 3.0)):
        assert stats.durations(f"{name}_seconds", "label of demo").total == seconds


def test_end_without_usage_and_times_is_counted() -> None:
    stats = Stats("frontend")
    record_end(stats, "demo", Done("cancelled", 1.0))
    assert stats.count("generations_total", "cancelled", "cancelled").value == 1
    assert stats.durations_of(BY_NAME["e2e_latency_seconds"]) == {}


@pytest.mark.parametrize(
    ("status", "finish", "error", "reason"),
    [
        ("completed", "stop", None, "stop"),
        ("completed", "an upstream's own word", None, "other"),
        ("completed", None, None, "none"),
        ("incomplete", "length", TRUNCATED, "upstream_truncated"),
        ("failed", None, Failure("text", "an upstream's own code"), "other"),
        ("cancelled", None, None, "cancelled"),
    ],
)
def test_reason_is_one_of_few_values(
    status: FinalStatus, finish: str | None, error: Failure | None, reason: str
) -> None:
    assert finish_reason(Done(status, 1.0, [Finish(0, finish)], error=error)) == reason


@pytest.mark.parametrize("tokens", [-1, True, 1.5, "7", 2**60])
def test_tokens_that_are_no_count_are_left_out(tokens: object) -> None:
    stats = Stats("worker")
    record_end(stats, "demo", Done("completed", 1.0, usage={"prompt_tokens": tokens, "completion_tokens": tokens}))
    assert stats.counts_of(BY_NAME["input_tokens_total"]) == {}
    assert stats.counts_of(BY_NAME["output_tokens_total"]) == {}
