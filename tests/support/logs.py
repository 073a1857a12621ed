"""Logs without a worker: events numbered, merged, folded and ended as a worker does it.

`LOGS` names one for every turn an answer can take, by hand; each is a function of the head, because a worker asks the
head whether an end repeats logprobs. `log_of` makes one of an upstream's chunks. `RECORDS` are the ways in which a head
changes what wires tell.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tailrace.events import (
    NO_EXTRA,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    Failure,
    FinalStatus,
    Finish,
    GenerationRecord,
    ItemClosed,
    ItemOpened,
    Json,
    Options,
    Reasoning,
    Refusal,
    Started,
    Text,
    ToolArguments,
    seq_span,
)  # fmt: skip
from tailrace.ids import EntryId
from tailrace.log.codec import from_row, to_row
from tailrace.log.output import Output
from tailrace_worker.upstream.chat import ChatTranslator, status_of

ATTEMPT = 1_795_235_902_123
AT = ATTEMPT / 1000
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
TRUNCATED = Failure("The upstream's answer breaks off.", "upstream_truncated")
REQUEST: Json = {"model": "demo", "messages": [{"role": "user", "content": "Hello?"}], "tools": [TOOL]}

RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "summary": {"reasoning_summary": True, "background": True},
    "asking": {"logprobs": True, "include_usage": True},
}

MERGES = {"plain": 1, "summary": 4, "asking": 0}
"""How many adjacent deltas become one entry, so that every case is told at another size by every head."""

Said = Event | tuple[Event, Extra]


def record(**changes: Any) -> GenerationRecord:
    fixed: dict[str, Any] = {
        "id": "gen_abcdefghijklmnopqrstuvwxyz",
        "owner": "anna",
        "model": "demo",
        "options": Options(deadline_s=3600, retention_s=3600),
        "created": ATTEMPT - 123,
    }
    return GenerationRecord(**(fixed | changes))


class Book:
    """A log in the making. `merge`: how many adjacent deltas of one place become one entry; 0 is without limit."""

    def __init__(self, record: GenerationRecord, merge: int = 1) -> None:
        self.record = record
        self.entries: list[Entry] = []
        self.output = Output(logprobs=record.logprobs)
        self._merge = merge
        self._epoch = ATTEMPT
        self._waiting: list[tuple[Event, Extra]] = []
        self._merged = 0
        self._number(Created(AT, record.background), NO_EXTRA)

    def start(self, attempt: int = 1) -> "Book":
        """An attempt begins, and nothing is said yet."""
        self._epoch += attempt
        return self.say(Started(attempt, AT + attempt))

    def say(self, *said: Said) -> "Book":
        for each in said:
            event, extra = each if isinstance(each, tuple) else (each, NO_EXTRA)
            last = self._waiting[-1] if self._waiting else None
            if last and self._merged != self._merge and _adjacent(last, (event, extra)):
                self._waiting[-1] = merged(last[0], event), NO_EXTRA
                self._merged += 1
            else:
                self._waiting.append((event, extra))
                self._merged = 1
        return self

    def close(self, item: int) -> "Book":
        self._flush()
        return self.say(ItemClosed(next(whole for whole in self.output.items() if whole.item == item)))

    def restart(self, attempt: int = 2, reason: str = "worker_lost") -> "Book":
        """A later attempt begins anew."""
        self._flush()
        self._epoch += attempt
        return self.say(self.output.restarted(attempt, reason, AT + attempt))

    def end(self, status: FinalStatus, *finish: Finish, extra: Extra = NO_EXTRA, **more: Any) -> list[Entry]:
        self._flush()
        done = self.output.build_done(status, AT + 9.5, finish=list(finish), request=REQUEST, **more)
        self._number(done, extra)
        return stored(self.entries)

    def _flush(self) -> None:
        for event, extra in self._waiting:
            self._number(event, extra)
        self._waiting.clear()

    def _number(self, event: Event, extra: Extra) -> None:
        entry = Entry(EntryId(self._epoch, self.output.last_seq + seq_span(event, extra)), event, extra)
        self.output.add(entry)
        self.entries.append(entry)


def log_of(chunks: Iterable[Json], record: GenerationRecord, merge: int = 1) -> list[Entry]:
    """The log of an upstream's answer."""
    book = Book(record, merge).start()
    translator = ChatTranslator(logprobs=record.logprobs)
    for chunk in chunks:
        book.say(*translator.translate(chunk))
    book.say(*translator.close())
    told: dict[str, Any] = {"usage": translator.usage, "extra": translator.extra, "upstream": translator.upstream}
    if translator.failure:
        return book.end("failed", *translator.finish, error=translator.failure, **told)
    if not translator.finished:
        return book.end("incomplete", *translator.finish, error=TRUNCATED, **told)
    return book.end(status_of(translator.finish), *translator.finish, **told)


