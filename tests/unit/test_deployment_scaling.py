"""Monitoring and autoscaling in Kubernetes: the names are those of the product, and what fails scales nothing in."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kustomize import render
from support.manifests import KUBERNETES, RENDERED, named, of_kind, roles
from support.prometheus import MONITORING, RULES
from tailrace import keys
from tailrace.settings import Settings
from tailrace.stats.table import METRICS, PREFIX


def test_rules_and_dashboard_are_those_of_the_product() -> None:
    rule = named("monitoring", "PrometheusRule", "tailrace")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    dashboard = named("monitoring", "ConfigMap", "tailrace-dashboard")["data"]["tailrace.json"]
    assert dashboard == (MONITORING / "grafana" / "dashboards" / "tailrace.json").read_text()


def test_every_process_is_scraped_under_the_job_that_the_rules_know() -> None:
    jobs = {each["job_name"] for each in yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]}
    for role, _, container, _ in roles("monitoring"):
        monitor = named("monitoring", "PodMonitor", f"tailrace-{role}")["spec"]
        labels = named("monitoring", "Deployment", f"tailrace-{role}")["spec"]["template"]["metadata"]["labels"]
        (endpoint,) = monitor["podMetricsEndpoints"]
        (relabeling,) = endpoint["relabelings"]
        assert monitor["selector"]["matchLabels"] == labels
        assert endpoint["port"] in [each["name"] for each in container["ports"]]
        assert (relabeling["targetLabel"], relabeling["replacement"]) == ("job", f"tailrace-{role}")
        assert relabeling["replacement"] in jobs


def scaled(role: str) -> Any:
    return named("keda", "ScaledObject", f"tailrace-{role}")["spec"]


def test_workers_are_scaled_by_what_waits_and_what_runs() -> None:
    spec = scaled("worker")
    waiting, running = spec["triggers"]
    modifiers = spec["advanced"]["scalingModifiers"]
    assert modifiers["formula"].split(" + ") == [waiting["name"], running["name"]] == ["waiting", "running"]
    assert waiting["metadata"]["listName"] == keys.QUEUE
    slots = Settings.model_fields["max_jobs"].default
    assert 0.5 * slots <= int(modifiers["target"]) < slots, "full workers would never be joined by others"
    assert modifiers["metricType"] == "AverageValue"


def test_frontends_are_scaled_by_their_readers() -> None:
    readers, cpu = scaled("frontend")["triggers"]
    pod_metric, resource = named("hpa", "HorizontalPodAutoscaler", "tailrace-frontend")["spec"]["metrics"]
    most = Settings.model_fields["max_readers"].default
    assert int(readers["metadata"]["threshold"]) == int(pod_metric["pods"]["target"]["averageValue"]) < most
    assert pod_metric["pods"]["metric"]["name"] in readers["metadata"]["query"]
    assert int(cpu["metadata"]["value"]) == resource["resource"]["target"]["averageUtilization"]
    adapter = yaml.safe_load((KUBERNETES / "components" / "hpa" / "adapter-rule.yaml").read_text())
    assert adapter["rules"][0]["name"]["as"] == pod_metric["pods"]["metric"]["name"]


def test_queries_are_of_metrics_that_exist_and_fail_without_an_answer() -> None:
    metrics = {f"{PREFIX}{metric.name}" for metric in METRICS if metric.kind == "gauge"}
    queries = [
        each["metadata"]
        for role in ("worker", "frontend")
        for each in scaled(role)["triggers"]
        if "query" in each["metadata"]
    ]
    assert len(queries) == 2
    for metadata in queries:
        found = re.fullmatch(r'sum\((\w+)\{job="tailrace-(\w+)",namespace="tailrace"\}\)', metadata["query"])
        assert found, "one element"
        assert found[1] in metrics
        assert metadata["ignoreNullValues"] == "false"


@pytest.mark.parametrize("name", ["keda", "hpa"])
def test_scaled_deployments_have_no_number_of_their_own(name: str) -> None:
    """Each `apply` would set it again."""
    for each in of_kind(name, "ScaledObject", "HorizontalPodAutoscaler"):
        target = named(name, "Deployment", each["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]


@pytest.mark.parametrize("role", ["worker", "frontend"])
def test_scale_in_is_slow_and_an_outage_of_its_source_scales_nothing_in(role: str) -> None:
    spec = scaled(role)
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert down["stabilizationWindowSeconds"] >= 300
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["minReplicaCount"] >= 2


def test_queue_behind_sentinel_changes_the_trigger_alone(tmp_path: Path) -> None:
    folder = KUBERNETES / "overlays"
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: ['{folder / 'keda'}']\ncomponents: ['{KUBERNETES / 'components' / 'keda-sentinel'}']\n"
    )
    rendered = {(each["kind"], each["metadata"]["name"]): each for each in render(tmp_path)}
    before = {(each["kind"], each["metadata"]["name"]): each for each in RENDERED["keda"]}
    changed = {key for key in rendered if rendered[key] != before[key]}
    assert changed == {("ScaledObject", "tailrace-worker"), ("TriggerAuthentication", "tailrace-queue")}
    assert rendered["ScaledObject", "tailrace-worker"]["spec"]["triggers"][0]["type"] == "redis-sentinel"
    secret = rendered["TriggerAuthentication", "tailrace-queue"]["spec"]["secretTargetRef"]
    assert [each["parameter"] for each in secret] == ["addresses", "username", "password", "tls", "sentinelMaster"]
