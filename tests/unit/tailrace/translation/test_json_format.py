from typing import Any

import pytest

from tailrace.events import Api
from tailrace.translation import json_format_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("api", "request_", "schema"),
    [
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}, SCHEMA),
        ("chat", {"response_format": {"type": "json_object"}}, None),
        ("chat", {"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, None),
        ("ui-messages", {"response_format": {"type": "json_object"}}, None),
        ("responses", {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}}, SCHEMA),
        ("responses", {"text": {"format": {"type": "json_object"}, "verbosity": "low"}}, None),
    ],
)
def test_request_for_json_has_a_format(api: Api, request_: dict[str, Any], schema: Any) -> None:
    form = json_format_of(api, request_)
    assert form is not None
    assert form.schema == schema


@pytest.mark.parametrize(
    ("api", "request_"),
    [
        ("chat", {}),
        ("chat", {"response_format": None}),
        ("chat", {"response_format": "json_object"}),
        ("chat", {"response_format": {"type": "text"}}),
        ("chat", {"text": {"format": {"type": "json_object"}}}),
        ("responses", {"response_format": {"type": "json_object"}}),
        ("responses", {"text": "json"}),
        ("responses", {"text": {"format": {"type": "text"}}}),
    ],
)
def test_other_request_has_none(api: Api, request_: dict[str, Any]) -> None:
    assert json_format_of(api, request_) is None
