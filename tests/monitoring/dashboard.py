"""The Grafana dashboard, made from a table of panels: `PYTHONPATH=tests python -m monitoring.dashboard` writes it.

Each panel has its expressions with `$job` and `$instance`, which the dashboard's variables fill in; `RATE` is Grafana's
interval of rates. Quantiles are of the sum over all processes.
"""

import json
from typing import Any, NamedTuple

from support.prometheus import MONITORING

DASHBOARD = MONITORING / "grafana" / "dashboards" / "tailrace.json"
RATE = "$__rate_interval"
OF = 'job=~"$job",instance=~"$instance"'
WIDTH, HEIGHT = 8, 7


class Panel(NamedTuple):
    """One graph: its unit as Grafana calls it, and its lines as (expression, legend)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    text: str = ""


def rate(name: str, by: str = "", where: str = "") -> str:
    """A counter's rate a second, over all processes."""
    chosen = ",".join(filter(None, [where, OF]))
    return f"sum {f'by ({by}) ' if by else ''}(rate(tailrace_{name}{{{chosen}}}[{RATE}]))"


def quantiles(name: str, where: str = "") -> tuple[tuple[str, str], ...]:
    """The median and the variable quantile of a histogram, over all processes."""
    buckets = rate(f"{name}_bucket", "le", where)
    return (
        (f"histogram_quantile(0.5, {buckets})", "p50"),
        (f"histogram_quantile($quantile, {buckets})", "p$quantile"),
    )


def total(name: str, by: str = "") -> str:
    return f"sum {f'by ({by}) ' if by else ''}(tailrace_{name}{{{OF}}})"


def greatest(name: str, by: str = "") -> str:
    return f"max {f'by ({by}) ' if by else ''}(tailrace_{name}{{{OF}}})"


MODEL = 'model=~"$model"'
ROWS: dict[str, tuple[Panel, ...]] = {
    "Overview": (
        Panel("Generations", "short", (
            (greatest("generations_waiting"), "waiting"), (total("generations_running"), "running"),
            (total("worker_slots"), "slots"),
        )),
        Panel("Created and ended", "ops", (
            (rate("generations_created_total"), "created"), (rate("generations_total", "status"), "{{status}}"),
        )),
        Panel("Time to first token", "s", quantiles("time_to_first_token_seconds", MODEL)),
        Panel("Tokens", "ops", ((rate("input_tokens_total", "", MODEL), "input"),
                                (rate("output_tokens_total", "", MODEL), "output"))),
        Panel("Readers", "short", ((total("readers", "state"), "{{state}}"),)),
        Panel("Delivery lag", "s", quantiles("delivery_lag_seconds"), "From a worker's append to the last socket."),
    ),
    "Latency": (
        Panel("Queue", "s", (*quantiles("queue_time_seconds", MODEL), (greatest("oldest_wait_seconds"), "waiting now")),
              "Of those that have ended, and how long the oldest one that waits has."),
        Panel("Upstream's first token", "s", quantiles("upstream_time_to_first_token_seconds")),
        Panel("Added to the first token", "s", quantiles("added_time_to_first_token_seconds", MODEL),
              "Without the upstream's own time: the queue, the take-over, requests that failed."),
        Panel("Between two pieces of content", "s", quantiles("inter_token_latency_seconds", MODEL)),
        Panel("From the creation to the end", "s", quantiles("e2e_latency_seconds", MODEL)),
        Panel("Stalls", "ops", ((rate("stalls_total"), "gaps of more than 3 s"),)),
    ),
    "Delivery": (
        Panel("Streams", "ops", ((rate("streams_opened_total"), "opened"), (rate("streams_deferred_total"), "deferred"),
                                 (rate("resumes_total", "outcome"), "resumed: {{outcome}}"))),
        Panel("Replayed from the log", "Bps", ((rate("replayed_bytes_total"), "bytes"),)),
        Panel("Replayed entries", "ops", ((rate("replayed_entries_total"), "entries"),)),
        Panel("Streams cut", "ops", ((rate("reader_cuts_total", "reason"), "{{reason}}"),
                                     (rate("readers_restarted_total"), "had to discard"))),
        Panel("Gaps found", "ops", ((rate("gaps_found_total"), "gaps"),)),
        Panel("Refused", "ops", ((rate("requests_refused_total", "status"), "{{status}}"),)),
    ),
    "Upstreams": (
        Panel("Requests", "ops", ((rate("upstream_requests_total", "upstream,code"), "{{upstream}} {{code}}"),)),
        Panel("Sent again", "ops", ((rate("upstream_retries_total", "upstream"), "{{upstream}}"),)),
        Panel("In flight", "short", ((total("upstream_in_flight", "upstream"), "{{upstream}}"),)),
        Panel("Circuit open", "bool", ((greatest("upstream_circuit_open", "upstream"), "{{upstream}}"),)),
        Panel("Left of the upstream's limits", "short", (
            (f"min by (upstream) (tailrace_upstream_remaining_requests{{{OF}}})", "{{upstream}}: requests"),
            (f"min by (upstream) (tailrace_upstream_remaining_tokens{{{OF}}})", "{{upstream}}: tokens"),
        )),
        Panel("Reasons of ends", "ops", ((rate("generations_total", "finish_reason"), "{{finish_reason}}"),)),
    ),
    "Recovery and Redis": (
        Panel("Recovery", "ops", (
            (rate("orphans_rescued_total", "reason"), "rescued: {{reason}}"),
            (rate("restarts_total", "reason"), "restarts: {{reason}}"), (rate("leases_lost_total"), "leases lost"),
            (rate("logs_restored_total"), "logs restored"), (rate("ends_rewritten_total"), "ends rewritten"),
        )),
        Panel("Appends", "ops", ((rate("appended_entries_total"), "entries"),
                                 (rate("append_failures_total"), "pipelines that failed"))),
        Panel("Round trip of appends", "s", quantiles("append_seconds")),
        Panel("Entries in an append", "short", quantiles("append_batch_rows")),
        Panel("Redis memory", "percentunit", ((greatest("redis_memory_ratio", "server"), "{{server}}"),)),
        Panel("Connected", "bool", (
            (f"min by (server) (tailrace_redis_connected{{{OF}}})", "Redis: {{server}}"),
            (f"min by (instance) (tailrace_subscriber_connected{{{OF}}})", "subscriber: {{instance}}"),
        )),
    ),
    "Processes": (
        Panel("Workers", "short", ((greatest("workers"), "alive"), (total("worker_draining"), "draining"))),
        Panel("CPU", "percentunit", (
            (f"rate(process_cpu_seconds_total{{{OF}}}[{RATE}])", "{{job}} {{instance}}"),
        )),
        Panel("Memory", "bytes", ((f"process_resident_memory_bytes{{{OF}}}", "{{job}} {{instance}}"),)),
        Panel("Live logs", "short", ((total("live_logs"), "followed"),)),
        Panel("Clock skew", "s", ((f"tailrace_clock_skew_seconds{{{OF}}}", "{{instance}}"),)),
        Panel("Open files", "short", ((f"process_open_fds{{{OF}}}", "{{job}} {{instance}}"),)),
    ),
}  # fmt: skip
"""Rows after the first are collapsed."""


