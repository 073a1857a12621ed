"""The body of a Responses request."""

from typing import Any

import pytest

from tailrace.errors import InvalidBody, InvalidRequest, InvalidValue, MissingParameter
from tailrace.settings import Settings
from tailrace_frontend.http.openai.response_body import check_count, check_create, record_fields, wants_padding
from tailrace_frontend.http.openai.storage_fields import UNSTORED_S

SETTINGS = Settings()
BODY = {"model": "demo", "input": "Hello?"}


def test_body_is_the_request_without_the_options() -> None:
    request, options = check_create(BODY | {"tailrace": {"on_interrupt": "fail"}, "top_k": 3}, SETTINGS)
    assert request == BODY | {"top_k": 3}
    assert options.on_interrupt == "fail"
    assert (options.deadline_s, options.retention_s) == (SETTINGS.deadline_s, SETTINGS.retention_s)


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, "cancel"),
        ({"background": False}, "cancel"),
        ({"background": True}, "continue"),
        ({"tailrace": {"on_disconnect": "continue"}}, "continue"),
        ({"background": True, "tailrace": {"on_disconnect": "cancel"}}, "cancel"),
    ],
)
def test_response_ends_with_its_client_unless_it_is_in_the_background(fields: Any, policy: str) -> None:
    assert check_create(BODY | fields, SETTINGS)[1].on_disconnect == policy


@pytest.mark.parametrize(
    ("fields", "retention_s"),
    [
        ({"store": True}, SETTINGS.retention_s),
        ({"store": None}, SETTINGS.retention_s),
        ({"store": False}, UNSTORED_S),
        ({"store": False, "tailrace": {"retention_s": 5}}, 5),
    ],
)
def test_response_that_is_not_stored_is_kept_for_ten_minutes_at_most(fields: Any, retention_s: int) -> None:
    assert check_create(BODY | fields, SETTINGS)[1].retention_s == retention_s


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({"input": "Hello?"}, MissingParameter, "model"),
        (BODY | {"model": ""}, InvalidValue, "model"),
        (BODY | {"model": 3}, InvalidValue, "model"),
        (BODY | {"input": 3}, InvalidValue, "input"),
        (BODY | {"input": ["x"]}, InvalidValue, "input"),
        (BODY | {"instructions": []}, InvalidValue, "instructions"),
        (BODY | {"background": 1}, InvalidValue, "background"),
        (BODY | {"store": "no"}, InvalidValue, "store"),
        (BODY | {"stream": "yes"}, InvalidValue, "stream"),
        (BODY | {"stream_options": []}, InvalidValue, "stream_options"),
        (BODY | {"include": "x"}, InvalidValue, "include"),
        (BODY | {"include": [3]}, InvalidValue, "include.0"),
        (BODY | {"max_output_tokens": 0}, InvalidValue, "max_output_tokens"),
        (BODY | {"max_output_tokens": 1.5}, InvalidValue, "max_output_tokens"),
        (BODY | {"max_tool_calls": 0}, InvalidValue, "max_tool_calls"),
        (BODY | {"metadata": {"a": 1}}, InvalidValue, "metadata.a"),
        (BODY | {"previous_response_id": 3}, InvalidValue, "previous_response_id"),
        (BODY | {"reasoning": "low"}, InvalidValue, "reasoning"),
        (BODY | {"text": "plain"}, InvalidValue, "text"),
        (BODY | {"tools": {}}, InvalidValue, "tools"),
        (BODY | {"tools": [3]}, InvalidValue, "tools.0"),
        (BODY | {"tool_choice": 3}, InvalidValue, "tool_choice"),
        (BODY | {"top_logprobs": 21}, InvalidValue, "top_logprobs"),
        (BODY | {"top_logprobs": -1}, InvalidValue, "top_logprobs"),
        (BODY | {"temperature": "hot"}, InvalidValue, "temperature"),
        (BODY | {"truncation": "middle"}, InvalidValue, "truncation"),
        (BODY | {"user": 3}, InvalidValue, "user"),
        (BODY | {"tailrace": {"mood": 1}}, InvalidBody, "tailrace.mood"),
        (BODY | {"tailrace": {"deadline_s": 10**9}}, InvalidBody, "tailrace.deadline_s"),
    ],
)
def test_invalid_field_is_named(body: Any, kind: type[InvalidRequest], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_create(body, SETTINGS)
    assert type(refusal.value) is kind
    assert refusal.value.param == param


def test_size_needs_no_model() -> None:
    assert check_count({"input": "Hello?"}) == {"input": "Hello?"}
    with pytest.raises(InvalidValue, match="input"):
        check_count({"input": 3})


def test_record_has_what_the_request_decides() -> None:
    assert record_fields(BODY, SETTINGS) == {
        "api": "responses",
        "background": False,
        "reasoning_summary": False,
        "logprobs": False,
        "store": True,
    }
    asked = {"background": True, "reasoning": {"summary": "auto"}, "top_logprobs": 2, "store": False}
    assert record_fields(asked, SETTINGS) == {
        "api": "responses",
        "background": True,
        "reasoning_summary": True,
        "logprobs": True,
        "store": False,
    }


def test_reasoning_may_be_a_summary_by_the_settings() -> None:
    assert record_fields(BODY, Settings(reasoning_view="summary"))["reasoning_summary"] is True


@pytest.mark.parametrize(
    ("options", "pads"),
    [(None, False), ({}, False), ({"include_obfuscation": False}, False), ({"include_obfuscation": True}, True)],
)
def test_padding_is_sent_where_it_is_wanted(options: Any, pads: bool) -> None:
    assert wants_padding({"stream_options": options}) is pads


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, "restart"),
        ({"background": True}, "restart"),
        ({"stream": True}, "fail"),
        ({"stream": True, "background": True}, "fail"),
        ({"stream": True, "tailrace": {"on_interrupt": "restart"}}, "restart"),
    ],
)
def test_stream_fails_where_its_worker_dies_unless_the_options_ask_for_a_restart(fields: Any, policy: str) -> None:
    assert check_create(BODY | fields, SETTINGS)[1].on_interrupt == policy


@pytest.mark.parametrize(
    ("metadata", "is_valid"),
    [
        ({f"k{n}": "v" for n in range(16)}, True),
        ({f"k{n}": "v" for n in range(17)}, False),
        ({"k" * 64: "v" * 512}, True),
        ({"k" * 65: "v"}, False),
        ({"k": "v" * 513}, False),
    ],
)
def test_metadata_has_the_limits_of_openai(metadata: Any, is_valid: bool) -> None:
    if is_valid:
        check_create(BODY | {"metadata": metadata}, SETTINGS)
    else:
        with pytest.raises(InvalidValue) as raised:
            check_create(BODY | {"metadata": metadata}, SETTINGS)
        assert (raised.value.param or "").startswith("metadata")