def stored(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries as a reader gets them: through rows, sharing nothing."""
    return [from_row(to_row(entry)) for entry in entries]


def caught_up(entries: Iterable[Entry]) -> list[Entry]:
    """Adjacent deltas of one place as one entry under the last one's id: how a reader who is behind is told them."""
    told: list[Entry] = []
    for entry in entries:
        last = told[-1] if told else None
        if last and _adjacent((last.event, last.extra), (entry.event, entry.extra)):
            told[-1] = Entry(entry.id, merged(last.event, entry.event))
        else:
            told.append(entry)
    return told


def merged(one: Event, other: Event) -> Event:
    assert isinstance(one, Delta)
    assert isinstance(other, Delta)
    return one.with_text(one.text + other.text)


def _adjacent(one: tuple[Event, Extra], other: tuple[Event, Extra]) -> bool:
    """Whether two deltas of one kind and place, without `extra`, stand side by side."""
    (before, extra), (after, another) = one, other
    if extra is not NO_EXTRA or another is not NO_EXTRA:
        return False
    return isinstance(before, Delta) and isinstance(after, Delta) and before.with_text("") == after.with_text("")


def text_opened(item: int = 0, choice: int = 0, choices: Iterable[int] = (0,)) -> ItemOpened:
    return ItemOpened(item, "text", choice, list(choices))


def call_opened(item: int, tool: int = 0, choices: Iterable[int] = (), name: str = "search") -> ItemOpened:
    return ItemOpened(item, "call", 0, list(choices), tool, f"functions.{name}:{tool}", name)


def words(text: str, item: int = 0, choice: int = 0) -> list[Text]:
    return [Text(item, part, choice) for part in text.split("|")]


def _text(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Hello|,| world\u2028|."))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def _empty(record: GenerationRecord) -> list[Entry]:
    return Book(record).start().end("completed", Finish(0, "stop", role=True), usage=USAGE)


def _calls(record: GenerationRecord) -> list[Entry]:
    def said(item: int, text: str) -> ToolArguments:
        return ToolArguments(item, text, tool=item - 1, call=f"functions.search:{item - 1}")

    book = Book(record).start().say(text_opened(), *words("Let me |look.")).close(0)
    book.say(call_opened(1, 0), said(1, '{"q":'), call_opened(2, 1), said(2, '{"q":'), said(1, "1}"), said(2, "2}"))
    return book.end("completed", Finish(0, "tool_calls"), usage=USAGE)


def _call_alone(record: GenerationRecord) -> list[Entry]:
    signed = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    book = (
        Book(record)
        .start()
        .say((call_opened(0, choices=[0]), Extra(chunk_fields={"service_tier": "default"}, call=signed)))
    )
    return book.end("completed", Finish(0, "tool_calls"), usage=USAGE)


def _reasoning(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(ItemOpened(0, "reasoning", choices=[0]), Reasoning(0, "Hm"), Reasoning(0, "m."))
    book.close(0).say(text_opened(1, choices=[]), *words("Yes|.", 1))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def _reasoning_by_another_key(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(ItemOpened(0, "reasoning", choices=[0]), Reasoning(0, "Hm", key="reasoning"))
    book.say(Reasoning(0, "m.", key="reasoning")).close(0).say(text_opened(1, choices=[]), *words("No.", 1)).close(1)
    book.say(ItemOpened(2, "reasoning"), Reasoning(2, "Or?", key="reasoning"))
    return book.end("incomplete", Finish(0, "length"))


def _refusal(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(ItemOpened(0, "refusal", choices=[0]), Refusal(0, "I can"), Refusal(0, "not."))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def _choices(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(0, 1, (0, 1, 2)), *words("one", 0, 1), text_opened(1, 0, ()))
    book.say(*words("nought", 1), *words("!", 0, 1), *words("?", 1), text_opened(2, 2, ()), *words("two", 2, 2))
    return book.end("incomplete", Finish(0, "stop"), Finish(1, "length"), Finish(2, "content_filter"), usage=USAGE)


def _length(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once upon| a"))
    return book.end("incomplete", Finish(0, "length"), usage=USAGE)


def _filtered(record: GenerationRecord) -> list[Entry]:
    return Book(record).start().say(text_opened(), *words("Once")).end("incomplete", Finish(0, "content_filter"))


def _truncated(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once upon"))
    return book.end("incomplete", error=TRUNCATED)


def _failed(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once upon")).close(0)
    book.say(call_opened(1), ToolArguments(1, '{"q', call="functions.search:0"))
    return book.end("failed", error=Failure("Slow down.", "rate_limit_exceeded", "requests"))


def _failed_at_once(record: GenerationRecord) -> list[Entry]:
    return (
        Book(record).start().end("failed", error=Failure("No such model.", "model_not_found", "invalid_request_error"))
    )


def _cancelled(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once| upon")).close(0)
    return book.say(call_opened(1), ToolArguments(1, '{"q', call="functions.search:0")).end("cancelled")


def _cancelled_while_queued(record: GenerationRecord) -> list[Entry]:
    return Book(record).end("cancelled")


def _restarted(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once| upon")).close(0)
    book.say(
        ItemOpened(1, "reasoning"), Reasoning(1, "Hm"), call_opened(2), ToolArguments(2, "{", call="functions.search:0")
    )
    book.restart().say(text_opened(3), *words("Twice| upon", 3))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def _restarted_twice(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened(), *words("Once")).restart(2).restart(3)
    return book.say(text_opened(1), *words("Thrice", 1)).end("completed", Finish(0, "stop"), usage=USAGE)


def _started_twice(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().start(2).say(text_opened(), *words("At last"))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def citation(n: int) -> Json:
    url = f"https://example.org/{n}"
    return {
        "type": "url_citation",
        "url_citation": {"url": url, "title": f"Page {n}", "start_index": n, "end_index": n + 1},
    }


def _annotations(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say((text_opened(), Extra(chunk_fields={"system_fingerprint": "fp_1"})), *words("See"))
    book.say((Text(0, " both"), Extra(delta={"annotations": [citation(0), citation(1)]})), *words("."))
    return book.end(
        "completed", Finish(0, "stop"), usage=USAGE, extra=Extra(chunk_fields={"system_fingerprint": "fp_2"})
    )


def _annotations_again(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say(text_opened())
    book.say((Text(0, "See"), Extra(delta={"annotations": [citation(0), citation(1)]})))
    book.say((Text(0, ""), Extra(delta={"annotations": [citation(2)]}, before=2)), *words("."))
    return book.end("completed", Finish(0, "stop"), usage=USAGE)


def token(text: str) -> Json:
    same = {"token": text, "bytes": list(text.encode()), "logprob": -0.25}
    return same | {"top_logprobs": [same, {"token": "?", "bytes": None, "logprob": -2.0}]}


def _logprobs(record: GenerationRecord) -> list[Entry]:
    def extra(*texts: str) -> Extra:
        return Extra(choice={"logprobs": {"content": [token(text) for text in texts], "refusal": None}})

    book = Book(record).start().say(text_opened(), (Text(0, "Hi"), extra("Hi")), (Text(0, ""), extra("\ufffd")))
    return book.say((Text(0, " there"), extra(" th", "ere"))).end("completed", Finish(0, "stop"), usage=USAGE)


def _unknown(record: GenerationRecord) -> list[Entry]:
    book = Book(record).start().say((text_opened(), Extra(chunk_fields={"x_vendor": {"id": 1}}, choice={"seed": 7})))
    book.say((Text(0, ""), Extra(delta={"audio": {"id": "a", "data": "AAAA"}})), *words("Hi|!"))
    book.say((Text(0, "?"), Extra(chunk_fields={"x_vendor": {"id": 2}}, choice={"seed": 8}, delta={"mood": "glad"})))
    return book.end("completed", Finish(0, "stop"), usage=USAGE, extra=Extra(chunk_fields={"x_vendor": {"id": 3}}))


LOGS: dict[str, Callable[[GenerationRecord], list[Entry]]] = {
    "text": _text,
    "empty": _empty,
    "calls": _calls,
    "call-alone": _call_alone,
    "reasoning": _reasoning,
    "reasoning-by-another-key": _reasoning_by_another_key,
    "refusal": _refusal,
    "choices": _choices,
    "length": _length,
    "filtered": _filtered,
    "truncated": _truncated,
    "failed": _failed,
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


def done_of(entries: list[Entry]) -> Done:
    done = entries[-1].event
    assert isinstance(done, Done)
    return done
