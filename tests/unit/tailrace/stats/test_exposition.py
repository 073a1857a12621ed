from prometheus_client.parser import text_string_to_metric_families

from tailrace.stats import Stats
from tailrace.stats.exposition import Exposition
from tailrace.stats.table import PREFIX, metrics_of


def samples(stats: Stats) -> dict[str, float]:
    families = text_string_to_metric_families(Exposition(stats).text().decode())
    return {each.name + str(each.labels or ""): each.value for family in families for each in family.samples}


def test_every_metric_is_there_from_the_start_with_its_help() -> None:
    for tier in ("frontend", "worker"):
        text = Exposition(Stats(tier)).text().decode()
        for metric in metrics_of(tier):
            assert f"# HELP {PREFIX}{metric.name} {metric.help}\n" in text
            assert f"# TYPE {PREFIX}{metric.name} {metric.kind}\n" in text
        assert "\nprocess_resident_memory_bytes " in text


def test_buckets_are_cumulative() -> None:
    stats = Stats("worker")
    for value in (0.015, 0.015, 0.03, 1000.0):
        stats.durations("e2e_latency_seconds", "demo").observe(value)
    values, name = samples(stats), "tailrace_e2e_latency_seconds"
    bounds = {le: values[f"{name}_bucket{{'le': '{le}', 'model': 'demo'}}"] for le in ("0.01", "0.02", "0.04", "+Inf")}
    assert bounds == {"0.01": 0, "0.02": 2, "0.04": 3, "+Inf": 4}
    assert values[f"{name}_count{{'model': 'demo'}}"] == 4
    assert values[f"{name}_sum{{'model': 'demo'}}"] == 1000.06


def test_gauges_are_read_when_they_are_asked_for() -> None:
    stats = Stats("worker")
    reading: dict[tuple[str, ...], float] = {("primary",): 1.0}
    stats.gauge("upstream_in_flight", lambda: reading)
    stats.gauge("worker_slots", lambda: 7)
    reading["backup",] = 2.0
    values = samples(stats)
    assert values["tailrace_upstream_in_flight{'upstream': 'backup'}"] == 2
    assert values["tailrace_worker_slots"] == 7
