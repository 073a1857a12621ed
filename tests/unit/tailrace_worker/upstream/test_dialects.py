"""What an attempt relies on, whatever an upstream's API: run on every row of the table."""

import json
from typing import Any

import pytest

from support.chat_streams import STREAMS as CHAT_STREAMS
from support.for_each import for_each
from support.logs import log_of, record
from support.responses_streams import STREAMS as RESPONSES_STREAMS
from tailrace import jsoncodec
from tailrace.events import NO_EXTRA, Done, Entry, Failure, Json, Upstream
from tailrace.log import codec
from tailrace.upstreams import DEFAULT_UPSTREAM
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translator
from tailrace_worker.upstream.dialects import DIALECTS
from tailrace_worker.upstream.fields import MAX_DEPTH
from tailrace_worker.upstream.redaction import Redaction, unchanged
from tailrace_worker.upstream.responses.translator import ResponsesTranslator


@pytest.fixture(params=DIALECTS)
def translator(request: pytest.FixtureRequest) -> Translator:
    return DIALECTS[request.param].translator(first_item=0, first_index=0, logprobs=False, redact=unchanged)


def test_default_dialect_is_in_the_table() -> None:
    assert DEFAULT_UPSTREAM.dialect in DIALECTS


@pytest.mark.parametrize("payload", [b"", b"{not json", b"null", b"7", b"[]", b"\xff\xfe", b'"text"'])
def test_malformed_payload_is_skipped_and_counted(translator: Translator, payload: bytes) -> None:
    assert translator.read(payload) == []
    assert translator.malformed == 1
    assert not translator.is_complete


def test_object_without_known_fields_has_no_events(translator: Translator) -> None:
    assert translator.read(b"{}") == []
    assert translator.malformed == 0


def test_answer_without_payloads_is_not_complete(translator: Translator) -> None:
    assert translator.close() == []
    assert not translator.is_complete
    assert (translator.finish, translator.usage, translator.failure) == ([], None, None)
    assert (translator.upstream, translator.extra, translator.response) == (Upstream(), NO_EXTRA, {})


