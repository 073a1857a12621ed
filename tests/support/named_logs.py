"""Logs by name, one for every case of an answer. Each log is a function of the record, because the record decides
whether `done` repeats logprobs."""

from collections.abc import Callable

from support.logs import TRUNCATED, USAGE, LogBuilder, call_opened, citation, text_opened, texts, token
from tailrace.events import (
    Entry,
    Extra,
    Failure,
    Finish,
    GenerationRecord,
    ItemOpened,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
)  # fmt: skip

AUDIO = {"id": "a", "data": "AAAA", "expires_at": 1790000000, "transcript": "Hi"}
"""A field of a delta that has no event of its own; complete, because a message shows it as it came."""


def _started(record: GenerationRecord) -> LogBuilder:
    return LogBuilder(record).start()


def _text(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Hello|,| world\u2028|."))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _continued(record: GenerationRecord) -> list[Entry]:
    """A second worker continues the text of the first."""
    log = _started(record).add(text_opened(), *texts("Hel|lo")).take_over()
    log.add((Text(0, ""), Extra(continued=1)), *texts(", wor|ld."))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _empty(record: GenerationRecord) -> list[Entry]:
    return _started(record).end("completed", Finish(0, "stop", role=True), usage=USAGE)


def _calls(record: GenerationRecord) -> list[Entry]:
    def arguments(item: int, text: str) -> ToolArguments:
        return ToolArguments(item, text, tool=item - 1, call=f"functions.search:{item - 1}")

    log = _started(record).add(text_opened(), *texts("Let me |look.")).close_item(0)
    log.add(
        call_opened(1, 0),
        arguments(1, '{"q":'),
        call_opened(2, 1),
        arguments(2, '{"q":'),
        arguments(1, "1}"),
        arguments(2, "2}"),
    )
    return log.end("completed", Finish(0, "tool_calls"), usage=USAGE)


def _custom_calls(record: GenerationRecord) -> list[Entry]:
    def written(item: int, text: str) -> ToolArguments:
        return ToolArguments(item, text, tool=item, call=f"functions.run:{item}", custom=True)

    log = _started(record).add(call_opened(0, 0, [0], "run", custom=True), written(0, "ls "))
    log.add(call_opened(1, 1, name="run", custom=True), written(1, 'echo "\u2028"'), written(0, "-l\n"))
    log.add(call_opened(2, 2), ToolArguments(2, "{}", tool=2, call="functions.search:2"))
    return log.end("completed", Finish(0, "tool_calls"), usage=USAGE)


def _call_alone(record: GenerationRecord) -> list[Entry]:
    signed = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    log = (
        LogBuilder(record)
        .start()
        .add((call_opened(0, choices=[0]), Extra(chunk_fields={"service_tier": "default"}, call=signed)))
    )
    return log.end("completed", Finish(0, "tool_calls"), usage=USAGE)


def _reasoning(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(ItemOpened(0, "reasoning", choices=[0]), Reasoning(0, "Hm"), Reasoning(0, "m."))
    log.close_item(0).add(text_opened(1, choices=[]), *texts("Yes|.", 1))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _reasoning_by_another_key(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(ItemOpened(0, "reasoning", choices=[0]), Reasoning(0, "Hm", key="reasoning"))
    log.add(Reasoning(0, "m.", key="reasoning")).close_item(0)
    log.add(text_opened(1, choices=[]), *texts("No.", 1)).close_item(1)
    log.add(ItemOpened(2, "reasoning"), Reasoning(2, "Or?", key="reasoning"))
    return log.end("incomplete", Finish(0, "length"))


def _refusal(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(ItemOpened(0, "refusal", choices=[0]), Refusal(0, "I can"), Refusal(0, "not."))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _choices(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(0, 1, (0, 1, 2)), *texts("one", 0, 1), text_opened(1, 0, ()))
    log.add(*texts("nought", 1), *texts("!", 0, 1), *texts("?", 1), text_opened(2, 2, ()), *texts("two", 2, 2))
    return log.end("incomplete", Finish(0, "stop"), Finish(1, "length"), Finish(2, "content_filter"), usage=USAGE)


def _length(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once upon| a"))
    return log.end("incomplete", Finish(0, "length"), usage=USAGE)


def _filtered(record: GenerationRecord) -> list[Entry]:
    return _started(record).add(text_opened(), *texts("Once")).end("incomplete", Finish(0, "content_filter"))


def _truncated(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once upon"))
    return log.end("incomplete", error=TRUNCATED)


def _failed(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once upon")).close_item(0)
    log.add(call_opened(1), ToolArguments(1, '{"q', call="functions.search:0"))
    return log.end("failed", error=Failure("Slow down.", "rate_limit_exceeded", "requests"))


def _failed_with_a_reason(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Half of"))
    return log.end("failed", Finish(0, "stop"), error=Failure("Provider disconnected", "502"))


def _failed_at_once(record: GenerationRecord) -> list[Entry]:
    return _started(record).end("failed", error=Failure("No such model.", "model_not_found", "invalid_request_error"))


def _cancelled(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once| upon")).close_item(0)
    return log.add(call_opened(1), ToolArguments(1, '{"q', call="functions.search:0")).end("cancelled")


def _cancelled_while_queued(record: GenerationRecord) -> list[Entry]:
    return LogBuilder(record).end("cancelled")


def _restarted(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once| upon")).close_item(0)
    log.add(
        ItemOpened(1, "reasoning"), Reasoning(1, "Hm"), call_opened(2), ToolArguments(2, "{", call="functions.search:0")
    )
    log.restart().add(text_opened(3), *texts("Twice| upon", 3))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _restarted_twice(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened(), *texts("Once")).restart(2).restart(3)
    return log.add(text_opened(1), *texts("Thrice", 1)).end("completed", Finish(0, "stop"), usage=USAGE)


def _started_twice(record: GenerationRecord) -> list[Entry]:
    log = _started(record).start(2).add(text_opened(), *texts("At last"))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _annotations(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add((text_opened(), Extra(chunk_fields={"system_fingerprint": "fp_1"})), *texts("See"))
    log.add((Text(0, " both"), Extra(delta={"annotations": [citation(0), citation(1)]})), *texts("."))
    return log.end(
        "completed", Finish(0, "stop"), usage=USAGE, extra=Extra(chunk_fields={"system_fingerprint": "fp_2"})
    )


def _annotations_again(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add(text_opened())
    log.add((Text(0, "See"), Extra(delta={"annotations": [citation(0), citation(1)]})))
    log.add((Text(0, ""), Extra(delta={"annotations": [citation(2)]}, before=2)), *texts("."))
    return log.end("completed", Finish(0, "stop"), usage=USAGE)


def _logprobs(record: GenerationRecord) -> list[Entry]:
    def extra(*texts: str) -> Extra:
        return Extra(choice={"logprobs": {"content": [token(text) for text in texts], "refusal": None}})

    log = _started(record).add(text_opened(), (Text(0, "Hi"), extra("Hi")), (Text(0, ""), extra("\ufffd")))
    return log.add((Text(0, " there"), extra(" th", "ere"))).end("completed", Finish(0, "stop"), usage=USAGE)


def _unknown(record: GenerationRecord) -> list[Entry]:
    log = _started(record).add((text_opened(), Extra(chunk_fields={"x_vendor": {"id": 1}}, choice={"seed": 7})))
    log.add((Text(0, ""), Extra(delta={"audio": AUDIO})), *texts("Hi|!"))
    log.add((Text(0, "?"), Extra(chunk_fields={"x_vendor": {"id": 2}}, choice={"seed": 8}, delta={"mood": "glad"})))
    return log.end("completed", Finish(0, "stop"), usage=USAGE, extra=Extra(chunk_fields={"x_vendor": {"id": 3}}))


LOGS: dict[str, Callable[[GenerationRecord], list[Entry]]] = {
    "text": _text,
    "continued": _continued,
    "empty": _empty,
    "calls": _calls,
    "custom-calls": _custom_calls,
    "call-alone": _call_alone,
    "reasoning": _reasoning,
    "reasoning-by-another-key": _reasoning_by_another_key,
    "refusal": _refusal,
    "choices": _choices,
    "length": _length,
    "filtered": _filtered,
    "truncated": _truncated,
    "failed": _failed,
    "failed-with-a-reason": _failed_with_a_reason,
    "failed-at-once": _failed_at_once,
    "cancelled": _cancelled,
    "cancelled-while-queued": _cancelled_while_queued,
    "restarted": _restarted,
    "restarted-twice": _restarted_twice,
    "started-twice": _started_twice,
    "annotations": _annotations,
    "annotations-again": _annotations_again,
    "logprobs": _logprobs,
    "unknown": _unknown,
}
