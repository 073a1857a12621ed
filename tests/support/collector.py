"""A collector of traces: it takes OTLP over HTTP, and keeps every span."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
ERROR = 2


class CollectedSpan(NamedTuple):
    """Ids in hex; `links` are (trace, span)."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    error: str
    took_s: float

    @property
    def key(self) -> tuple[str, str]:
        return self.trace, self.id

    @property
    def generation(self) -> Any:
        return self.attributes.get("tailrace.generation.id")


class Collector:
    """`url`: for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[CollectedSpan] = []

    def of(self, generation_id: str, name: str = "") -> list[CollectedSpan]:
        """The spans of a generation's creation, attempts and subscriptions, and what is below them."""
        roots = {span.key for span in self.spans if span.generation == generation_id}
        found = [span for span in self.spans if span.key in roots or (span.trace, span.parent) in roots]
        return [span for span in found if span.name.startswith(name)]

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that is to be traced."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]
        return web.Response()


def _span(service: str, span: Any) -> CollectedSpan:
    links = tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links)
    error = span.status.message if span.status.code == ERROR else ""
    took_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    return CollectedSpan(
        service, span.name, KINDS[span.kind], span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        links, _attributes(span.attributes), error, took_s,
    )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    application = web.Application()
    runner = web.AppRunner(application, access_log=None)
    collector = Collector("")
    application.router.add_post("/v1/traces", collector.take)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
