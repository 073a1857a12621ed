"""The constants of the simulator, each with its source, unit and date. No other module of it has a measured number.

Costs are of one core of the machine on which they were measured. On another machine, measure again (`scripts/simulate
validate` prints the costs that it finds) and change this table. Settings and intervals are read from the product, so
a change there changes the tables of docs/capacity.md, and a test fails until they are written again.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from simulation.path_load import PathCosts
from tailrace.redis.connection import COMMAND_TIMEOUT_S
from tailrace.settings import Settings
from tailrace_frontend.streaming.hub import READ_INTERVAL_S
from tailrace_worker.appender import INTERVAL_PER_APPEND_S, MAX_INTERVAL_S, PIPELINE_INTERVAL_S


class Constant(NamedTuple):
    """`source`: where it was measured or is set."""

    value: float
    unit: str
    meaning: str
    source: str
    date: str


VALIDATE = "`scripts/simulate validate`"
MEASURE = "`scripts/simulate measure`"
FIGURES = "docs/figures.md"
TRIALS = "1, 4 and 8 appending processes, 4 s each"
JS = "`/tailrace.js`"
NOVEMBER_21, NOVEMBER_23 = "21 Nov 2026", "23 Nov 2026"


def setting(name: str) -> float:
    """The default of a setting."""
    return float(Settings.model_fields[name].default)


CONSTANTS: Mapping[str, Constant] = {
    # Any process: after a pause its caches hold what others have left there.
    "cold": Constant(110, "µs", "a turn of its loop after a long pause, more than one at once", TRIALS, NOVEMBER_23),
    "cooling": Constant(1500, "µs", "the pause after which two thirds of that are due", TRIALS, NOVEMBER_23),
    # A frontend.
    "read": Constant(30, "µs", "frontend: a read of a subscription, whatever it has", VALIDATE, NOVEMBER_23),
    "message": Constant(14, "µs", "frontend: a message, decoded and encoded", VALIDATE, NOVEMBER_23),
    "frame": Constant(4, "µs", "frontend: an event for a client", "of 10, as in scripts/bench", NOVEMBER_23),
    "write": Constant(6, "µs", "frontend: a write to a client", "the rest", NOVEMBER_23),
    "frontend_idle": Constant(0.01, "cores", "frontend: with idle readers", VALIDATE, NOVEMBER_23),
    "keepalive": Constant(55, "µs", "frontend: a keep-alive of a silent reader", MEASURE, NOVEMBER_23),
    "connect": Constant(600, "µs", "frontend: a connection and its first page", MEASURE, NOVEMBER_23),
    "refusal": Constant(300, "µs", "frontend: a connection that is refused or given up", MEASURE, NOVEMBER_23),
    "page": Constant(100, "µs", "frontend: a page for a reader that resubscribes", MEASURE, NOVEMBER_23),
    "turn": Constant(14_000, "µs", "frontend: live events behind connections, p99", FIGURES, NOVEMBER_23),
    "reader_bytes": Constant(10_190, "B", "frontend: memory of a reader", FIGURES, NOVEMBER_23),
    "replay": Constant(1 / 4.6, "µs", "frontend: a token that is caught up", FIGURES, NOVEMBER_21),
    # A worker.
    "worker_token": Constant(8, "µs", "worker: a token of the upstream, translated", FIGURES, NOVEMBER_21),
    "worker_round": Constant(35, "µs", "worker: a pipeline to a primary", "`appender.py`", NOVEMBER_21),
    "worker_append": Constant(18.5, "µs", "worker: an append among many in a pipeline", FIGURES, NOVEMBER_21),
    "worker_first": Constant(26, "µs", "worker: more for each of the first appends", FIGURES, NOVEMBER_21),
    "worker_fading": Constant(25, "appends", "after which two thirds of that have faded", FIGURES, NOVEMBER_21),
    # A Redis primary.
    "pipeline": Constant(35, "µs", "Redis: a pipeline and its write to the append-only file", TRIALS, NOVEMBER_23),
    "append": Constant(4, "µs", "Redis: an append among many in its turn", FIGURES, NOVEMBER_21),
    "append_first": Constant(12, "µs", "Redis: more for each of the first appends of a turn", FIGURES, NOVEMBER_21),
    "append_fading": Constant(60, "appends", "after which two thirds of that have faded", FIGURES, NOVEMBER_21),
    "publish": Constant(1, "µs", "Redis: a message to a frontend", FIGURES, NOVEMBER_21),
    "notify": Constant(20, "µs", "Redis: a frontend that gets messages of a turn", VALIDATE, NOVEMBER_23),
    "join": Constant(100, "µs", "Redis: a connecting reader's state, page, subscription", MEASURE, NOVEMBER_23),
    "page_redis": Constant(33, "µs", "Redis: a resubscribing reader's page", MEASURE, NOVEMBER_23),
    "position": Constant(8, "µs", "Redis: the position of a silent log", MEASURE, NOVEMBER_23),
    "token_bytes": Constant(15.4, "B", "Redis: a token that is stored", FIGURES, NOVEMBER_21),
    "generation_bytes": Constant(6500, "B", "Redis: a generation without its tokens", "scripts/bench", NOVEMBER_21),
    "text_bytes": Constant(4.6, "B", "Redis: a token's text once more, in `done`", FIGURES, NOVEMBER_21),
    # The queue.
    "requeue": Constant(630, "µs", "a sweeper queues a generation again", "`sweeper.py`", NOVEMBER_21),
    "pick_up": Constant(50, "ms", "a worker takes a queued generation", "scripts/bench, first text", NOVEMBER_21),
    # The load process and the clients of the bench, for the comparison on one machine.
    "load_token": Constant(40, "µs", "load process: a token", VALIDATE, NOVEMBER_23),
    "load_pipeline": Constant(220, "µs", "load process: a pipeline", VALIDATE, NOVEMBER_23),
    "client": Constant(10, "µs", "clients' process: a read of a socket", VALIDATE, NOVEMBER_23),
    "clients_wake": Constant(30, "µs", "clients' process: a wake-up", VALIDATE, NOVEMBER_23),
}  # fmt: skip

POLICIES: Mapping[str, Constant] = {
    "keepalive_s": Constant(setting("keepalive_s"), "s", "between keep-alives", "`TAILRACE_KEEPALIVE_S`", ""),
    "drain_s": Constant(setting("drain_s"), "s", "a stopping process", "`TAILRACE_DRAIN_S`", ""),
    "lease_s": Constant(setting("lease_s"), "s", "until a silent worker counts as dead", "`TAILRACE_LEASE_S`", ""),
    "retention_s": Constant(setting("retention_s"), "s", "a generation after its end", "`TAILRACE_RETENTION_S`", ""),
    "max_readers": Constant(setting("max_readers"), "", "readers of a frontend", "`TAILRACE_MAX_READERS`", ""),
    "max_jobs": Constant(setting("max_jobs"), "", "generations of a worker", "`TAILRACE_MAX_JOBS`", ""),
    "command_timeout_s": Constant(COMMAND_TIMEOUT_S, "s", "a command of Redis", "`redis/connection.py`", ""),
    "pipeline_interval_s": Constant(PIPELINE_INTERVAL_S, "s", "between pipelines of a worker", "`appender.py`", ""),
    "interval_per_append_s": Constant(INTERVAL_PER_APPEND_S, "s", "the same, for each append", "`appender.py`", ""),
    "longest_interval_s": Constant(MAX_INTERVAL_S, "s", "the same, at most", "`appender.py`", ""),
    "read_interval_s": Constant(READ_INTERVAL_S, "s", "between reads of a subscription", "`hub.py`", ""),
    "hint_least_s": Constant(1, "s", "shortest `retry:` hint", "`stream_connection.retry_ms`", ""),
    "hint_most_s": Constant(3, "s", "longest `retry:` hint", "`stream_connection.retry_ms`", ""),
    "drain_share": Constant(0.8, "", "of the drain, over which hints are spread", "`Hub.drain`", ""),
    "connect_timeout_s": Constant(10, "s", "a client gives a connection up", JS, ""),
    "backoff_first_s": Constant(0.5, "s", "a client's first backoff, times 0.5 to 1", JS, ""),
    "backoff_most_s": Constant(15, "s", "a client's longest backoff, times 0.5 to 1", JS, ""),
    "silence_s": Constant(60, "s", "without a byte, until a client connects again", JS, ""),
    "max_clients": Constant(10_000, "", "connections of a Redis server", "`maxclients` of Valkey", ""),
    "upstream_rate": Constant(40, "tokens/s", "a live answer", "the examples' load", ""),
    "answer_tokens": Constant(500, "tokens", "an answer", "the examples' load", ""),
    "used": Constant(0.7, "", "of each core, at most", "the examples' load", ""),
}  # fmt: skip


def seconds(name: str) -> float:
    """A cost, in seconds of a core."""
    constant = CONSTANTS[name]
    assert constant.unit == "µs", name
    return constant.value / 1e6


def policy(name: str) -> float:
    return POLICIES[name].value


def cold_s(pause_s: float) -> float:
    """What a turn of a process' loop costs because the process was idle for so long."""
    return seconds("cold") * -math.expm1(-pause_s / seconds("cooling"))


