"""Logs in memory, for tests without a worker.

`LogBuilder` makes one event by event (`support.named_logs` has one for every case of an answer), `log_of` makes one
of an upstream's chunks. `RECORDS` are the records that change what a wire format contains.
"""

from collections.abc import Iterable
from typing import Any

from tailrace.events import (
    NO_EXTRA,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    FinalStatus,
    Finish,
    GenerationRecord,
    ItemClosed,
    ItemOpened,
    Json,
    Options,
    Started,
    Text,
    seq_span,
)  # fmt: skip
from tailrace.failures import failure
from tailrace.ids import EntryId
from tailrace.log.codec import from_row, to_row
from tailrace.log.output import Output
from tailrace.prompt_size import prompt_bytes
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.responses.translator import ResponsesTranslator

EPOCH = 1_795_235_902_123
AT = EPOCH / 1000
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
TRUNCATED = failure("upstream_truncated")
REQUEST: Json = {"model": "demo", "messages": [{"role": "user", "content": "Hello?"}], "tools": [TOOL]}

RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "summary": {"reasoning_summary": True, "background": True},
    "asking": {"logprobs": True, "include_usage": True},
}

COALESCE = {"plain": 1, "summary": 4, "asking": 0}
"""The number of adjacent deltas that become one entry, different for each record."""

EventWithExtra = Event | tuple[Event, Extra]


def record(**changes: Any) -> GenerationRecord:
    fixed: dict[str, Any] = {
        "id": "gen_abcdefghijklmnopqrstuvwxyz",
        "owner": "anna",
        "model": "demo",
        "options": Options(deadline_s=3600, retention_s=3600),
        "created": EPOCH - 123,
    }
    return GenerationRecord(**(fixed | changes))


class LogBuilder:
    """A log in memory: events are numbered, coalesced, folded and ended as a worker does it.

    `coalesce`: how many adjacent deltas of one place become one entry; 0 is without limit. `entries`: the log to
    continue; without them the log begins with `created`.
    """

    def __init__(
        self, record: GenerationRecord, coalesce: int = 1, *, epoch: int = EPOCH, entries: Iterable[Entry] = ()
    ) -> None:
        self.record = record
        self.entries = list(entries)
        self.output = Output(self.entries, logprobs=record.logprobs)
        self._epoch = epoch
        self._limit = coalesce
        self._pending: list[tuple[Event, Extra]] = []
        self._coalesced = 0
        if not self.entries:
            self.number(Created(AT, record.background))

    def start(self, attempt: int = 1) -> "LogBuilder":
        """Begin an attempt that has written nothing yet."""
        self._epoch += attempt
        return self.add(Started(attempt, AT + attempt))

    def add(self, *events: EventWithExtra) -> "LogBuilder":
        for each in events:
            event, extra = each if isinstance(each, tuple) else (each, NO_EXTRA)
            last = self._pending[-1] if self._pending else None
            if last and self._coalesced != self._limit and _adjacent(last, (event, extra)):
                self._pending[-1] = coalesced(last[0], event), NO_EXTRA
                self._coalesced += 1
            else:
                self._pending.append((event, extra))
                self._coalesced = 1
        return self

    def close_item(self, item: int) -> "LogBuilder":
        self._flush()
        return self.add(ItemClosed(next(whole for whole in self.output.items() if whole.item == item)))

    def restart(self, attempt: int = 2, reason: str = "worker_lost") -> "LogBuilder":
        """Begin a later attempt, which discards the output of the one before."""
        self._flush()
        self._epoch += attempt
        return self.add(self.output.restarted(attempt, reason, AT + attempt))

    def take_over(self, attempt: int = 2) -> "LogBuilder":
        """Let another writer go on with the output."""
        self._flush()
        self._epoch += attempt
        return self

    def end(self, status: FinalStatus, *finish: Finish, extra: Extra = NO_EXTRA, **more: Any) -> list[Entry]:
        """End the log; its entries as a reader gets them."""
        self._flush()
        done = self.output.build_done(status, AT + 9.5, finish=list(finish), prompt_bytes=prompt_bytes(REQUEST), **more)
        self.number(done, extra)
        return stored(self.entries)

    def number(self, event: Event, extra: Extra = NO_EXTRA) -> Entry:
        """Add one event as an entry of its own, at once."""
        entry = Entry(EntryId(self._epoch, self.output.last_id.seq + seq_span(event, extra)), event, extra)
        self.output.add(entry)
        self.entries.append(entry)
        return entry

    def close_pending(self) -> None:
        """Number what was added so far."""
        self._flush()

    def _flush(self) -> None:
        for event, extra in self._pending:
            self.number(event, extra)
        self._pending.clear()


