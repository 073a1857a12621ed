"""Every metric of Tailrace. `docs/operations.md` has the same table, and a test compares them.

The words after `tailrace_` are those of vLLM's metrics where there is one of the same meaning. No label has a value
that a caller chooses: `model` is a configured name, or `other` (`model_labels`). Values of labels that are known from
the start are reported from the start, as 0: the first increment of a series that did not exist is invisible to
`rate()`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tailrace.failures import FAILURES
from tailrace.stats.bounds import FINE_SECONDS, ROWS, SECONDS

Kind = Literal["counter", "gauge", "histogram"]
Tier = Literal["frontend", "worker"]

PREFIX = "tailrace_"
BOTH: tuple[Tier, ...] = ("frontend", "worker")
FRONTEND: tuple[Tier, ...] = ("frontend",)
WORKER: tuple[Tier, ...] = ("worker",)


class Metric(NamedTuple):
    """One metric. `name`: without the prefix. `known`: label values that are reported from the start. `bounds`: of a
    histogram. `history`: its field in the history; "": it is not kept there. `history_by`: the label by whose values
    the history keeps it; -1: it adds up all labels."""

    kind: Kind
    name: str
    help: str
    tiers: tuple[Tier, ...]
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    bounds: Sequence[float] = ()
    history: str = ""
    history_by: int = -1


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


def _counter(
    name: str, help_text: str, tiers: tuple[Tier, ...], labels: tuple[str, ...] = (),
    known: tuple[tuple[str, ...], ...] = (), history: str = "", history_by: int = -1,
) -> Metric:  # fmt: skip
    return Metric(
        "counter", name, help_text, tiers, labels, known or (() if labels else ((),)), (), history, history_by
    )


def _gauge(name: str, help_text: str, tiers: tuple[Tier, ...], labels: tuple[str, ...] = ()) -> Metric:
    return Metric("gauge", name, help_text, tiers, labels)


def _histogram(
    name: str, help_text: str, tiers: tuple[Tier, ...], labels: tuple[str, ...] = (),
    bounds: Sequence[float] = SECONDS, history: str = "",
) -> Metric:  # fmt: skip
    return Metric("histogram", name, help_text, tiers, labels, () if labels else ((),), bounds, history)


ENDS = (
    ("completed", "stop"), ("completed", "length"), ("completed", "tool_calls"), ("cancelled", "cancelled"),
    *((kind.status, code) for code, kind in FAILURES.items() if kind.status),
)  # fmt: skip
"""The usual ends; others appear with their first one."""

METRICS: tuple[Metric, ...] = (
    # Ends of generations, counted by the process that writes the end: a worker, or the one that cancels or sweeps.
    _counter("generations_total", "Generations ended, by the process that wrote the end", BOTH,
             ("status", "finish_reason"), ENDS, history="ended", history_by=0),
    _histogram("e2e_latency_seconds", "From the creation of a generation to its end", BOTH, ("model",), history="e2e"),
    _histogram("time_to_first_token_seconds", "From the creation to the first content; counted at the end", BOTH,
               ("model",), history="ttft"),
    _histogram("queue_time_seconds", "From the creation to the beginning of the first attempt; counted at the end",
               BOTH, ("model",), history="queue"),
    _counter("input_tokens_total", "Tokens of prompts, as upstreams report them, or estimated", BOTH, ("model",),
             history="input"),
    _counter("output_tokens_total", "Tokens of answers, as upstreams report them, or estimated", BOTH, ("model",),
             history="output"),
    _counter("stalls_total", "Gaps of more than 3 s in an answer; counted at the end", BOTH, history="stalls"),
    # Recovery.
    _counter("orphans_rescued_total", "Generations that a sweeper queued again: their worker was lost, or no job of "
             "theirs was queued", BOTH, ("reason",), _each("worker_lost", "not_queued"), history="orphans"),
    _counter("ends_rewritten_total", "Ends and deletions that Redis had lost, and that were written again", BOTH,
             history="ends_rewritten"),
    # The servers, as this process sees them.
    _gauge("subscriber_connected", "Whether the connection that receives what others publish is up", BOTH),
    _gauge("redis_connected", "Whether the server replied when it was needed last", BOTH, ("server",)),
    _gauge("redis_memory_ratio", "Memory in use, as a part of maxmemory; 0 where there is none", BOTH, ("server",)),
    _gauge("clock_skew_seconds", "How far the clock of the log's server is ahead of this process' clock", BOTH),
    # Frontends: generations.
    _counter("generations_created_total", "Generations accepted", FRONTEND, history="created"),
    _gauge("generations_waiting", "Generations waiting for a worker; the same on every frontend", FRONTEND),
    _gauge("oldest_wait_seconds", "How long the generation queued first has been waiting, parked ones included; "
           "0 where none waits; the same on every frontend", FRONTEND),
    _gauge("workers", "Workers with a heartbeat within the last three leases; the same on every frontend", FRONTEND),
    _counter("requests_refused_total", "Responses with status 4xx or 5xx", FRONTEND, ("status",),
             _each("429", "500", "503"), history="refused", history_by=0),
    # Frontends: delivery.
    _gauge("readers", "Connections being served: live, catching_up (from the log), blocked (by a full socket), "
           "waiting (for an end)", FRONTEND, ("state",)),
    _gauge("live_logs", "Logs being followed live", FRONTEND),
    _histogram("delivery_lag_seconds", "From a worker's append to the write to the last socket of this process; by the "
               "clocks of both hosts", FRONTEND, bounds=FINE_SECONDS, history="lag"),
    _counter("streams_opened_total", "Event streams opened, reconnects included", FRONTEND, history="opened"),
    _counter("streams_deferred_total", "Event streams answered with a retry hint only", FRONTEND, history="deferred"),
    _counter("resumes_total", "Requests for the rest of a stream: continued, ended (nothing is left), or refused",
             FRONTEND, ("outcome",), _each("continued", "ended", "refused"), history="resumes", history_by=0),
    _counter("replayed_entries_total", "Entries sent from the log rather than live, adjacent deltas as one", FRONTEND,
             history="replayed"),
    _counter("replayed_bytes_total", "Bytes of the same", FRONTEND, history="replayed_bytes"),
    _counter("gaps_found_total", "Times that published entries were missing, and were read from the log", FRONTEND,
             history="gaps"),
    _counter("readers_restarted_total", "Readers that had to discard what they had: their log went back", FRONTEND,
             history="readers_restarted"),
    _counter("reader_cuts_total", "Streams that ended before their log: slow (the socket stayed full), unauthorized "
             "(the key was withdrawn), stopping (this process), redis_away, memory, damaged", FRONTEND, ("reason",),
             _each("slow", "unauthorized", "stopping", "redis_away", "memory", "damaged"), history="cuts",
             history_by=0),
    # Workers: generations.
    _gauge("generations_running", "Generations that this worker runs", WORKER),
    _gauge("worker_slots", "Generations that this worker may run", WORKER),
    _gauge("worker_draining", "Whether this worker takes no more generations", WORKER),
    _counter("restarts_total", "Attempts that began after another one of the same generation", WORKER, ("reason",),
             _each("worker_lost", "upstream_lost", "upstream_silent"), history="restarts"),
    _counter("leases_lost_total", "Attempts that stopped because another worker had taken the generation over", WORKER,
             history="leases_lost"),
    _histogram("inter_token_latency_seconds", "Between two pieces of content of an answer; counted when its attempt "
               "ends", WORKER, ("model",), FINE_SECONDS, history="itl"),
    _histogram("added_time_to_first_token_seconds", "Time to first token without the upstream's own: the queue, the "
               "take-over, and requests that failed", WORKER, ("model",), FINE_SECONDS, history="added"),
    # Workers: the log.
    _counter("appended_entries_total", "Entries appended", WORKER, history="appended"),
    _histogram("append_batch_rows", "Entries of one generation in one append", WORKER, bounds=ROWS),
    _histogram("append_seconds", "Round trip of a pipeline of appends", WORKER, bounds=FINE_SECONDS),
    _counter("append_failures_total", "Pipelines of appends that have to be sent again", WORKER,
             history="append_failures"),
    _counter("logs_restored_total", "Logs that Redis had lost, and that were restored from memory", WORKER,
             history="restored"),
    # Workers: upstreams.
    _counter("upstream_requests_total", "Requests to an upstream that have ended: 200, the status of an error, or the "
             "code of a failure without one", WORKER, ("upstream", "code"), history="upstream", history_by=1),
    _counter("upstream_retries_total", "Requests that were sent again", WORKER, ("upstream",), history="retries"),
    _gauge("upstream_in_flight", "Requests under way", WORKER, ("upstream",)),
    _gauge("upstream_circuit_open", "Whether this worker does not call the upstream but for probes", WORKER,
           ("upstream",)),
    _gauge("upstream_remaining_requests", "Requests that the upstream's newest response has left, where reported",
           WORKER, ("upstream",)),
    _gauge("upstream_remaining_tokens", "Tokens that the upstream's newest response has left, where reported",
           WORKER, ("upstream",)),
    _histogram("upstream_time_to_first_token_seconds", "From the first request to an upstream to its first content",
               WORKER, ("upstream",), history="upstream_ttft"),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}


def metrics_of(tier: Tier) -> list[Metric]:
    return [metric for metric in METRICS if tier in metric.tiers]
