"""The dashboard, the alerts and their provisioning: every expression parses, and every name in them is a metric."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboard import DASHBOARD, panels, text
from support.prometheus import MISSING, MONITORING, RULES, is_installed, rules
from system.alert_faults import FAULTS
from tailrace.stats.table import BY_NAME, PREFIX, Metric

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SUFFIXES = ("_bucket", "_sum", "_count")
promtool = pytest.mark.skipif(not is_installed(), reason=MISSING)

EXPRESSIONS = {
    **{f"{panel.title}: {legend}": expression for panel in panels() for expression, legend in panel.lines},
    **{rule["alert"]: rule["expr"] for rule in rules()},
}


def run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def metric_of(name: str) -> Metric | None:
    for suffix in SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in BY_NAME and BY_NAME[base].kind == "histogram":
            return BY_NAME[base]
    found = BY_NAME.get(name)
    return None if found is None or found.kind == "histogram" else found


def selectors(expression: str) -> Iterator[tuple[str, list[str]]]:
    """Each metric of ours, and the labels by which its series are chosen."""
    for name, chosen in re.findall(rf"{PREFIX}(\w+)(?:\{{([^}}]*)\}})?", expression):
        yield name, re.findall(r"(\w+)(?:=~|!~|!=|=)", chosen)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_names_and_labels_are_those_of_metrics(expression: str) -> None:
    found = list(selectors(expression))
    assert found or re.search(r"\bup\b|\bprocess_\w+", expression)
    for name, labels in found:
        metric = metric_of(name)
        assert metric, name
        assert set(labels) <= {*metric.labels, "job", "instance"}, name


def test_counters_are_only_used_as_rates() -> None:
    for expression in EXPRESSIONS.values():
        for name, _ in selectors(expression):
            metric = metric_of(name)
            if metric and metric.kind != "gauge":
                assert re.search(rf"(rate|increase)\({PREFIX}{name}\b", expression), expression


@promtool
def test_every_expression_parses(tmp_path: Path) -> None:
    """Grafana's variables stand for values that it fills in."""
    filled = [
        each.replace("$__rate_interval", "1m").replace("$quantile", "0.95").replace("$job", ".*")
        for each in EXPRESSIONS.values()
    ]
    written = [{"record": f"one:{number}", "expr": each} for number, each in enumerate(filled)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": written}]}))
    run("promtool", "check", "rules", file)


@promtool
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", MONITORING / "rules_test.yml")


@promtool
def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    given = (MONITORING / "prometheus.yml").read_text().replace("/etc/prometheus/rules.yml", str(RULES))
    file = tmp_path / "prometheus.yml"
    file.write_text(given)
    run("promtool", "check", "config", file)


def test_dashboard_is_the_one_that_the_table_makes() -> None:
    assert DASHBOARD.read_text() == text(), "PYTHONPATH=tests python -m monitoring.dashboard"


def test_every_panel_asks_the_source_that_the_variable_names() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    shown = [each for each in dashboard["panels"] if each["type"] != "row"]
    shown += [panel for row in dashboard["panels"] if row["type"] == "row" for panel in row["panels"]]
    assert len(shown) == len(panels())
    assert len({panel["id"] for panel in shown}) == len(shown)
    for panel in shown:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}


def test_alerts_have_what_their_reader_needs() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_fault_means_an_alert_of_the_rules_and_there_are_a_dozen() -> None:
    names = {rule["alert"] for rule in rules()}
    meant = {fault.alert for fault in FAULTS.values()}
    entailed = {alert for fault in FAULTS.values() for alert in fault.entails}
    assert meant | entailed <= names
    assert len(meant) >= 12


def test_monitoring_is_a_profile_that_is_published_on_this_host_alone() -> None:
    for name in ("prometheus", "grafana"):
        assert COMPOSE[name]["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in COMPOSE[name]["ports"])


def test_mounted_files_are_where_their_readers_look_for_them() -> None:
    mounts: dict[str, str] = {}
    for name in ("prometheus", "grafana"):
        for volume in COMPOSE[name]["volumes"]:
            source, target, *_ = volume.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                mounts[target] = source
    config: Any = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert set(config["rule_files"]) <= mounts.keys()
    provider: Any = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/tailrace.yml").read_text())
    assert provider["providers"][0]["options"]["path"] in mounts


def test_prometheus_scrapes_the_port_of_both_tiers() -> None:
    config: Any = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (service,) = found["names"]
        environment = COMPOSE[service]["environment"]
        addresses = [value for name, value in environment.items() if name.endswith("OPERATIONS_ADDRESS")]
        assert addresses == [f"0.0.0.0:{found['port']}"]
        assert job["job_name"] == f"tailrace-{service}"
