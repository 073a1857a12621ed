"""OpenTelemetry's SDK, as the variables OTEL_… configure it, and what its exporter costs while the collector is dead.

Spans wait in a queue of `OTEL_BSP_MAX_QUEUE_SIZE` (2,048) for the exporter's own thread. Where the collector does not
take them, those beyond are dropped; a request waits for none of it. The log has one line when that begins, and one when
it ends.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from tailrace import tracing
from tailrace.settings import Settings
from tailrace.tracing.names import Vocabulary

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SHUTDOWN_S = 2.0
"""For the last spans, when the process stops."""

logger = logging.getLogger(__name__)


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the variables ask for traces: by an exporter, or by the address of a collector."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get(EXPORTER) == "none":
        return False
    return bool(environment.get(EXPORTER)) or any(environment.get(name) for name in ENDPOINTS)


class Traces:
    """The traces of one process, from `start` to `stop`. `role`: its service, unless OTEL_SERVICE_NAME is set."""

    def __init__(self, settings: Settings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._provider: TracerProvider | None = None

    def start(self) -> None:
        """Trace, if the variables ask for it."""
        if not is_wanted():
            return
        try:
            exporter = _exporter()
        except ImportError:
            logger.warning("OTEL_… asks for traces, and OpenTelemetry is not installed: pip install tailrace[otel]")
            return
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from tailrace.tracing.tracer import Tracer

        self._provider = TracerProvider(resource=_resource(self._role), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        tracing.install(
            Tracer(self._provider, Vocabulary(), is_first_child=self._settings.trace_first_attempt == "child")
        )

    def stop(self) -> None:
        """Export what is left, for `SHUTDOWN_S` at most. Blocks."""
        if self._provider:
            tracing.install(None)
            stopping = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
            stopping.start()
            stopping.join(SHUTDOWN_S)


def _resource(role: str) -> "Resource":
    from opentelemetry.sdk.resources import Resource

    name = os.environ.get("OTEL_SERVICE_NAME") or role
    return Resource.create({"service.name": name, "service.version": version("tailrace")})


def _exporter() -> "SpanExporter":
    """
    Raises:
        ImportError: the extra is not installed.
    """
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    name = os.environ.get(EXPORTER) or "otlp"
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        logger.warning("%s: %s is neither otlp nor console; spans are sent by otlp", EXPORTER, name)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return quiet(OTLPSpanExporter())


def quiet(exporter: "SpanExporter") -> "SpanExporter":
    """The exporter with one line in the log when it begins to fail, and one when it succeeds again. (Its own are one or
    more for each batch, with a traceback.)"""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    class QuietExporter(SpanExporter):
        has_failed = False

        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            result = exporter.export(spans)
            if (failed := result is not SpanExportResult.SUCCESS) != self.has_failed:
                self.has_failed = failed
                what = "are not taken by the collector, and dropped" if failed else "are taken by the collector again"
                logger.warning("traces %s", what)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return QuietExporter()
