"""Items in, messages out."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from pydantic import TypeAdapter

from support.openai_types import types_in
from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json
from tailrace.translation.responses_input import items_in, messages_of, type_of

CARRIED = {
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
}  # fmt: skip
ALL_TYPES = types_in(ResponseInputItemParam)
MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])

USER = {"role": "user", "content": "Weather?"}


def call(number: int = 1, **fields: Any) -> Json:
    return {"type": "function_call", "call_id": f"c{number}", "name": "look", "arguments": "{}"} | fields


def output(number: int = 1, **fields: Any) -> Json:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": "rain"} | fields


def reasoning(text: str = "", summary: str = "", **fields: Any) -> Json:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": summary}] if summary else [],
        **({"content": [{"type": "reasoning_text", "text": text}]} if text else {}),
    } | fields


def answer(text: str = "Rain.") -> Json:
    part = {"type": "output_text", "text": text, "annotations": [{"type": "file_path"}], "logprobs": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def called(*numbers: int, **fields: Any) -> Json:
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}} for number in numbers
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls} | fields


def tool(number: int = 1, content: Any = "rain") -> Json:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": content}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ("Weather?", [USER]),
        (None, []),
        ([], []),
        ([USER], [USER]),
        ([{"role": "system", "content": "Be."}, USER], [{"role": "system", "content": "Be."}, USER]),
        ([{"role": "developer", "content": "Be."}], [{"role": "system", "content": "Be."}]),
        ([USER, answer(), USER], [USER, {"role": "assistant", "content": "Rain."}, USER]),
        ([answer("One."), answer("Two.")], [{"role": "assistant", "content": text} for text in ("One.", "Two.")]),
        ([{"role": "assistant", "content": "Rain."}], [{"role": "assistant", "content": "Rain."}]),
        ([USER, call(), output()], [USER, called(1), tool()]),
        ([call(1), call(2), output(1), output(2)], [called(1, 2), tool(1), tool(2)]),
        ([call(1), output(1), call(2), output(2)], [called(1), tool(1), called(2), tool(2)]),
        ([answer(), call(), output()], [called(1, content="Rain."), tool()]),
        (
            [
                {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "ls"},
                {"type": "custom_tool_call_output", "call_id": "c1", "output": "a.txt"},
            ],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "run", "input": "ls"}}],
                },
                tool(1, "a.txt"),
            ],
        ),
        ([output(output=[{"type": "input_text", "text": "rain"}])], [tool()]),
        ([output(output=[])], [tool(1, "")]),
        ([output(id="fco_1", status="completed", name="look", caller={"type": "direct"})], [tool()]),
        ([call(id="fc_1", status="completed", caller={"type": "direct"})], [called(1)]),
    ],
)
def test_items_become_messages(items: Any, messages: Any) -> None:
    assert messages_of(items) == messages
    MESSAGES.validate_python(messages)


def test_answer_between_a_call_and_its_output_joins_the_message_of_the_call() -> None:
    assert messages_of([call(), answer(), answer("Really."), output()]) == [
        called(1, content=[{"type": "text", "text": "Rain."}, {"type": "text", "text": "Really."}]),
        tool(),
    ]
    assert messages_of([answer(), call(1), answer("Wait."), call(2), output(1), output(2)]) == [
        called(1, 2, content=[{"type": "text", "text": "Rain."}, {"type": "text", "text": "Wait."}]),
        tool(1),
        tool(2),
    ]


def test_empty_answer_beside_a_call_is_null() -> None:
    assert messages_of([{"role": "assistant", "content": []}, call()]) == [called(1)]


def test_other_fields_of_a_call_go_back_to_the_upstream() -> None:
    signed: Json = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    (message,) = messages_of([call(**signed, note=None)])
    assert message["tool_calls"] == [called(1)["tool_calls"][0] | signed]
    (message,) = messages_of([{"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "i", **signed}])
    assert message["tool_calls"][0]["extra_content"] == signed["extra_content"]


def test_refusal_stays_a_refusal() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert messages_of([refused]) == [refused]


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        (
            [USER, reasoning("Hm."), answer()],
            [USER, {"role": "assistant", "content": "Rain.", "reasoning_content": "Hm."}],
        ),
        ([USER, reasoning("Hm."), call(), output()], [USER, called(1, reasoning_content="Hm."), tool()]),
        ([USER, reasoning(summary="In short."), call()], [USER, called(1, reasoning_content="In short.")]),
        ([USER, reasoning("Hm.", "In short."), call()], [USER, called(1, reasoning_content="Hm.")]),
        (
            [USER, call(1), output(1), reasoning("Now."), call(2)],
            [USER, called(1), tool(1), called(2, reasoning_content="Now.")],
        ),
        (
            [USER, reasoning("One."), call(1), reasoning("Two."), call(2)],
            [USER, called(1, 2, reasoning_content="One.\n\nTwo.")],
        ),
        (
            [USER, answer(), reasoning("Hm."), call()],
            [USER, {"role": "assistant", "content": "Rain."}, called(1, reasoning_content="Hm.")],
        ),
        ([USER, reasoning("Hm.")], [USER, {"role": "assistant", "content": "", "reasoning_content": "Hm."}]),
        ([USER, reasoning()], [USER]),
    ],
)  # fmt: skip
def test_reasoning_is_carried_by_the_answer_that_it_belongs_to(items: Any, messages: Any) -> None:
    assert messages_of(items) == messages


def test_reasoning_of_earlier_turns_is_left_out_unless_all_turns_are_wanted() -> None:
    items = [USER, reasoning("Hm."), answer(), USER]
    assert messages_of(items) == [USER, {"role": "assistant", "content": "Rain."}, USER]
    assert messages_of(items, all_turns=True)[1]["reasoning_content"] == "Hm."


def test_reasoning_that_only_its_provider_can_read_is_refused() -> None:
    with pytest.raises(UnsupportedParameter, match=r"input\[1\]\.encrypted_content: only the provider") as refusal:
        messages_of([USER, reasoning(encrypted_content="gAAA")])
    assert refusal.value.param == "input[1].encrypted_content"
    assert messages_of([USER, reasoning("Hm.", encrypted_content="gAAA")])[1]["reasoning_content"] == "Hm."


def test_every_type_of_item_is_carried_or_refused_by_its_place() -> None:
    assert CARRIED < ALL_TYPES
    for name in ALL_TYPES - CARRIED:
        with pytest.raises(UnsupportedParameter) as refusal:
            messages_of([USER, {"type": name, "id": "x"}])
        assert refusal.value.param == "input[1]"
        assert name in refusal.value.message


def test_phase_of_an_answer_is_accepted_and_not_sent_on() -> None:
    items = [answer("One.") | {"phase": "commentary"}, answer("Two.") | {"phase": "final_answer"}]
    items.append(answer("Three.") | {"phase": None})
    texts = ("One.", "Two.", "Three.")
    assert messages_of(items) == [{"role": "assistant", "content": text} for text in texts]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "user", "content": "x", "name": "anna"}, "name"),
        (call(namespace="crm"), "namespace"),
        (call(caller={"type": "program", "caller_id": "p"}), "caller"),
        (call(**{"async": True}), "async"),
        (output(namespace="crm"), "namespace"),
        (output(caller={"type": "program", "caller_id": "p"}), "caller"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "", "namespace": "crm"}, "namespace"),
        (reasoning("Hm.", signature="x"), "signature"),
    ],
)
def test_field_without_a_place_is_refused_by_name(item: Json, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        messages_of([USER, item])
    assert refusal.value.param == f"input[1].{param}"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "critic", "content": "x"}, "input[0].role"),
        ({"role": 3, "content": "x"}, "input[0].role"),
        ({"role": "assistant", "content": "x", "phase": "draft"}, "input[0].phase"),
        ({"role": "assistant", "content": "x", "phase": ["commentary"]}, "input[0].phase"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        (call(call_id=None), "input[0].call_id"),
        (call(name=None), "input[0].name"),
        (call(arguments={}), "input[0].arguments"),
        (output(call_id=3), "input[0].call_id"),
        (output(output=None), "input[0].output"),
        (reasoning() | {"summary": "x"}, "input[0].summary"),
        (reasoning() | {"content": [{"text": 3}]}, "input[0].content[0].text"),
    ],
)
def test_malformed_field_is_named(item: Json, param: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        messages_of([item])
    assert refusal.value.param == param


@pytest.mark.parametrize("value", [3, {}, True, ["x"], [None]])
def test_input_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="input"):
        items_in(value)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"role": "user"}, "message"),
        ({"id": "msg_1"}, "item_reference"),
        ({"type": None, "id": "x"}, "item_reference"),
        ({"type": "x"}, "x"),
        ({"type": ["x"]}, ""),
    ],
)
def test_type_may_be_left_out_of_messages_and_references(item: Json, name: str) -> None:
    assert type_of(item) == name
