import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import jsoncodec
from tailrace.errors import InvalidBody
from tailrace.events import Options
from tailrace.settings import Settings
from tailrace_frontend.http.schemas import MAX_DEPTH, check_create, decode

MESSAGES = [{"role": "user", "content": "Hello?"}]
SETTINGS = Settings(deadline_s=100, retention_s=200)
GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"


def parsed(body: Any) -> tuple[dict[str, Any], Options]:
    return check_create(decode(body if isinstance(body, bytes) else jsoncodec.dumps(body)), SETTINGS)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": MESSAGES} | fields


def rejected(body: Any) -> InvalidBody:
    with pytest.raises(InvalidBody) as raised:
        parsed(body)
    return raised.value


def test_minimal_body_gets_the_default_options() -> None:
    assert parsed(body()) == (body(), Options(100, 200, "restart", "continue"))


def test_options_are_removed_and_other_fields_pass_through_unchanged() -> None:
    chat = body(
        temperature=0.5, n=2, stop=["a", "b"], tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="auto",
        stream=True, stream_options={"include_usage": True, "x": 1}, response_format={"type": "json_object"},
        x_vendor={"deep": [1, None, True, {"ä": "€\0"}]}, seed=2**70, reasoning_effort="low", metadata={}, user=None,
    )  # fmt: skip
    given = {"on_interrupt": "fail", "on_disconnect": "cancel", "deadline_s": 7, "retention_s": 8, "priority": "low"}
    assert parsed(chat | {"tailrace": given}) == (chat, Options(7, 8, "fail", "cancel", priority="low"))


@pytest.mark.parametrize("given", [None, {}, {"deadline_s": None, "retention_s": None}])
def test_missing_options_default_to_the_settings(given: Any) -> None:
    assert parsed(body(tailrace=given))[1] == Options(100, 200)


def test_messages_with_parts_calls_and_results_are_accepted() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}], "x": 1},
        {"role": "tool", "tool_call_id": "c", "content": "42", "name": "f"},
    ]
    assert parsed(body(messages=messages))[0]["messages"] == messages


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None), ("model", ""), ("model", 1), ("model", ["demo"]), ("model", "m" * 257), ("messages", None),
        ("messages", []), ("messages", {}), ("messages", "Hello?"), ("messages", [1]), ("messages", [None]),
        ("temperature", "hot"), ("temperature", [1]), ("top_p", True), ("n", 0), ("n", 129), ("n", "2"), ("n", 1.5),
        ("max_tokens", 0), ("max_tokens", "9"), ("max_completion_tokens", -1), ("presence_penalty", "x"),
        ("frequency_penalty", {}), ("logprobs", 1), ("logprobs", "yes"), ("top_logprobs", "3"), ("logit_bias", []),
        ("seed", "1"), ("seed", 1.5), ("stop", 1), ("stop", [1]), ("stop", {}), ("stream", "true"), ("stream", 1),
        ("stream_options", True), ("stream_options", []), ("tools", {}), ("tools", ["f"]), ("tool_choice", 1),
        ("tool_choice", []), ("parallel_tool_calls", "no"), ("response_format", "json"), ("reasoning_effort", 3),
        ("metadata", "x"), ("metadata", []), ("user", 7), ("tailrace", 1), ("tailrace", []), ("tailrace", "x"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_field_of_the_wrong_type_is_rejected_by_name(field: str, value: Any) -> None:
    problem = rejected(body(**{field: value}))
    assert (problem.param or "").split(".")[0] == field
    assert problem.message.startswith(field)
    assert problem.code == "invalid_body"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_missing_field_is_rejected_by_name(field: str) -> None:
    incomplete = body()
    del incomplete[field]
    assert rejected(incomplete).param == field


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages.1.role"),
        ({"role": "", "content": "x"}, "messages.1.role"),
        ({"role": 1}, "messages.1.role"),
        ({"role": "user", "content": 1}, "messages.1.content"),
        ({"role": "user", "content": [1]}, "messages.1.content"),
        ({"role": "user", "content": {"text": "x"}}, "messages.1.content"),
        ({"role": "user", "name": 1}, "messages.1.name"),
        ({"role": "assistant", "tool_calls": {}}, "messages.1.tool_calls"),
        ({"role": "assistant", "tool_calls": ["f"]}, "messages.1.tool_calls.0"),
        ({"role": "tool", "tool_call_id": 1}, "messages.1.tool_call_id"),
    ],
)
def test_malformed_message_is_rejected_by_path(message: Any, param: str) -> None:
    assert rejected(body(messages=[*MESSAGES, message])).param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"on_disconnect": "stop"}, "tailrace.on_disconnect"),
        ({"on_disconnect": None}, "tailrace.on_disconnect"),
        ({"on_interrupt": "resume"}, "tailrace.on_interrupt"),
        ({"on_interrupt": None}, "tailrace.on_interrupt"),
        ({"deadline_s": 101}, "tailrace.deadline_s"),
        ({"deadline_s": 0}, "tailrace.deadline_s"),
        ({"deadline_s": -1}, "tailrace.deadline_s"),
        ({"deadline_s": "9"}, "tailrace.deadline_s"),
        ({"deadline_s": True}, "tailrace.deadline_s"),
        ({"deadline_s": 1.5}, "tailrace.deadline_s"),
        ({"deadline_s": 10**40}, "tailrace.deadline_s"),
        ({"retention_s": 201}, "tailrace.retention_s"),
        ({"retention_s": 0}, "tailrace.retention_s"),
        ({"retention": 10}, "tailrace.retention"),
        ({"on_Interrupt": "fail"}, "tailrace.on_Interrupt"),
    ],
)
def test_option_that_is_unknown_or_out_of_range_is_rejected_by_name(given: Any, param: str) -> None:
    assert rejected(body(tailrace=given)).param == param


