"""Verdicts on answers: JSON, schemas, and schemas that take too long."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.logs import record
from tailrace.events import Format, Item
from tailrace_worker import json_checker, schema_validation
from tailrace_worker.json_checker import BUSY, NO_PROCESS, NO_TEXT, PAUSED, REFUSED, TOO_LONG, JsonChecker

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
FITS, PARSED = Format(parsed=True, valid=True), Format(parsed=True)
DOUBLING: dict[str, Any] = {
    "$defs": {f"a{i}": {"allOf": 2 * [{"$ref": f"#/$defs/a{i + 1}"}]} for i in range(40)} | {"a40": {"type": "object"}},
    "$ref": "#/$defs/a0",
}
"""2^40 comparisons."""


@pytest.fixture
async def checker() -> AsyncIterator[JsonChecker]:
    checker = JsonChecker()
    yield checker
    await checker.close()


@pytest.mark.parametrize(
    ("text", "schema", "verdict"),
    [
        ('{"city": "Paris", "n": 2}', SCHEMA, FITS),
        ('{"n": 2}', SCHEMA, Format(True, False, '"city" is a required property')),
        ('{"city": 3}', SCHEMA, Format(True, False, '/city: 3 is not of type "string"')),
        ('{"city": "Par', SCHEMA, Format(False, None, "EOF while parsing a string at line 1 column 13")),
        ("Paris", None, Format(False, None, "expected value at line 1 column 1")),
        ("[1, 2]", None, PARSED),
        ("[1, 2]", {}, FITS),
        ('"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"', {"pattern": "^(a+)+$"}, None),
        ('"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"', {"pattern": "^(?=a)(a|aa)+(?<!b)$"}, None),
        ("{}", {"$ref": "#"}, FITS),
        ("{}", {"anyOf": [{"$ref": "#"}]}, FITS),
    ],
)
async def test_verdict(checker: JsonChecker, text: str, schema: dict[str, Any] | None, verdict: Format | None) -> None:
    found = await checker.check_text(text.encode(), schema)
    assert found == verdict or (verdict is None and found.parsed and not found.valid)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"type": "no such type"},
        {"pattern": "("},
        {"$ref": "#/$defs/nothing"},
    ],
)
async def test_schema_that_cannot_be_applied_leaves_valid_open(checker: JsonChecker, schema: dict[str, Any]) -> None:
    found = await checker.check_text(b"{}", schema)
    assert (found.parsed, found.valid) == (True, None)
    assert found.error
    assert found.error.startswith("The schema cannot be applied: ")


async def test_long_message_is_cut(checker: JsonChecker) -> None:
    found = await checker.check_text(b'"' + 5000 * b"x" + b'"', {"type": "integer"})
    assert found.error is not None
    assert len(found.error) == schema_validation.MAX_CHARACTERS


async def test_schema_that_doubles_is_given_up(checker: JsonChecker) -> None:
    since = time.monotonic()
    assert await checker.check_text(b"{}", DOUBLING) == Format(True, None, TOO_LONG)
    assert schema_validation.TIME_S <= time.monotonic() - since < schema_validation.TIME_S + 2
    assert await checker.check_text(b'{"city": "Paris"}', SCHEMA, "another") == FITS  # by a process of its own


async def test_caller_whose_schema_was_given_up_waits_for_the_next_one(checker: JsonChecker) -> None:
    asked = [checker.check_text(b"{}", DOUBLING, "mallory") for _ in range(3)]
    asked.append(checker.check_text(b'{"city": "Paris"}', SCHEMA, "anna"))
    since = time.monotonic()
    *of_mallory, of_anna = await asyncio.gather(*asked)
    assert [verdict.error for verdict in of_mallory] == [TOO_LONG, PAUSED, PAUSED]
    assert of_anna == FITS
    assert time.monotonic() - since < 2 * schema_validation.TIME_S
    assert await checker.check_text(b"{}", None, "mallory") == PARSED
    checker._paused["mallory"] = time.monotonic()
    assert await checker.check_text(b"{}", {}, "mallory") == FITS


async def test_event_loop_is_free_during_a_check(checker: JsonChecker) -> None:
    check = asyncio.create_task(checker.check_text(b"{}", DOUBLING))
    await asyncio.sleep(0.2)  # a process starts
    since = time.monotonic()
    await asyncio.sleep(0.1)
    assert time.monotonic() - since < 0.5
    check.cancel()
    await asyncio.wait([check])


async def test_check_that_was_cancelled_does_not_answer_the_next_one(checker: JsonChecker) -> None:
    assert await checker.check_text(b"{}", {}) == FITS
    check = asyncio.create_task(checker.check_text(b"{}", DOUBLING))
    await asyncio.sleep(0.1)
    check.cancel()
    await asyncio.wait([check])
    assert await checker.check_text(b"1", {"type": "string"}) == Format(True, False, '1 is not of type "string"')


async def test_answers_wait_for_their_turn_and_not_for_ever(
    checker: JsonChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_checker, "WAIT_S", 0.2)
    first, second = await asyncio.gather(checker.check_text(b"{}", DOUBLING), checker.check_text(b"[", SCHEMA))
    assert first == Format(True, None, BUSY)
    assert second.parsed is False


async def test_many_answers_share_one_process(checker: JsonChecker) -> None:
    texts = [b'{"city": "Paris"}', b"{}"] * 20
    verdicts = await asyncio.gather(*(checker.check_text(text, SCHEMA) for text in texts))
    assert [verdict.valid for verdict in verdicts] == [True, False] * 20
    process = checker._process
    assert process is not None
    assert await checker.check_text(b'{"city": ""}', SCHEMA) == FITS
    assert checker._process is process


async def test_process_that_dies_is_replaced(checker: JsonChecker) -> None:
    assert await checker.check_text(b"{}", {}) == FITS
    assert checker._process is not None
    checker._process.kill()
    await checker._process.wait()
    assert await checker.check_text(b"{}", {}) == FITS


async def test_process_has_no_secrets_and_ends_with_its_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567")
    checker = JsonChecker()
    await checker.check_text(b"{}", {})
    assert checker._process is not None
    pid = checker._process.pid
    with open(f"/proc/{pid}/environ", "rb") as environment:  # noqa: ASYNC230, PTH123 - a file of the kernel's
        assert b"sk-secret" not in environment.read()
    await checker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_worker_without_a_process_leaves_valid_open(
    checker: JsonChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert await checker.check_text(b"{}", SCHEMA) == Format(True, None, NO_PROCESS)
    assert (await checker.check_text(b"{", SCHEMA)).parsed is False


async def test_large_text_without_a_schema_is_parsed_by_the_process(checker: JsonChecker) -> None:
    text = b'["' + json_checker.INLINE_BYTES * b"x" + b'"]'
    assert await checker.check_text(text, None) == PARSED
    assert checker._process is not None


RECORD = record(structured=True)
MODE = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("items", "verdict"),
    [
        ([Item(0, "text", text='{"a"'), Item(1, "reasoning", text="?"), Item(2, "text", text=": 1}")], PARSED),
        ([Item(0, "text", text="{}"), Item(1, "text", 1, text="no")], PARSED),
        ([Item(0, "refusal", text="No.")], REFUSED),
        ([Item(0, "call", name="f", arguments="{}")], None),
        ([Item(0, "reasoning", text="Hm.")], NO_TEXT),
        ([], NO_TEXT),
    ],
)
async def test_verdict_on_an_output(checker: JsonChecker, items: list[Item], verdict: Format | None) -> None:
    assert await checker.check(RECORD, MODE, items) == verdict


async def test_request_for_text_has_no_verdict(checker: JsonChecker) -> None:
    assert await checker.check(record(), MODE, [Item(0, "text", text="{}")]) is None
