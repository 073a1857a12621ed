"""The Response object: the payload of the Responses format's lifecycle events, with its items and parts.

Items of the log that are parts of one item of Responses are put together again here (`wholes`).

Every field that OpenAI's types or Open Responses require is always present; a field that the request left out has
OpenAI's default. Times come from the log, ids from the generation's id.

What repeats the request is made once a generation, by `openai_response_echo`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from tailrace.events import Done, Form, GenerationRecord, Item, ItemOpened, Json, ToolArguments, objects_in
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

ITEM_FIELDS = frozenset({"id", "type", "status", "role", "content", "summary"})

PREFIX = re.compile("[a-z]{1,16}", re.ASCII)

TYPES = {
    "text": "message", "refusal": "message", "reasoning": "reasoning", "call": "function_call",
    "custom": "custom_tool_call",
}  # fmt: skip
"""The type of an item in a Response, by the type of the log's."""


def response_id(context: Context) -> str:
    """The generation's id in the form of the OpenAI routes."""
    return id_as(RESPONSE_PREFIX, context.record.id)


def item_id(context: Context, item_type: str, index: int, ref: str = "") -> str:
    """`item_type` as in the log, and `custom` for a call of a custom tool. `index`: the item's `output_index`; `ref`:
    the upstream's id, which follows ours where the upstream needs it again (`translation.input_items`)."""
    prefix = ITEM_PREFIXES[TYPES[item_type]] if item_type in TYPES else prefix_of(ref)
    own = id_as(f"{prefix}_", context.record.id) + f"_{index}"
    return f"{own}.{ref}" if ref else own


def prefix_of(ref: str) -> str:
    """How an id begins for an item of which only the upstream's id is known: as that one does."""
    prefix = ref.partition("_")[0]
    return prefix if PREFIX.fullmatch(prefix) else "item"


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
    known = response(
        context,
        done.status,
        completed_at=int(done.at) if done.status == "completed" else None,
        output=wholes(context, done.output),
        error=_error(done),
        incomplete_details=_incomplete_details(done),
        usage=usage(done.usage or {}),
    )
    return merged(known, done.response) if done.response else known


def merged(known: Any, more: Any) -> Any:
    """The value with more fields: of objects field by field, of lists element by element. (The upstream's value counts
    where both have one.)"""
    match known, more:
        case dict(), dict():
            return known | {name: merged(known.get(name), each) for name, each in more.items()}
        case list(), list():
            return [merged(*pair) for pair in zip(known, more, strict=False)] + [
                *known[len(more) :],
                *more[len(known) :],
            ]
    return more


def part_of(context: Context, item_type: str, form: Form = "") -> Part:
    """The form of an item's part. That of reasoning is the upstream's, else the record's."""
    if item_type == "reasoning":
        return SUMMARY if form == "summary" or (not form and context.record.reasoning_summary) else REASONING
    return MESSAGE_PARTS[item_type]


def part(form: Part, item: Item | None = None, logprobs: bool = False) -> Json:
    """An item's part: whole, or empty as it begins. `logprobs`: whether the request asked for them."""
    value: Json = {"type": form.type, form.field: (item.text or "") if item else ""}
    if form is TEXT:
        value["annotations"] = [annotation(each) for each in item.annotations] if item else []
        value["logprobs"] = [logprob(each) for each in item.logprobs] if item and logprobs else []
    return value | item.part if item and item.part else value


def begun(context: Context, opened: ItemOpened) -> Json:
    """An item as it begins."""
    if opened.type == "call":
        return opened.fields | _call(context, opened, "", "in_progress")
    if opened.type == "other":
        return _other(context, opened)
    return opened.fields | _item(context, opened, [], "in_progress")


def wholes(context: Context, items: Iterable[Item], still_open: Collection[int] = ()) -> list[Json]:
    """The items of a Response: each with all of its parts. `still_open`: those of the log that more will follow."""
    groups = (list(parts) for _, parts in groupby(_by_index(items), lambda item: item.index))
    return [
        whole(context, parts[-1], parts[:-1], is_open=any(part.item in still_open for part in parts))
        for parts in groups
    ]


def _by_index(items: Iterable[Item]) -> Iterable[Item]:
    """The items in the order of Responses: parts of one item need not have been opened one after another."""
    items = list(items)
    return sorted(items, key=lambda item: item.index) if any(item.place for item in items) else items


def whole(context: Context, item: Item, earlier: Sequence[Item] = (), *, is_open: bool = False) -> Json:
    """An item with all of its text. `earlier`: its parts before this one. `is_open`: more of it follows."""
    parts = [each for each in (*earlier, item) if each.type != "other"]
    if not parts:
        return _other(context, item)
    status = "in_progress" if is_open else item.status or "completed"
    if item.type == "call":
        return (item.call or {}) | item.fields | _call(context, item, item.arguments or "", status)
    if earlier:
        parts.sort(key=lambda each: each.place or (each.item, 0))
    others = {name: each for one in (*earlier, item) for name, each in one.fields.items() if _is_further(one, name)}
    known = _item(context, parts[-1], parts, status)
    return merged(known, others) if others else known


def _is_further(item: Item, name: str) -> bool:
    """Whether a field is none of those that an item with parts has in any case. (An item that was opened before its
    parts has all of its fields.)"""
    return item.type != "other" or name not in ITEM_FIELDS


def _item(context: Context, item: ItemOpened | Item, parts: Sequence[Item], status: str) -> Json:
    fields = {"id": item_id(context, item.type, item.index, item.ref), "status": status}
    logprobs = context.record.logprobs
    forms = [(part_of(context, each.type, each.form), each) for each in parts]
    if item.type != "reasoning":
        content = [part(form, each, logprobs) for form, each in forms]
        return {"type": "message", **fields, "role": "assistant", "content": content}
    summary = [part(form, each) for form, each in forms if form is SUMMARY]
    content = [part(form, each) for form, each in forms if form is REASONING]
    if content or part_of(context, item.type, item.form) is REASONING:
        return {"type": "reasoning", **fields, "summary": summary, "content": content}
    return {"type": "reasoning", **fields, "summary": summary}


def _other(context: Context, item: ItemOpened | Item) -> Json:
    """An item as the upstream has it, under an id that leads to it."""
    kind = item.fields.get("type")
    if item.ref or kind not in ITEM_PREFIXES:
        own_id = item_id(context, item.type, item.index, item.ref)
    else:
        own_id = id_as(f"{ITEM_PREFIXES[kind]}_", context.record.id) + f"_{item.index}"
    cut = {"status": "incomplete"} if isinstance(item, Item) and item.status and "status" in item.fields else {}
    return item.fields | {"id": own_id} | cut


def call_type(call: ItemOpened | ToolArguments | Item) -> str:
    """The type of a call for `item_id`."""
    return "custom" if call.custom else "call"


def _call(context: Context, call: ItemOpened | Item, arguments: str, status: str) -> Json:
    """A call. `call_id` is the upstream's, made unique: the upstream's is unique in its choice only, and both SDKs need
    it unique in the response."""
    own_id = item_id(context, call_type(call), call.index)
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
    flat = {name: each for name, each in flat.items() if name != "index"}  # of the element in chat deltas
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
