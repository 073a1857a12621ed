"""The rows of `scripts/bench`: each measure with its must and its goal.

Values are ratios (`×`: ours to theirs, in one run) wherever there is another side; else milliseconds, kilobytes of
1,000 bytes, bytes or microseconds. A ratio hardly depends on the machine, an absolute figure does.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Unit = Literal["×", "ms", "KB", "B", "µs", "/s"]


class Measure(NamedTuple):
    """A row. `goal` and `must` are bounds: upper ones, or lower ones where `more` is better."""

    workload: str
    description: str
    unit: Unit
    must: float
    goal: float
    more: bool = False

    @property
    def is_portable(self) -> bool:
        """Whether another machine should measure about the same value."""
        return self.unit in ("×", "KB", "B")

    def meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.more else value <= bound

    def is_worse(self, value: float, before: float, tolerance: float) -> bool:
        """Whether the value is worse than `before` by more than this share of it."""
        return value < before * (1 - tolerance) if self.more else value > before * (1 + tolerance)

    def share_of_must(self, value: float) -> float:
        """1 at the bound; less is better."""
        return self.must / value if self.more else value / self.must


MEASURES: Mapping[str, Measure] = {
    "scattered/web": Measure("scattered", "web CPU an event, to the naive pattern", "×", 0.22, 0.15),
    "scattered/all-to-nchan": Measure(
        "scattered-peers", "web + Redis + append CPU an event, to nchan + Redis with its publish", "×", 0.50, 0.35
    ),
    "scattered/web-to-resumable-stream": Measure(
        "scattered-peers", "web CPU an event, to resumable-stream's resuming side", "×", 1.2, 0.9
    ),
    "busy/p50": Measure("busy", "latency p50, upstream write to client read", "ms", 5, 2),
    "busy/p99": Measure("busy", "latency p99, upstream write to client read", "ms", 30, 10),
    "fan-out/web-to-nchan": Measure("fan-out-peers", "web CPU an event, to nchan", "×", 1.6, 1.2),
    "readers/p99": Measure("readers", "latency p99", "ms", 20, 10),
    "readers/rss": Measure("readers", "RSS a reader", "KB", 14, 11),
    "replay/tokens": Measure("replay", "tokens a web CPU second, to the naive pattern", "×", 25, 40, more=True),
    "ingest/worker": Measure("ingest", "worker CPU a chunk, to SDK iteration + an awaited XADD", "×", 0.22, 0.15),
    "dialects/worker": Measure(
        "dialects", "worker CPU a token of a Responses upstream, to a chat upstream", "×", 1.5, 1.1
    ),
    "redis/cpu": Measure("ingest", "Redis CPU a token, with as many streams as the worker holds", "µs", 5, 3),
    "stalled/p99": Measure("stalled", "live p99, with to without the stalled", "×", 1.3, 1.1),
    "stalled/rss": Measure("stalled", "RSS a stalled reader", "KB", 200, 120),
    "storm/p99": Measure("storm", "live p99 while they reconnect", "ms", 20, 10),
    "storm/max": Measure("storm", "live worst case while they reconnect", "ms", 60, 30),
    "storm/all-live": Measure("storm", "time until all are live", "ms", 4000, 3000),
    "create/web": Measure("create", "web CPU a POST, to FastAPI with arq's enqueue_job", "×", 2.0, 1.2),
    "long-log/get": Measure("long-log", "web CPU of a GET", "ms", 100, 80),
    "long-log/wait": Measure("long-log", "another client's longest wait while it is cancelled", "ms", 20, 10),
    "long-log/command": Measure("long-log", "longest Redis command of a cancel", "ms", 20, 10),
    "first-text/p50": Measure("first-text", "p50 added to the upstream's own", "ms", 25, 8),
    "first-text/p99": Measure("first-text", "p99 added to the upstream's own", "ms", 60, 20),
    "first-text-openai/chat": Measure(
        "first-text-openai", "p50 of Chat Completions less that of the native route", "ms", 5, 1
    ),
    "first-text-openai/responses": Measure(
        "first-text-openai", "p50 of Responses less that of the native route", "ms", 5, 1
    ),
    "wires/chat": Measure("wires", "web CPU an event, Chat Completions to native", "×", 1.3, 1.1),
    "wires/responses": Measure("wires", "web CPU an event, Responses to native", "×", 1.3, 1.1),
    "whole-answers/chat": Measure(
        "whole-answers", "peak of the frontend's growth, to the Chat Completions", "×", 1, 0.5
    ),
    "whole-answers/responses": Measure("whole-answers", "peak of the frontend's growth, to the Responses", "×", 1, 0.5),
    "whole-answers/stalled": Measure(
        "whole-answers", "the same where no client reads its Chat Completion yet", "×", 1.5, 1.2
    ),
    "fair/behind": Measure("fair", "longest wait behind a caller with 10,000, in times of a job", "×", 2, 1),
    "fair/weights": Measure("fair", "ends of two callers, to the ratio of their weights", "×", 1.05, 1.02),
    "fair/enqueue": Measure("fair", "Redis a job that is enqueued behind 10,000", "µs", 60, 40),
    "traces/cpu": Measure("traces", "CPU a generation with traces and no collector, to without", "×", 1.02, 1.01),
    "redis/bytes": Measure("redis", "bytes a token of the deltas, one an entry", "B", 20, 19),
}

TITLES: Mapping[str, str] = {
    "scattered": "200 live logs × 20 events/s, a reader each",
    "scattered-peers": "200 live logs × 20 events/s, a reader each",
    "busy": "1,000 logs × 8 events/s, a reader each",
    "fan-out": "1 log × 1,000 readers",
    "fan-out-peers": "1 log × 1,000 readers",
    "readers": "10,000 readers on one process, 5,000 events/s, every feature on",
    "replay": "replay of a finished 50,000-token log, 4 readers",
    "ingest": "60 upstream streams × 50 tokens/s into one worker",
    "dialects": "the same of a Responses upstream",
    "stalled": "2,000 stalled readers + 200 live ones",
    "storm": "8,000 readers reconnect beside 400 live ones",
    "create": "POST on 32 connections, no worker",
    "long-log": "a log of 200,000 tokens that is being written",
    "first-text": "idle worker, POST → first text",
    "first-text-openai": "idle worker, POST → first text, through OpenAI's routes",
    "wires": "200 live logs × 20 events/s, a reader each, in OpenAI's formats",
    "whole-answers": "200 calls that do not stream, 300 KB each, answered at once",
    "fair": "20 slots, two callers",
    "traces": "20 streams × 100 tokens/s, ten ends a second, traced to a dead collector",
    "redis": "Redis (Valkey)",
}


class Finding(NamedTuple):
    """The value that one run found for a measure (None: no measure, only figures), and absolute figures beside it."""

    measure: str
    value: float | None
    beside: Mapping[str, float]
