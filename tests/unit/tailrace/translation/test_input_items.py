"""The input of a request as items with ids."""

from typing import Any

import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from tailrace.translation.input_items import ItemPlace, input_items, place_of

SUFFIX = "abcdefghijklmnopqrstuvwxyz"
ID = f"gen_{SUFFIX}"
ITEMS = TypeAdapter(list[ResponseItem])
OUTPUT_TEXT = {"type": "output_text", "text": "Rain.", "annotations": [], "logprobs": []}


def items(value: Any) -> Any:
    return input_items(ID, "responses", {"input": value})


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("Hi", {"id": f"msg_{SUFFIX}_i0", "type": "message", "status": "completed", "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}]}),
        ([{"role": "assistant", "content": "Rain."}],
         {"id": f"msg_{SUFFIX}_i0", "type": "message", "status": "completed", "role": "assistant",
          "content": [OUTPUT_TEXT]}),
        ([{"type": "message", "role": "assistant", "id": "msg_theirs", "status": "incomplete",
           "content": [{"type": "output_text", "text": "Rain."}]}],
         {"id": "msg_theirs", "type": "message", "status": "incomplete", "role": "assistant",
          "content": [OUTPUT_TEXT]}),
        ([{"role": "assistant", "content": "Rain.", "phase": "commentary"}],
         {"id": f"msg_{SUFFIX}_i0", "type": "message", "status": "completed", "role": "assistant",
          "content": [OUTPUT_TEXT], "phase": "commentary"}),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}],
         {"id": f"msg_{SUFFIX}_i0", "type": "message", "status": "completed", "role": "user",
          "content": [{"type": "input_image", "image_url": "u", "detail": "auto"}]}),
        ([{"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}", "id": None}],
         {"id": f"fc_{SUFFIX}_i0", "type": "function_call", "status": "completed", "call_id": "c", "name": "n",
          "arguments": "{}"}),
        ([{"type": "function_call_output", "call_id": "c", "output": "x"}],
         {"id": f"fco_{SUFFIX}_i0", "type": "function_call_output", "status": "completed", "call_id": "c",
          "output": "x"}),
        ([{"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "i"}],
         {"id": f"ctc_{SUFFIX}_i0", "type": "custom_tool_call", "status": "completed", "call_id": "c", "name": "n",
          "input": "i"}),
        ([{"type": "custom_tool_call_output", "call_id": "c", "output": "x"}],
         {"id": f"ctco_{SUFFIX}_i0", "type": "custom_tool_call_output", "status": "completed", "call_id": "c",
          "output": "x"}),
        ([{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]}],
         {"id": f"rs_{SUFFIX}_i0", "type": "reasoning", "status": "completed", "summary": [],
          "content": [{"type": "reasoning_text", "text": "Hm."}]}),
    ],
)  # fmt: skip
def test_item_is_whole_and_has_an_id(given: Any, whole: Any) -> None:
    assert items(given) == [whole]
    ITEMS.validate_python([whole])


def test_ids_count_the_items() -> None:
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "id": "own"}, {"type": "x", "id": 3}]
    assert [item["id"] for item in items(given)] == [f"msg_{SUFFIX}_i0", "own", f"item_{SUFFIX}_i2"]


def test_items_of_a_chat_request_are_its_messages() -> None:
    messages = [{"role": "system", "content": "Be."}, {"role": "assistant", "content": "Rain."}]
    first, second = input_items(ID, "chat", {"messages": messages})
    assert (first["id"], first["role"]) == (f"msg_{SUFFIX}_i0", "system")
    assert (second["id"], second["content"]) == (f"msg_{SUFFIX}_i1", [OUTPUT_TEXT])


def test_items_of_a_chat_of_the_ai_sdk_are_those_of_its_chat_messages() -> None:
    call = {"type": "tool-look", "toolCallId": "c", "state": "output-available", "input": {}, "output": "Rain."}
    messages = [
        {"role": "user", "parts": [{"type": "text", "text": "Rain?"}]},
        {"role": "assistant", "parts": [{"type": "step-start"}, call]},
    ]
    found = input_items(ID, "ui-messages", {"messages": messages})
    assert [item["type"] for item in found] == ["message", "function_call", "function_call_output"]
    assert input_items(ID, "ui-messages", {"messages": [{}]}) == []


@pytest.mark.parametrize("request_", [{}, {"input": None}, {"input": 3}, {"input": ["x"]}, {"messages": []}])
def test_request_without_input_has_no_items(request_: Any) -> None:
    assert input_items(ID, "responses", request_) == []


@pytest.mark.parametrize(
    ("item_id", "place"),
    [
        (f"msg_{SUFFIX}_i0", ItemPlace(ID, True, 0)),
        (f"msg_{SUFFIX}_12", ItemPlace(ID, False, 12)),
        (f"rs_{SUFFIX}_3", ItemPlace(ID, False, 3)),
        (f"ctco_{SUFFIX}_i3", ItemPlace(ID, True, 3)),
        (f"msg_{SUFFIX}", None),
        (f"msg_{SUFFIX}_", None),
        (f"msg_{SUFFIX}_1234567", None),
        (f"msg_{SUFFIX}_-1", None),
        (f"msg_{SUFFIX[:-1]}0_1", None),
        (f"_{SUFFIX}_1", None),
        (f"msg_{SUFFIX}_i0\n", None),
        ("msg_67ccd2bed1ec8190b14f964abc054267", None),
        ("", None),
    ],
)
def test_id_leads_to_its_place(item_id: str, place: ItemPlace | None) -> None:
    assert place_of(item_id) == place


def test_ids_of_items_lead_back_to_them() -> None:
    for number, item in enumerate(items([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])):
        assert place_of(item["id"]) == ItemPlace(ID, True, number)


def test_id_that_an_item_repeats_is_replaced() -> None:
    """A page after that id would begin at the first of them, again and again."""
    given = [{"role": "user", "content": "x", "id": "msg_same"} for _ in range(3)]
    assert [item["id"] for item in items(given)] == ["msg_same", f"msg_{SUFFIX}_i1", f"msg_{SUFFIX}_i2"]
