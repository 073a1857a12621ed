from prometheus_client.parser import text_string_to_metric_families

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace.queue import UpstreamUsage
from tailrace.queue.durations import Histogram
from tailrace_frontend.metrics import Metrics

RECORD = record()


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name + str(sample.labels or ""): sample.value for each in families for sample in each.samples}


async def test_metrics_exist_from_the_start_with_their_help_texts() -> None:
    metrics = Metrics(HubHarness().hub)
    families = list(text_string_to_metric_families(metrics.text().decode()))
    assert {family.name for family in families} == {
        "tailrace_readers",
        "tailrace_live_logs",
        "tailrace_subscriber_connected",
        "tailrace_queued",
        "tailrace_workers",
        "tailrace_generations_created",
        "tailrace_streams_opened",
        "tailrace_streams_resumed",
        "tailrace_requests_refused",
        "tailrace_streams_deferred",
        "tailrace_upstream_calls",
        "tailrace_upstream_failures",
        "tailrace_upstream_in_use",
        "tailrace_upstream_circuit_open",
        "tailrace_upstream_first_token_seconds",
        "tailrace_upstream_gap_seconds",
    }
    assert all(family.documentation for family in families)


async def test_readers_and_live_logs_are_the_current_ones_of_the_hub() -> None:
    harness = HubHarness()
    metrics = Metrics(harness.hub)
    assert samples(metrics)["tailrace_readers"] == 0
    await harness.create(RECORD, LOGS["text"](RECORD)[:3])
    clients = [await harness.connect(RECORD), await harness.connect(RECORD)]
    assert (samples(metrics)["tailrace_readers"], samples(metrics)["tailrace_live_logs"]) == (2, 1)
    for client in clients:
        client.disconnect()
    await until(lambda: samples(metrics)["tailrace_readers"] == 0)
    assert samples(metrics)["tailrace_live_logs"] == 0
    await harness.close()


async def test_subscriber_state_is_one_or_zero() -> None:
    harness = HubHarness()
    metrics = Metrics(harness.hub)
    assert samples(metrics)["tailrace_subscriber_connected"] == 0
    harness.reconnect()
    assert samples(metrics)["tailrace_subscriber_connected"] == 1


async def test_error_responses_are_counted_by_status() -> None:
    metrics = Metrics(HubHarness().hub)
    for status in (404, 404, 503):
        metrics.refused.labels(status).inc()
    assert samples(metrics)["tailrace_requests_refused_total{'status': '404'}"] == 2
    assert samples(metrics)["tailrace_requests_refused_total{'status': '503'}"] == 1


async def test_registries_of_one_process_are_separate() -> None:
    one, other = Metrics(HubHarness().hub), Metrics(HubHarness().hub)
    one.created.inc()
    assert samples(one)["tailrace_generations_created_total"] == 1
    assert samples(other)["tailrace_generations_created_total"] == 0


async def test_upstreams_are_counted_by_name() -> None:
    metrics = Metrics(HubHarness().hub)
    metrics.upstreams.usage = {"primary": UpstreamUsage(7, 2, 3, is_open=True), "backup": UpstreamUsage(1)}
    values = samples(metrics)
    assert values["tailrace_upstream_calls_total{'upstream': 'primary'}"] == 7
    assert values["tailrace_upstream_failures_total{'upstream': 'primary'}"] == 2
    assert values["tailrace_upstream_in_use{'upstream': 'primary'}"] == 3
    assert values["tailrace_upstream_circuit_open{'upstream': 'primary'}"] == 1
    assert values["tailrace_upstream_calls_total{'upstream': 'backup'}"] == 1
    assert values["tailrace_upstream_circuit_open{'upstream': 'backup'}"] == 0


async def test_durations_are_cumulative_histograms() -> None:
    metrics = Metrics(HubHarness().hub)
    gap = Histogram((1, 0, 0, 2, *[0] * 7, 4), 567.5)
    metrics.upstreams.usage = {"primary": UpstreamUsage(7, gap=gap)}
    values, name = samples(metrics), "tailrace_upstream_gap_seconds"
    bounds = {bound: values[f"{name}_bucket{{'le': '{bound}', 'upstream': 'primary'}}"] for bound in ("0.01", "0.03")}
    assert bounds == {"0.01": 1, "0.03": 3}
    assert values[f"{name}_bucket{{'le': '+Inf', 'upstream': 'primary'}}"] == 7
    assert values[f"{name}_count{{'upstream': 'primary'}}"] == 7
    assert values[f"{name}_sum{{'upstream': 'primary'}}"] == 567.5
    assert values["tailrace_upstream_first_token_seconds_count{'upstream': 'primary'}"] == 0