def test_limit_of_an_option_is_in_the_message() -> None:
    assert "at most 100" in rejected(body(tailrace={"deadline_s": 101})).message


def test_rejected_value_is_never_repeated_in_the_message() -> None:
    secret = "sk-do-not-repeat-me"
    for wrong in (
        body(stream=secret),
        body(tailrace={"on_interrupt": secret}),
        body(messages=[{"role": [secret]}]),
    ):
        assert secret not in str(rejected(wrong).as_json())


@pytest.mark.parametrize(
    "sent",
    [
        b"", b" ", b"{", b"}", b"null", b"1", b'"x"', b"[]", b"true", b"{}{}", b"{'model': 'demo'}", b'{"a":1,}',
        b"\x00", b"\xff\xfe",
        b"NaN", b'{"seed": NaN}', b'{"seed": Infinity}', b'{"seed": 1e999}', b'{"model": "\\ud800"}',
        b'{"model": "\xff"}',
        b"\xef\xbb\xbf{}", '{"model": "demo"}'.encode("utf-16"), b'{"seed": ' + b"9" * 5000 + b"}", b'{"a": "\n"}',
    ],
    ids=lambda sent: repr(sent)[:30],
)  # fmt: skip
def test_body_that_is_not_a_json_object_is_rejected(sent: bytes) -> None:
    assert rejected(sent).param is None


def nested(depth: int) -> bytes:
    return b'{"model":"demo","messages":[{"role":"user"}],"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_nesting_is_accepted_up_to_its_limit() -> None:
    assert parsed(nested(MAX_DEPTH))[0]["x"] is not None
    for depth in (MAX_DEPTH + 1, 900, 990, 5000, 1_000_000):
        assert "nested" in rejected(nested(depth)).message or depth > 950


def test_deepest_accepted_nesting_is_decodable_from_deep_in_a_stack() -> None:
    chat, _ = parsed(nested(MAX_DEPTH))
    stored = msgspec.json.encode(chat)

    def read(depth: int) -> Any:
        return read(depth - 1) if depth else msgspec.json.decode(stored)

    assert read(500) == chat


def test_duplicate_field_takes_its_last_value_for_tailrace_and_the_upstream() -> None:
    chat, options = parsed(
        b'{"model":"a","messages":[{"role":"user"}],"model":"b","tailrace":{},"tailrace":{"deadline_s":5}}'
    )
    assert chat["model"] == "b"
    assert options.deadline_s == 5


TEXT = st.text("a\0ä€💧\u2028", max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["model", "messages", "n", "stop", "stream", "tools", "tailrace", "seed", "x"])


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_rejected_or_parsed(sent: bytes) -> None:
    with contextlib.suppress(InvalidBody):
        parsed(sent)


@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_arbitrary_object_is_rejected_or_kept_unchanged(fields: dict[str, Any]) -> None:
    sent = body(**fields)
    with contextlib.suppress(InvalidBody):
        assert parsed(sent)[0] == {name: value for name, value in sent.items() if name != "tailrace"}
