"""The span of one request to an upstream, with the attributes that OpenTelemetry has for generative AI."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from tailrace import jsoncodec, tracing
from tailrace.events import Item, Json
from tailrace.tracing.span import Span
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Translator
from tailrace_worker.writer import Writer

OPENAI = "openai"
PROVIDERS = {
    "azure": "azure.ai.openai", "mistral": "mistral_ai", "xai": "x_ai", "moonshot": "moonshot_ai",
    "alibaba": "alibaba.model_studio", "generic": OPENAI,
}  # fmt: skip
"""By profile, where OpenTelemetry's name is another one. Any other product speaks the API of OpenAI's."""

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


async def traced(
    request_: Callable[[], Awaitable[None]], client: UpstreamClient, request: Json, retry: int, translator: Translator,
    timings: TokenTimings, writer: Writer, code_of: Callable[[Exception], str],
) -> None:  # fmt: skip
    """Send the request in a span. `code_of`: the code of an error."""
    began, count = time.monotonic(), timings.count
    with tracing.upstream(str(request.get("model")), **_of_request(client, request, retry)) as span:
        try:
            await request_()
            if tracing.captures_content():
                await writer.flush()  # only then has the output all of it
        except asyncio.CancelledError:
            span.set(outcome="cancelled")
            raise
        except Exception as error:
            span.fail(code_of(error))
            raise
        finally:
            if span.is_recording:
                first = None if count or timings.first_at is None else round(timings.first_at - began, 6)
                span.set(time_to_first_chunk=first, **_of_answer(translator))
                _set_content(span, request, writer.output.items)
        if translator.failure:
            span.fail(translator.failure.code)


def _of_request(client: UpstreamClient, request: Json, retry: int) -> dict[str, Any]:
    url, profile = client.sdk.base_url, client.config.profile.name
    limit = next((request[name] for name in LIMITS if name in request), None)
    choices = _number(request.get("n"))
    return {
        "provider": PROVIDERS.get(profile, profile),
        "server_address": url.host,
        "server_port": url.port or (443 if url.scheme == "https" else 80),
        "upstream": client.config.name,
        "retry": retry or None,
        "request_max_tokens": _number(limit),
        "request_temperature": _number(request.get("temperature")),
        "request_top_p": _number(request.get("top_p")),
        "request_choices": None if choices == 1 else choices,
    }


def _of_answer(translator: Translator) -> dict[str, Any]:
    usage, upstream = translator.usage or {}, translator.upstream
    reasons = [each.finish_reason for each in translator.finish if each.finish_reason]
    return {
        "response_id": upstream.id or None,
        "response_model": upstream.model or None,
        "finish_reasons": reasons or None,
        "input_tokens": _number(usage.get("prompt_tokens")),
        "output_tokens": _number(usage.get("completion_tokens")),
        "cached_tokens": _detail(usage, "prompt_tokens_details", "cached_tokens"),
        "reasoning_tokens": _detail(usage, "completion_tokens_details", "reasoning_tokens"),
    }


def _detail(usage: Json, name: str, field: str) -> float | None:
    details = usage.get(name)
    return _number(details.get(field)) if isinstance(details, dict) else None


def _number(value: object) -> float | None:
    """A number of a caller's or an upstream's, which may be anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _set_content(span: Span, request: Json, output: Callable[[], Iterable[Item]]) -> None:
    """The prompt and the answer so far, as JSON, where the operator has asked for them."""
    if not tracing.captures_content():
        return
    answer = [{"role": "assistant", "parts": [_part(item) for item in output()]}]
    span.set(input_messages=_text(_messages(request)), output_messages=_text(answer))


def _messages(request: Json) -> list[Json]:
    """The prompt in the form of OpenTelemetry: a role and parts. What is no text keeps its type alone."""
    given = request.get("messages", request.get("input"))
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    found = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    return [{"role": each.get("role", "user"), "parts": _parts(each.get("content"))} for each in found]


def _parts(content: object) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts = [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    return [
        {"type": "text", "content": each["text"]} if "text" in each else {"type": str(each.get("type"))}
        for each in parts
    ]


def _part(item: Item) -> Json:
    if item.name is not None:
        return {"type": "tool_call", "id": item.id, "name": item.name, "arguments": item.arguments}
    return {"type": item.type, "content": item.text}


def _text(value: object) -> str:
    return jsoncodec.dumps(jsoncodec.replace_lone_surrogates(value)).decode()
