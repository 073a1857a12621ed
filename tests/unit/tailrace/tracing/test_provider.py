"""When a process traces, what it does without the extra, and how long its last spans may take."""

import logging
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tailrace import tracing
from tailrace.settings import Settings
from tailrace.tracing import provider
from tailrace.tracing.provider import ENDPOINTS, EXPORTER, Traces, is_wanted, quiet


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (EXPORTER, *ENDPOINTS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({EXPORTER: "otlp"}, True),
        ({EXPORTER: "none", ENDPOINTS[0]: "http://collector:4318"}, False),
        ({ENDPOINTS[0]: "http://collector:4318"}, True),
        ({ENDPOINTS[1]: "http://collector:4318/v1/traces"}, True),
        ({ENDPOINTS[0]: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_SERVICE_NAME": "tailrace"}, False),
    ],
)
def test_traces_are_on_where_a_variable_asks_for_them(environment: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environment) is wanted


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("tailrace_worker.worker", "opentelemetry"), ("tailrace_frontend.server", "opentelemetry.sdk")],
    ids=["worker", "frontend"],
)
def test_process_without_traces_imports_no_sdk(module: str, unwanted: str) -> None:
    """FastAPI imports the API of OpenTelemetry."""
    program = (
        f"import sys, {module}\n"
        "from tailrace.settings import Settings\n"
        "from tailrace.tracing.provider import Traces\n"
        "Traces(Settings(), 'tailrace-worker').start()\n"
        f"print([each for each in sys.modules if each.startswith('{unwanted}')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert ran.stdout == "[]\n"


def test_missing_extra_is_a_warning_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(EXPORTER, "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    Traces(Settings(), "tailrace-worker").start()
    assert not tracing.is_on()
    assert "pip install tailrace[otel]" in caplog.text


class Exporter(SpanExporter):
    def __init__(self, *results: SpanExportResult, takes_s: float = 0.0) -> None:
        self.results = list(results)
        self.takes_s = takes_s

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the interface
        time.sleep(self.takes_s)
        return self.results.pop(0) if self.results else SpanExportResult.SUCCESS


def test_dead_collector_is_one_line_and_its_return_another(caplog: pytest.LogCaptureFixture) -> None:
    ok, failed = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    exporter = quiet(Exporter(ok, failed, failed, failed, ok, ok))
    for _ in range(6):
        exporter.export([])
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert ["again" in message for message in caplog.messages] == [False, True]


def test_last_spans_delay_the_end_of_a_process_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXPORTER, "otlp")
    monkeypatch.setattr(provider, "SHUTDOWN_S", 0.05)
    monkeypatch.setattr(provider, "_exporter", lambda: Exporter(takes_s=5))
    traces = Traces(Settings(), "tailrace-worker")
    traces.start()
    with tracing.upstream("demo"):
        pass
    began = time.monotonic()
    traces.stop()
    assert time.monotonic() - began < 4
    assert not tracing.is_on()


@pytest.mark.parametrize(("name", "warned"), [("zipkin", True), ("otlp", False), ("console", False)])
def test_exporter_that_is_not_supported_is_a_warning(
    name: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(EXPORTER, name)
    provider._exporter().shutdown()
    assert (f"{EXPORTER}: {name} is neither otlp nor console" in caplog.text) is warned
