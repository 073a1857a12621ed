"""Traces by OpenTelemetry, which the extra `tailrace[otel]` brings and the variables OTEL_… configure.

Off, which is the default, each of these functions is one comparison, and OpenTelemetry is not imported. They are called
for requests, attempts and calls of upstreams, and never for a token.

Like a logger, the tracer belongs to the process.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tailrace.events import GenerationRecord
from tailrace.process import log_fields
from tailrace.tracing.span import OFF, Span

if TYPE_CHECKING:
    from tailrace.tracing.tracer import Tracer

_tracer: "Tracer | None" = None


def install(tracer: "Tracer | None") -> None:
    """Trace with this from now on; None: not at all."""
    global _tracer
    _tracer = tracer
    if tracer:
        from tailrace.tracing.tracer import current_ids

        log_fields.add_source(current_ids)


def is_on() -> bool:
    return _tracer is not None


def captures_content() -> bool:
    """Whether spans may have prompts and answers."""
    return _tracer is not None and _tracer.vocabulary.captures_content


def enter_request(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """The task of a request begins: continue its trace."""
    if _tracer:
        _tracer.enter_request(headers)


def creating(owner: str, model: str) -> Span:
    """A generation is created."""
    return _tracer.creating(owner, model) if _tracer else OFF


def attempt(record: GenerationRecord, number: int, **values: Any) -> Span:
    """A worker runs a generation for this time, from 1."""
    if not _tracer:
        return OFF
    known = {"generation": record.id, "message_id": record.id, "owner": record.owner, "model": record.model}
    return _tracer.attempt(record.traceparent, number, known | values)


def upstream(model: str, **values: Any) -> Span:
    """A request to an upstream. `model`: as the upstream names it."""
    return _tracer.upstream(model, values) if _tracer else OFF


def subscription(record: GenerationRecord, **values: Any) -> Span:
    """A client begins to read a log."""
    return _tracer.subscription(record.traceparent, {"generation": record.id, **values}) if _tracer else OFF


def outgoing_headers() -> dict[str, str]:
    """The headers by which a request continues the current trace."""
    if not _tracer:
        return {}
    from tailrace.tracing.tracer import current_headers

    return current_headers()
