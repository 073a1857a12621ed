"""What the end of a generation adds to the counts: counted once, by the process that has written it."""

from tailrace.events import Done
from tailrace.failures import FAILURES
from tailrace.stats.process_stats import Stats

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
OTHER = "other"
NONE = "none"
MAX_TOKENS = 2**40
"""More are no count of tokens, but a defect of an upstream."""


def record_end(stats: Stats, model: str, done: Done) -> None:
    """Count an end that was written. `model`: as the caller names it."""
    label = stats.model_label(model)
    stats.count("generations_total", done.status, finish_reason(done)).value += 1
    timings, usage = done.timings, done.usage or {}
    for name, seconds in (
        ("e2e_latency_seconds", timings.total),
        ("time_to_first_token_seconds", timings.first_token),
        ("queue_time_seconds", timings.queue),
    ):
        if seconds is not None:
            stats.durations(name, label).observe(seconds)
    for name, tokens in (
        ("input_tokens_total", usage.get("prompt_tokens")), ("output_tokens_total", done.output_tokens),
    ):  # fmt: skip
        if type(tokens) is int and 0 <= tokens < MAX_TOKENS:
            stats.count(name, label).value += tokens
    stats.count("stalls_total").value += done.stream.stalls or 0


def finish_reason(done: Done) -> str:
    """Why it ended, as one of few values: the failure's code, or the first choice's reason."""
    if done.error is not None:
        return done.error.code if done.error.code in FAILURES else OTHER
    if done.status == "cancelled":
        return "cancelled"
    reason = (done.finish[0].finish_reason if done.finish else None) or NONE
    return reason if reason in FINISH_REASONS or reason == NONE else OTHER
