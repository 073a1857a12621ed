"""The names of OpenTelemetry's conventions for generative AI, in both generations, and those of our own.

The conventions are in development and change their names. A span has the names of one generation: those of v1.36, which
most tools know, or with `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` the newest. Another generation is
another column; nothing else in the product has such a name.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST = "gen_ai_latest_experimental"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURING = frozenset({"true", "1", "span_only", "span_and_event"})


class Name(NamedTuple):
    """One attribute in both generations; "" where a generation has none."""

    v1_36: str
    latest: str


NAMES: Mapping[str, Name] = {
    "provider": Name("gen_ai.system", "gen_ai.provider.name"),
    "operation": Name("gen_ai.operation.name", "gen_ai.operation.name"),
    "request_model": Name("gen_ai.request.model", "gen_ai.request.model"),
    "request_stream": Name("", "gen_ai.request.stream"),
    "request_max_tokens": Name("gen_ai.request.max_tokens", "gen_ai.request.max_tokens"),
    "request_temperature": Name("gen_ai.request.temperature", "gen_ai.request.temperature"),
    "request_top_p": Name("gen_ai.request.top_p", "gen_ai.request.top_p"),
    "request_choices": Name("gen_ai.request.choice.count", "gen_ai.request.choice.count"),
    "response_id": Name("gen_ai.response.id", "gen_ai.response.id"),
    "response_model": Name("gen_ai.response.model", "gen_ai.response.model"),
    "finish_reasons": Name("gen_ai.response.finish_reasons", "gen_ai.response.finish_reasons"),
    "time_to_first_chunk": Name("", "gen_ai.response.time_to_first_chunk"),
    "input_tokens": Name("gen_ai.usage.input_tokens", "gen_ai.usage.input_tokens"),
    "output_tokens": Name("gen_ai.usage.output_tokens", "gen_ai.usage.output_tokens"),
    "cached_tokens": Name("", "gen_ai.usage.cache_read.input_tokens"),
    "reasoning_tokens": Name("", "gen_ai.usage.reasoning.output_tokens"),
    "input_messages": Name("gen_ai.prompt", "gen_ai.input.messages"),
    "output_messages": Name("gen_ai.completion", "gen_ai.output.messages"),
}
"""What a span of an upstream's call may have. Everything else is named by `OWN`."""

OWN: Mapping[str, str] = {
    "error_type": "error.type",
    "system": "messaging.system",
    "destination": "messaging.destination.name",
    "message_operation": "messaging.operation.name",
    "operation_type": "messaging.operation.type",
    "message_id": "messaging.message.id",
    "server_address": "server.address",
    "server_port": "server.port",
    "generation": "tailrace.generation.id",
    "owner": "tailrace.owner",
    "model": "tailrace.model",
    "attempt": "tailrace.attempt",
    "epoch": "tailrace.epoch",
    "worker": "tailrace.worker",
    "reason": "tailrace.restart.reason",
    "outcome": "tailrace.outcome",
    "upstream": "tailrace.upstream",
    "retry": "tailrace.retry",
    "wire": "tailrace.wire",
    "resumed": "tailrace.resumed",
}
"""Names of the stable conventions, and our own, in every generation."""


class Vocabulary:
    """The names of one generation, and whether spans may have content."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        chosen = {each.strip() for each in environment.get(OPT_IN, "").split(",")}
        names = {key: name.latest if LATEST in chosen else name.v1_36 for key, name in NAMES.items()}
        self._names = {**OWN, **names}
        self.captures_content = environment.get(CAPTURE, "").strip().lower() in CAPTURING

    def attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values under their names, without those that are None and those that this generation has no name for."""
        named = ((self._names[key], value) for key, value in values.items() if value is not None)
        return {name: value for name, value in named if name}
