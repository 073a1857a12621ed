"""The spans that the product makes, by OpenTelemetry's exporter in memory.

`integration/test_traces.py` has the tree of whole processes.
"""

import contextvars
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from support.logs import record
from tailrace import tracing
from tailrace.process import log_fields
from tailrace.tracing.names import Vocabulary
from tailrace.tracing.span import OFF
from tailrace.tracing.tracer import Tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(Tracer(provider, Vocabulary({})))
    yield exporter
    tracing.install(None)
    provider.shutdown()


def test_span_is_a_stand_in_while_tracing_is_off() -> None:
    assert not tracing.is_on()
    assert tracing.creating("anna", "demo") is tracing.attempt(record(), 1) is tracing.upstream("demo") is OFF
    assert tracing.subscription(record()) is OFF
    tracing.enter_request([(b"traceparent", PARENT.encode())])
    with OFF as span:
        span.set(outcome="completed")
        span.fail("timeout")
    assert (OFF.traceparent, OFF.is_recording, tracing.outgoing_headers()) == ("", False, {})
    assert not tracing.captures_content()
    OFF.end()


@pytest.mark.parametrize("given", [PARENT, "", "00-broken", 1000 * "x"])
def test_creation_continues_the_trace_of_its_request(exporter: InMemorySpanExporter, given: str) -> None:
    def create() -> None:
        tracing.enter_request([(b"accept", b"*/*"), (b"traceparent", given.encode())])
        with tracing.creating("anna", "demo") as span:
            assert span.traceparent.startswith("00-")

    contextvars.copy_context().run(create)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("create tailrace", SpanKind.PRODUCER)
    assert (span.parent is not None) is (given == PARENT)


def test_attempt_is_linked_to_its_creation_and_below_no_current_span(exporter: InMemorySpanExporter) -> None:
    with tracing.upstream("another"), tracing.attempt(record(traceparent=PARENT), 1, epoch=7) as attempt:
        attempt.set(outcome="completed")
    span, _ = exporter.get_finished_spans()
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [PARENT.split("-")[1]]
    assert span.attributes is not None
    assert span.attributes["tailrace.epoch"] == 7


def test_attempt_of_a_creation_that_was_not_traced_has_no_link(exporter: InMemorySpanExporter) -> None:
    with tracing.attempt(record(), 1):
        pass
    (span,) = exporter.get_finished_spans()
    assert (span.parent, list(span.links)) == (None, [])


def test_error_is_its_type_and_never_its_message(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="a prompt"), tracing.upstream("demo"):
        raise ValueError("a prompt")
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert "a prompt" not in span.to_json()


def test_log_has_the_ids_of_the_current_span(exporter: InMemorySpanExporter) -> None:
    with tracing.upstream("demo"):
        ids = log_fields.bound()
        headers = tracing.outgoing_headers()
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert ids == {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    assert headers["traceparent"].split("-")[1:3] == list(ids.values())
    assert log_fields.bound() == {}