KEY = "sk-secret-of-the-worker"
QUOTED = f"Incorrect API key provided: {KEY}"
DEBUG = {"debug": {"authorization": f"Bearer {KEY}", "trace": [7, "eu-1"]}}
CONTENT: dict[str, Json] = {
    "chat": {"choices": [{"index": 0, "delta": {"content": "Half"}}]},
    "responses": {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Half"},
}
ERRORS: list[tuple[str, Json, str]] = [
    ("chat", {"error": "Unauthorized", "message": QUOTED, "request_id": "7d"}, "upstream_auth"),
    ("chat", {"error": {"message": QUOTED, "code": "busy"}, **DEBUG}, "busy"),
    ("chat", {"object": "error", "message": QUOTED, "code": "busy", **DEBUG}, "busy"),
    ("chat", {"choices": [{"index": 0, "delta": {"note": KEY}, "error": {"message": QUOTED}}], **DEBUG},
     "upstream_error"),
    ("chat", {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", **DEBUG}]}, "upstream_error"),
    ("responses", {"error": "Unauthorized", "message": QUOTED, "request_id": "7d"}, "upstream_auth"),
    ("responses", {"type": "error", "message": QUOTED, "code": "busy", **DEBUG}, "busy"),
    ("responses", {"type": "response.failed", "response": {"status": "failed", "error": {"message": QUOTED}, **DEBUG}},
     "upstream_error"),
    ("responses", {"object": "response", "status": "failed", "error": {"message": QUOTED, "code": "busy"}, **DEBUG},
     "busy"),
]  # fmt: skip


def everything_of(translator: Translator, translated: list[Any]) -> str:
    return repr((translated, translator.failure, translator.extra, translator.response, translator.finish))


@pytest.mark.parametrize("has_content", [False, True], ids=["before the content", "after some content"])
@pytest.mark.parametrize(("dialect", "error", "code"), ERRORS)
def test_payload_with_an_error_is_redacted_as_a_whole(
    dialect: Any, error: Json, code: str, *, has_content: bool
) -> None:
    redact = Redaction([KEY]).redacted
    translator = DIALECTS[dialect].translator(first_item=0, first_index=0, logprobs=True, redact=redact)
    translated = translator.read(json.dumps(CONTENT[dialect]).encode()) if has_content else []
    translated = [*translated, *translator.read(json.dumps(error).encode()), *translator.close()]
    assert translator.failure is not None
    assert translator.failure.code == code
    shown = everything_of(translator, translated)
    assert "sk-secret" not in shown
    if dialect == "chat" or "response" in (error.get("object"), *error):
        assert "eu-1" in shown or "7d" in shown, "what is no key is kept"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_payload_without_an_error_is_not_redacted(dialect: Any) -> None:
    def never(value: Any) -> Any:
        raise AssertionError(value)

    translator = DIALECTS[dialect].translator(first_item=0, first_index=0, logprobs=True, redact=never)
    translator.read(json.dumps({**CONTENT[dialect], "error": None, "note": KEY}).encode())
    translator.read(
        b'{"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": "stop"}]}'
    )
    translator.read(b'{"type": "response.completed", "response": {"status": "completed", "error": null}}')
    assert translator.failure is None


@pytest.mark.parametrize(("payload", "failure"), [
    ({"error": "Unauthorized"}, Failure("The upstream does not accept the worker's API key.", "upstream_auth")),
    ({"error": "Too Many Requests", "message": "Slow down"},
     Failure("Slow down", "upstream_rate_limited", "rate_limit_exceeded")),
    ({"error": "Internal Server Error", "message": "Broke", "status": 500},
     Failure("Broke", "Internal_Server_Error", status=500, details={"status": 500})),
    ({"error": "model_gone", "message": "No `x`"}, Failure("No `x`", "model_gone")),
    ({"error": "It broke here", "message": "Disk full"}, Failure("It broke here: Disk full", "upstream_error")),
    ({"error": "Bad things", "code": "busy", "param": "n"}, Failure("Bad things", "busy", param="n")),
    ({"error": "It broke", "message": {"no": "text"}}, Failure("It broke", "upstream_error")),
])  # fmt: skip
def test_fields_beside_an_error_that_is_a_text_are_the_errors(
    translator: Translator, payload: Json, failure: Failure
) -> None:
    translator.read(json.dumps(payload).encode())
    assert translator.failure is not None
    if failure.code == "upstream_auth":
        assert translator.failure.code == failure.code
    else:
        assert translator.failure == failure


Answer = tuple[type[ChatTranslator] | type[ResponsesTranslator], list[Json]]
ANSWERS: dict[str, Answer] = {
    **{f"chat {name}": (ChatTranslator, chunks) for name, chunks in CHAT_STREAMS.items()},
    **{f"responses {name}": (ResponsesTranslator, events) for name, events in RESPONSES_STREAMS.items()},
}
RECORD = record(logprobs=True)
WRAPPERS = 20
"""Arrays and objects around a vendor's field in the log."""


def with_deep_fields(value: Any, deep: Any) -> Any:
    """The value with a further, deep field in each of its objects."""
    if isinstance(value, dict):
        return {name: with_deep_fields(each, deep) for name, each in value.items()} | {"vendor": deep}
    return [with_deep_fields(each, deep) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("depth", [MAX_DEPTH + WRAPPERS, 960])
@for_each("answer", ANSWERS, ANSWERS.__getitem__)
def test_log_can_be_read_however_deep_the_fields_of_an_upstream_are(answer: Answer, depth: int) -> None:
    translate, sent = answer
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    entries = log_of(with_deep_fields(sent, deep), RECORD, 1, translate)
    for row in map(codec.to_row, entries):
        values = [row.extra or "{}"] if row.field.split(":")[0] in codec.DELTAS else [row.value, row.extra or "{}"]
        assert all(jsoncodec.is_within_depth(json.loads(value), MAX_DEPTH + WRAPPERS) for value in values)
    assert texts_of(entries) == texts_of(log_of(sent, RECORD, 1, translate))


def texts_of(entries: list[Entry]) -> list[str]:
    done = entries[-1].event
    assert isinstance(done, Done)
    return [item.text for item in done.output if item.text]