def appends_s(count: float) -> float:
    """What so many appends in one turn cost Redis."""
    return _warming_up(count, "append", "append_first", "append_fading")


def worker_appends_s(count: float) -> float:
    """What so many appends in one pipeline cost their worker."""
    return _warming_up(count, "worker_append", "worker_first", "worker_fading")


def _warming_up(count: float, each: str, first: str, fading: str) -> float:
    """So much for each, and more for the first ones: one after another they find warm caches."""
    faded = CONSTANTS[fading].value
    return count * seconds(each) + seconds(first) * faded * -math.expm1(-count / faded)


APPENDS = 8
"""Of a turn of Redis, for the costs of the live path: 4,000 tokens a second in 500 turns."""


def path_costs() -> PathCosts:
    """Those of the live path, whose processes are woken once in the throttles' interval."""
    cold = cold_s(PIPELINE_INTERVAL_S)
    return PathCosts(
        token_s=seconds("load_token"),
        pipeline_s=seconds("load_pipeline"),
        batch_s=seconds("pipeline") + cold,
        append_s=appends_s(APPENDS) / APPENDS + seconds("publish"),
        notify_s=seconds("notify"),
        read_s=seconds("read") + cold,
        message_s=seconds("message"),
        frame_s=seconds("frame"),
        write_s=seconds("write"),
        client_s=seconds("client"),
        clients_wake_s=seconds("clients_wake"),
        frontend_idle=CONSTANTS["frontend_idle"].value,
    )
