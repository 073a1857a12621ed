"""The input of a request as Responses items, each with an id: for `input_items`, for requests that continue it, and for
references to an item.

An id that the caller gave stays, unless an item before it has the same. Any other is made of the generation's id and
the item's place, so every process gives the same one: `msg_<26 characters>_i0`. Items of the output have the same ids
without the `i` (`wire`), so an id leads to its item without an index. An item that a Responses upstream needs under its
own id has that id behind a dot: `rs_<26 characters>_0.rs_68af…`.
"""

import re
from typing import Any, NamedTuple

from tailrace.errors import InvalidRequest
from tailrace.events import Api, Json
from tailrace.ids import GENERATION_PREFIX, ITEM_PREFIXES, id_as
from tailrace.translation import ui_messages
from tailrace.translation.chat_messages import items_of
from tailrace.translation.responses_input import items_in, type_of

ITEM_ID = re.compile(r"[a-z]+_([a-z2-7]{26})_(i?)([0-9]{1,6})(?:\.(.{1,200}))?", re.ASCII)


class ItemPlace(NamedTuple):
    """Where an item is: in the input or the output of a generation, under its number."""

    generation_id: str
    is_input: bool
    number: int


def place_of(item_id: str) -> ItemPlace | None:
    """The place of an item that has no id of its caller's; None for any other id."""
    match = ITEM_ID.fullmatch(item_id)
    return ItemPlace(id_as(GENERATION_PREFIX, match[1]), bool(match[2]), int(match[3])) if match else None


def upstream_id_of(item_id: str) -> str | None:
    """The upstream's own id of an item, where an id of ours has one."""
    match = ITEM_ID.fullmatch(item_id)
    return match[4] if match else None


def input_items(generation_id: str, api: Api, request: Json) -> list[Json]:
    """The items of a stored request's input, in order. It never raises."""
    try:
        items = _items(api, request)
    except InvalidRequest:  # another version stored it
        items = []
    suffix = id_as("", generation_id)
    known: set[str] = set()
    whole = []
    for number, item in enumerate(items):
        given = item.get("id")
        is_known = given in known if isinstance(given, str) else False
        if isinstance(given, str):
            known.add(given)
        whole.append(_whole(item | {"id": None} if is_known else item, f"_{suffix}_i{number}"))
    return whole


def _items(api: Api, request: Json) -> list[Json]:
    match api:
        case "responses":
            return items_in(request.get("input"))
        case "ui-messages":
            request = ui_messages.chat_request(request)
    return items_of(request.get("messages"))


def _whole(item: Json, suffix: str) -> Json:
    """The item with every field that OpenAI's types require."""
    kind = type_of(item)
    known: Json = {"id": ITEM_PREFIXES.get(kind, "item") + suffix, "type": kind, "status": "completed"}
    given = {name: each for name, each in item.items() if each is not None}
    if not isinstance(given.get("id"), str):
        given.pop("id", None)
    if kind == "reasoning":
        known["summary"] = []
    if kind == "message":
        given["content"] = _parts(given.get("content"), is_answer=given.get("role") == "assistant")
    return known | given


def _parts(content: Any, *, is_answer: bool) -> Any:
    if isinstance(content, str):
        content = [{"type": "output_text" if is_answer else "input_text", "text": content}]
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: Any) -> Any:
    match part:
        case {"type": "output_text"}:
            return {"annotations": [], "logprobs": []} | part
        case {"type": "input_image"}:
            return {"detail": "auto"} | part
    return part