def log_of(
    payloads: Iterable[Json], record: GenerationRecord, coalesce: int = 1,
    translate: type[ChatTranslator] | type[ResponsesTranslator] = ChatTranslator,
) -> list[Entry]:  # fmt: skip
    """The log of an upstream's answer, given as Chat Completions chunks or as Responses events."""
    translator = translate(logprobs=record.logprobs)
    return _log_of(translator, map(translator.translate, payloads), record, coalesce)


def log_of_payloads(payloads: Iterable[bytes], record: GenerationRecord, coalesce: int = 1) -> list[Entry]:
    """The log of an upstream's answer, given as the payloads of its stream of Chat Completions."""
    translator = ChatTranslator(logprobs=record.logprobs)
    return _log_of(translator, map(translator.read, payloads), record, coalesce)


def _log_of(
    translator: ChatTranslator | ResponsesTranslator,
    translated: Iterable[list[Translated]],
    record: GenerationRecord,
    coalesce: int,
) -> list[Entry]:
    log = LogBuilder(record, coalesce).start()
    for events in translated:
        log.add(*events)
    log.add(*translator.close())
    return ended(log, translator)


def ended(log: LogBuilder, translator: ChatTranslator | ResponsesTranslator) -> list[Entry]:
    """The log of an answer that was translated to its end."""
    end: dict[str, Any] = {
        "usage": translator.usage, "extra": translator.extra, "upstream": translator.upstream,
        "response": translator.response,
    }  # fmt: skip
    if translator.failure:
        return log.end("failed", *translator.finish, error=translator.failure, **end)
    if not translator.is_complete:
        return log.end("incomplete", *translator.finish, error=TRUNCATED, **end)
    return log.end(translator.status, *translator.finish, **end)


def stored(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries as a reader gets them: decoded from rows, sharing nothing with these."""
    return [from_row(to_row(entry)) for entry in entries]


def caught_up(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that a reader gets on catch-up: adjacent deltas of one place as one, under the last one's id."""
    result: list[Entry] = []
    for entry in entries:
        last = result[-1] if result else None
        if last and _adjacent((last.event, last.extra), (entry.event, entry.extra)):
            result[-1] = Entry(entry.id, coalesced(last.event, entry.event))
        else:
            result.append(entry)
    return result


def coalesced(one: Event, other: Event) -> Event:
    assert isinstance(one, Delta)
    assert isinstance(other, Delta)
    return one.with_text(one.text + other.text)


def _adjacent(one: tuple[Event, Extra], other: tuple[Event, Extra]) -> bool:
    """Whether both are deltas of one kind and place, without `extra`."""
    (before, extra), (after, another) = one, other
    if extra is not NO_EXTRA or another is not NO_EXTRA:
        return False
    return isinstance(before, Delta) and isinstance(after, Delta) and before.with_text("") == after.with_text("")


def text_opened(item: int = 0, choice: int = 0, choices: Iterable[int] = (0,)) -> ItemOpened:
    return ItemOpened(item, "text", choice, list(choices))


def call_opened(
    item: int, tool: int = 0, choices: Iterable[int] = (), name: str = "search", *, custom: bool = False
) -> ItemOpened:
    return ItemOpened(item, "call", 0, list(choices), tool, f"functions.{name}:{tool}", name, custom)


def texts(text: str, item: int = 0, choice: int = 0) -> list[Text]:
    return [Text(item, part, choice) for part in text.split("|")]


def citation(n: int) -> Json:
    url = f"https://example.org/{n}"
    return {
        "type": "url_citation",
        "url_citation": {"url": url, "title": f"Page {n}", "start_index": n, "end_index": n + 1},
    }


def token(text: str) -> Json:
    same = {"token": text, "bytes": list(text.encode()), "logprob": -0.25}
    return same | {"top_logprobs": [same, {"token": "?", "bytes": None, "logprob": -2.0}]}


def done_of(entries: list[Entry]) -> Done:
    done = entries[-1].event
    assert isinstance(done, Done)
    return done
