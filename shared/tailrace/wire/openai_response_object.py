"""The Response object: the payload of the Responses format's lifecycle events, with its items and parts.

Every field that OpenAI's types or Open Responses require is always present; a field that the request left out has
OpenAI's default. Times come from the log, ids from the generation's id.

What repeats the request is made once a generation, by `openai_response_echo`.
"""

from typing import Any, NamedTuple

from tailrace.events import Done, GenerationRecord, Item, ItemOpened, Json, ToolArguments, objects_in
from tailrace.failures import failure
from tailrace.ids import ITEM_PREFIXES, RESPONSE_PREFIX, id_as
from tailrace.wire.openai_response_echo import echo_of, flattened

ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})
"""The codes that OpenAI's types allow in a Response and a chat upstream can have."""

TOO_LONG = frozenset({"length", "model_length"})
"""Finish reasons; Mistral has the second."""


class Context(NamedTuple):
    """The input of the encoders, the same for all entries of a generation.

    `echo`: the fields of the Response that repeat the request. `obfuscates`: whether deltas are padded.
    """

    record: GenerationRecord
    echo: Json
    obfuscates: bool = False

    @classmethod
    def of(cls, record: GenerationRecord, request: Json, *, obfuscates: bool = False) -> "Context":
        """The context of a generation whose stored request is known."""
        return cls(record, echo_of(record, request), obfuscates)


class Part(NamedTuple):
    """The form of an item's one part: its type and field, the name of its index, its events and its text's events."""

    type: str
    field: str
    index_name: str
    event: str
    text_event: str


TEXT = Part("output_text", "text", "content_index", "content_part", "output_text")
REFUSAL = Part("refusal", "refusal", "content_index", "content_part", "refusal")
REASONING = Part("reasoning_text", "text", "content_index", "content_part", "reasoning_text")
SUMMARY = Part("summary_text", "text", "summary_index", "reasoning_summary_part", "reasoning_summary_text")

MESSAGE_PARTS = {"text": TEXT, "refusal": REFUSAL}

TYPES = {
    "text": "message", "refusal": "message", "reasoning": "reasoning", "call": "function_call",
    "custom": "custom_tool_call",
}  # fmt: skip
"""The type of an item in a Response, by the type of the log's."""


def response_id(context: Context) -> str:
    """The generation's id in the form of the OpenAI routes."""
    return id_as(RESPONSE_PREFIX, context.record.id)


def item_id(context: Context, item_type: str, item: int) -> str:
    """`item_type` as in the log, and `custom` for a call of a custom tool."""
    return id_as(f"{ITEM_PREFIXES[TYPES[item_type]]}_", context.record.id) + f"_{item}"


def response(context: Context, status: str, **known: Any) -> Json:
    """The Response. `known`: fields that replace those of a response without output."""
    return {
        "id": response_id(context),
        "object": "response",
        "created_at": context.record.created // 1000,
        "completed_at": None,
        "status": status,
        "background": context.record.background,
        "model": context.record.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "usage": None,
        **context.echo,
        **known,
    }


def ended(context: Context, done: Done) -> Json:
    """The Response at its end. A cancelled one has no `incomplete_details`."""
    return response(
        context,
        done.status,
        completed_at=int(done.at) if done.status == "completed" else None,
        output=[whole(context, item) for item in done.output],
        error=_error(done),
        incomplete_details=_incomplete_details(done),
        usage=usage(done.usage or {}),
    )


def part_of(context: Context, item_type: str) -> Part:
    if item_type == "reasoning":
        return SUMMARY if context.record.reasoning_summary else REASONING
    return MESSAGE_PARTS[item_type]


def part(form: Part, item: Item | None = None, logprobs: bool = False) -> Json:
    """An item's part: whole, or empty as it begins. `logprobs`: whether the request asked for them."""
    value: Json = {"type": form.type, form.field: (item.text or "") if item else ""}
    if form is not TEXT:
        return value
    value["annotations"] = [annotation(each) for each in item.annotations] if item else []
    value["logprobs"] = [logprob(each) for each in item.logprobs] if item and logprobs else []
    return value


