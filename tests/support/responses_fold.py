"""What Responses events mean, without Tailrace: the output that a client has after it has read them.

`output_of` folds events as OpenAI's SDKs do, and checks what the SDKs rely on. `comparable` takes away what Tailrace
makes anew (ids, numbers, padding) and what means the same as nothing.
"""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

OWN = frozenset({"sequence_number", "obfuscation", "item_id", "id"})
ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


def comparable(value: Any) -> Any:
    """The value without what is Tailrace's own, and without null and empty values."""
    match value:
        case dict():
            fields = {name: comparable(each) for name, each in value.items() if name not in OWN}
            kept = {name: each for name, each in fields.items() if each not in (None, "", [], {})}
            if kept.get("type") == "reasoning" and kept.get("status") != "incomplete":
                kept.pop("status", None)  # OpenAI leaves it out
            return kept
        case list():
            return [comparable(each) for each in value]
    return value


def lacks(whole: Any, part: Any, path: str = "") -> list[str]:
    """The places of values of `part` that `whole` lacks, or has otherwise."""
    match whole, part:
        case dict(), dict():
            return [lack for name in part for lack in lacks(whole.get(name), part[name], f"{path}.{name}")]
        case list(), list() if len(whole) == len(part):
            pairs = enumerate(zip(whole, part, strict=True))
            return [lack for k, (one, other) in pairs for lack in lacks(one, other, f"{path}[{k}]")]
    return [] if whole == part else [f"{path}: {part!r} is {whole!r}"]


def end_of(events: Iterable[Json]) -> Json | None:
    """The Response of the event that ends the stream, or that is all of it."""
    for event in events:
        if event.get("type") in ENDS:
            return dict(event["response"])
        if event.get("object") == "response":
            return event
    return None


def output_of(events: list[Json]) -> list[Json]:
    """The output that the events add up to; each item is checked against its own end."""
    items: list[Json] = []
    done: set[int] = set()
    for event in events:
        name = event["type"].removeprefix("response.")
        match name:
            case "output_item.added":
                assert event["output_index"] == len(items)
                items.append(_begun(event["item"]))
            case "content_part.added" | "reasoning_summary_part.added":
                _add_part(items[event["output_index"]], event)
            case "output_item.done":
                index = event["output_index"]
                assert index not in done
                streamed = comparable({**items[index], "status": event["item"].get("status")})
                assert not lacks(comparable(event["item"]), streamed)
                done.add(index)
                items[index] = event["item"]
            case _ if name.endswith((".delta", ".annotation.added")) and "output_index" in event:
                assert event["output_index"] not in done
                _add(items[event["output_index"]], name, event)
    return items


def _begun(item: Json) -> Json:
    return {**item, **{name: list(item[name]) for name in ("content", "summary") if name in item}}


def _parts(item: Json, event: Json) -> list[Json]:
    parts: list[Json] = item.setdefault("summary" if "summary_index" in event else "content", [])
    return parts


def _add_part(item: Json, event: Json) -> None:
    parts = _parts(item, event)
    index = event["summary_index"] if "summary_index" in event else event["content_index"]
    assert index == len(parts)
    assert event["item_id"] == item["id"]
    parts.append(dict(event["part"]))


def _add(item: Json, name: str, event: Json) -> None:
    if item["type"] == "function_call":
        item["arguments"] += event["delta"]
    elif item["type"] == "custom_tool_call":
        item["input"] += event["delta"]
    elif "content_index" in event or "summary_index" in event:
        index = event["summary_index"] if "summary_index" in event else event["content_index"]
        part = _parts(item, event)[index]
        if name == "output_text.annotation.added":
            assert event["annotation_index"] == len(part["annotations"])
            part["annotations"] = [*part["annotations"], event["annotation"]]
        else:
            field = "refusal" if part["type"] == "refusal" else "text"
            part[field] += event["delta"]
            if event.get("logprobs"):
                part["logprobs"] = [*part["logprobs"], *event["logprobs"]]