def panels() -> list[Panel]:
    return [panel for row in ROWS.values() for panel in row]


def build() -> dict[str, Any]:
    """The dashboard as Grafana loads it."""
    built: list[dict[str, Any]] = []
    y = number = 0
    for index, (title, row) in enumerate(ROWS.items()):
        heading = {"type": "row", "title": title, "id": 1000 + index, "collapsed": index > 0, "panels": []}
        inside = []
        for place, panel in enumerate(row):
            number += 1
            inside.append(_panel(panel, number, WIDTH * (place % 3), y + 1 + HEIGHT * (place // 3)))
        built.append({**heading, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": inside if index else []})
        built += [] if index else inside
        y += 1 + (0 if index else HEIGHT * -(-len(row) // 3))
    return {
        "uid": "tailrace", "title": "Tailrace", "tags": ["tailrace"], "schemaVersion": 39, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "", "graphTooltip": 1,
        "templating": {"list": _variables()}, "panels": built,
    }  # fmt: skip


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "type": "timeseries", "id": number, "title": panel.title, "description": panel.text, "datasource": source,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"datasource": source, "expr": expression, "legendFormat": legend, "refId": chr(ord("A") + place)}
            for place, (expression, legend) in enumerate(panel.lines)
        ],
    }  # fmt: skip


def _variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "${datasource}"}

    def values(name: str, query: str) -> dict[str, Any]:
        return {
            "type": "query", "name": name, "datasource": source, "query": query, "refresh": 2, "includeAll": True,
            "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "sort": 1,
        }  # fmt: skip

    choices = ("0.9", "0.95", "0.99")
    quantile = {
        "type": "custom", "name": "quantile", "query": ",".join(choices), "current": {"text": "0.95", "value": "0.95"},
        "options": [{"text": each, "value": each, "selected": each == "0.95"} for each in choices],
    }  # fmt: skip
    return [
        {"type": "datasource", "name": "datasource", "query": "prometheus", "current": {}},
        values("job", "label_values(tailrace_redis_connected, job)"),
        values("instance", 'label_values(tailrace_redis_connected{job=~"$job"}, instance)'),
        values("model", "label_values(tailrace_e2e_latency_seconds_count, model)"),
        quantile,
        {"type": "adhoc", "name": "filters", "datasource": source, "filters": []},
    ]


def text() -> str:
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