def begun(context: Context, opened: ItemOpened) -> Json:
    """An item as it begins."""
    if opened.type == "call":
        return _call(context, opened, "", "in_progress")
    return _item(context, opened.item, opened.type, [], "in_progress")


def whole(context: Context, item: Item, *, is_open: bool = False) -> Json:
    """An item with all of its text. `is_open`: more of it follows."""
    status = "in_progress" if is_open else item.status or "completed"
    if item.type == "call":
        return (item.call or {}) | _call(context, item, item.arguments or "", status)
    return _item(
        context, item.item, item.type, [part(part_of(context, item.type), item, context.record.logprobs)], status
    )


def _item(context: Context, item: int, item_type: str, parts: list[Json], status: str) -> Json:
    fields = {"id": item_id(context, item_type, item), "status": status}
    if item_type != "reasoning":
        return {"type": "message", **fields, "role": "assistant", "content": parts}
    if context.record.reasoning_summary:
        return {"type": "reasoning", **fields, "summary": parts}
    return {"type": "reasoning", **fields, "summary": [], "content": parts}


def call_type(call: ItemOpened | ToolArguments | Item) -> str:
    """The type of a call for `item_id`."""
    return "custom" if call.custom else "call"


def _call(context: Context, call: ItemOpened | Item, arguments: str, status: str) -> Json:
    """A call. `call_id` is the upstream's, made unique: the upstream's is unique in its choice only, and both SDKs need
    it unique in the response."""
    own_id = item_id(context, call_type(call), call.item)
    call_id = f"{call.id}/{call.choice}" if call.choice else call.id
    fields = {"id": own_id, "status": status, "call_id": call_id or own_id, "name": call.name or ""}
    if call.custom:
        return {"type": "custom_tool_call", **fields, "input": arguments}
    return {"type": "function_call", **fields, "arguments": arguments}


def usage(chat: Json) -> Json:
    """Chat Completions' usage by Responses' names; zeros for missing counts, because clients require them."""
    read, written = _count(chat, "prompt_tokens"), _count(chat, "completion_tokens")
    prompt, completion = _dict(chat.get("prompt_tokens_details")), _dict(chat.get("completion_tokens_details"))
    value = {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": _count(prompt, "cached_tokens"),
            "cache_write_tokens": _count(prompt, "cache_write_tokens"),
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": _count(completion, "reasoning_tokens")},
        "total_tokens": _count(chat, "total_tokens") or read + written,
    }
    return value | {"estimated": True} if chat.get("estimated") else value


def annotation(chat: Json) -> Json:
    flat = flattened(chat)
    if flat.get("type") != "url_citation":
        return flat
    return {"url": "", "title": "", "start_index": 0, "end_index": 0} | flat


def logprob(chat: Json) -> Json:
    """One form for deltas, which have no `bytes`, and for parts, which must have them."""
    top = [_token(each) for each in objects_in(chat.get("top_logprobs"))]
    return _token(chat) | {"top_logprobs": top}


def _token(chat: Json) -> Json:
    return {"token": chat.get("token", ""), "logprob": chat.get("logprob", 0.0), "bytes": chat.get("bytes") or []}


def _error(done: Done) -> Json | None:
    error = done.error or (failure("server_error") if done.status == "failed" else None)
    if error is None:
        return None
    code = next((name for name in (error.code, error.type) if name in ERROR_CODES), "server_error")
    return {"code": code, "message": error.message, "type": error.type, "param": error.param}


def _incomplete_details(done: Done) -> Json | None:
    if done.status != "incomplete":
        return None
    reasons = {finish.finish_reason for finish in done.finish}
    if reasons & TOO_LONG or (done.error and done.error.code == "log_limit"):
        return {"reason": "max_output_tokens"}
    return {"reason": "content_filter"} if "content_filter" in reasons else None


def _count(values: Json, name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else 0


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
