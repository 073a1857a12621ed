"""The spans of the product, while tracing is on. Only this module and `provider` import OpenTelemetry.

    create tailrace     PRODUCER   a frontend accepts a generation; child of the request's `traceparent`
    process tailrace    CONSUMER   a worker's attempt; linked to the creation, of which the record has the context
      chat {model}      CLIENT     one request to an upstream
    subscribe tailrace  SERVER     a client begins to read a log; it ends when what was written before is sent

An attempt has a trace of its own, because it may begin an hour after its creation, and a retry another hour later:
`is_first_child` makes the first attempt a child of the creation. No span is made for a token, an entry or a frame.
"""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tailrace.tracing.names import Vocabulary
from tailrace.tracing.span import Span

SYSTEM = "tailrace"
HEADER = "traceparent"
HEADERS = frozenset({b"traceparent", b"tracestate"})

_propagator = TraceContextTextMapPropagator()


class LiveSpan(Span):
    """A span that is recorded, if its sampler wants it."""

    def __init__(self, span: trace.Span, vocabulary: Vocabulary) -> None:
        self._span = span
        self._vocabulary = vocabulary
        self._token: Any = None
        self._has_failed = False
        self.is_recording = span.is_recording()

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get(HEADER, "")

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context.detach(self._token)
        if isinstance(error, Exception) and not self._has_failed:
            self.fail(str(getattr(error, "code", None) or type(error).__name__))
        self.end()

    def set(self, **values: Any) -> None:
        if self.is_recording:
            self._span.set_attributes(self._vocabulary.attributes(values))

    def fail(self, error_type: str) -> None:
        self._has_failed = True
        self.set(error_type=error_type)
        self._span.set_status(Status(StatusCode.ERROR, error_type))

    def end(self) -> None:
        self._span.end()


class Tracer:
    """Begins spans. `is_first_child`: the first attempt is a child of the creation, and not linked to it."""

    def __init__(self, provider: trace.TracerProvider, vocabulary: Vocabulary, *, is_first_child: bool = False) -> None:
        self.vocabulary = vocabulary
        self._tracer = provider.get_tracer(SYSTEM)
        self._is_first_child = is_first_child

    def begin(self, name: str, kind: SpanKind, values: Mapping[str, Any], **options: Any) -> LiveSpan:
        """A span with these attributes, below the current one unless the options name another."""
        span = self._tracer.start_span(name, kind=kind, attributes=self.vocabulary.attributes(values), **options)
        return LiveSpan(span, self.vocabulary)

    def enter_request(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Continue the trace of a request, in its task, whose headers are in lower case."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in HEADERS}
        if carrier:
            context.attach(_propagator.extract(carrier))

    def creating(self, owner: str, model: str) -> Span:
        values = {**_message("create", "create"), "owner": owner, "model": model}
        return self.begin("create tailrace", SpanKind.PRODUCER, values)

    def attempt(self, traceparent: str, attempt: int, values: Mapping[str, Any]) -> Span:
        """`traceparent`: of the creation; "" where that was not traced."""
        created = _propagator.extract({HEADER: traceparent}) if traceparent else context.Context()
        of_creation = trace.get_current_span(created).get_span_context()
        is_child = self._is_first_child and attempt == 1
        links = [Link(of_creation)] if of_creation.is_valid and not is_child else []
        return self.begin(
            "process tailrace", SpanKind.CONSUMER, {**_message("process", "process"), "attempt": attempt, **values},
            context=created if is_child else context.Context(), links=links,
        )  # fmt: skip

    def upstream(self, model: str, values: Mapping[str, Any]) -> Span:
        values = {"operation": "chat", "request_model": model, "request_stream": True, **values}
        return self.begin(f"chat {model}", SpanKind.CLIENT, values)

    def subscription(self, traceparent: str, values: Mapping[str, Any]) -> Span:
        of_creation = trace.get_current_span(_propagator.extract({HEADER: traceparent})).get_span_context()
        links = [Link(of_creation)] if of_creation.is_valid else []
        return self.begin("subscribe tailrace", SpanKind.SERVER, values, links=links)


def _message(operation: str, kind: str) -> dict[str, str]:
    return {"system": SYSTEM, "destination": SYSTEM, "message_operation": operation, "operation_type": kind}


def current_headers() -> dict[str, str]:
    """`traceparent`, and `tracestate` where there is one, of the current span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


def current_ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the current span, for the log; nothing outside of one."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}
