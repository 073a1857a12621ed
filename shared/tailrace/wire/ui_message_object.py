"""A UI message of the AI SDK: the answer as a page keeps it, with its parts.

The parts are those that a page has after it has read the stream (`ui_messages`) to its end, so that a page that loads a
chat's messages shows what a page shows that has watched it. A call that was cut short is no part: it never ran.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tailrace import jsoncodec
from tailrace.events import GenerationRecord, Item, Json, objects_in
from tailrace.ids import MESSAGE_PREFIX, id_as
from tailrace.wire.openai_response_object import annotation

NOT_JSON = "The arguments of the call are not JSON."


class Context(NamedTuple):
    """The input of the encoders, the same for all entries of a generation.

    `message_id`: of the message that the answer is, or continues. `tools`: the names of the tools that the request has.
    """

    generation_id: str
    message_id: str
    tools: frozenset[str]


def context(record: GenerationRecord, request: Json) -> Context:
    """The context of a generation. Where the last message is the assistant's, with results of its calls, the answer
    continues that message."""
    last = (objects_in(request.get("messages")) or [{}])[-1]
    own_id = id_as(MESSAGE_PREFIX, record.id)
    given = last.get("id") if last.get("role") == "assistant" else None
    names = (_fields(tool).get("name") for tool in objects_in(request.get("tools")))
    tools = frozenset(name for name in names if isinstance(name, str))
    return Context(record.id, given if isinstance(given, str) and given else own_id, tools)


def with_answer(messages: Sequence[Json], context: Context, output: Sequence[Item]) -> list[Json]:
    """The messages of a chat after an answer. An answer without an item is no message."""
    items = [item for item in output if item.choice == 0]
    if not items:
        return [*messages]
    parts = [{"type": "step-start"}, *(part for item in items for part in parts_of(context, item))]
    *before, last = messages
    if last.get("id") == context.message_id:
        return [*before, last | {"parts": [*last["parts"], *parts]}]
    return [*messages, {"id": context.message_id, "role": "assistant", "parts": parts}]


def parts_of(context: Context, item: Item) -> list[Json]:
    """An item's parts: itself, and the pages that a text cites."""
    if item.type == "other":
        return []
    if item.type == "call":
        return [] if item.status else [_call_part(context, item)]
    text = {"text": item.text or "", "state": "done"}
    if item.type == "reasoning":  # only this part keeps the id that its stream has
        part = {"type": "reasoning", "id": str(item.item), **text}
    else:
        part = {"type": "text", **text, **metadata_of(item.type)}
    return [part, *sources(context, item.item, item.annotations)]


def metadata_of(item_type: str) -> Json:
    """The metadata by which a later request has a part as the model wrote it: the format has no refusals."""
    return {"providerMetadata": {"tailrace": {"refusal": True}}} if item_type == "refusal" else {}


def sources(context: Context, item: int, annotations: Sequence[Json], before: int = 0) -> list[Json]:
    """The pages that annotations of a text cite. `before`: how many annotations of the item came earlier."""
    cited = [(number, annotation(each)) for number, each in enumerate(annotations, before)]
    return [
        {"type": "source-url", "sourceId": f"{context.generation_id}-{item}-{number}", "url": url, **_title(each)}
        for number, each in cited
        if isinstance(url := each.get("url"), str) and url
    ]


def _title(cited: Json) -> Json:
    title = cited.get("title")
    return {"title": title} if isinstance(title, str) and title else {}


def call_name(context: Context, name: str) -> Json:
    """A call's tool. One that the request does not have is dynamic: the page has no type for it."""
    return {"toolName": name} if name in context.tools else {"toolName": name, "dynamic": True}


def call_input(item: Item) -> tuple[Any, bool]:
    """A call's arguments as JSON; as the text that they are, and False, where they are none. No arguments are {}. The
    input of a custom tool is text in any case."""
    text = item.arguments or ""
    if item.custom:
        return text, True
    try:
        return (jsoncodec.loads(text) if text.strip() else {}), True
    except ValueError:
        return text, False


def call_metadata(item: Item, field: str) -> Json:
    """The upstream's own fields of a call, which some upstreams expect in the next request."""
    return {field: {"tailrace": item.call}} if item.call else {}


def _call_part(context: Context, item: Item) -> Json:
    name = item.name or ""
    value, is_json = call_input(item)
    part = {
        **({"type": f"tool-{name}"} if name in context.tools else {"type": "dynamic-tool", "toolName": name}),
        "toolCallId": item.id or "",
        "state": "input-available" if is_json else "output-error",
        "input": value,
    }
    error = {} if is_json else {"errorText": NOT_JSON}
    return part | error | call_metadata(item, "callProviderMetadata")


def _fields(tool: Json) -> Json:
    """A tool's own fields, which Chat Completions nests under its type."""
    nested = tool.get(str(tool.get("type")))
    return nested if isinstance(nested, dict) else tool
