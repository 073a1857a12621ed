"""Answers of an upstream, translated: what tests of the Chat Completions dialect look at."""

from typing import Any

from tailrace.events import NO_EXTRA, Delta, Entry, Event, Extra, Item, Json, seq_span
from tailrace.ids import EntryId
from tailrace.log import codec
from tailrace.log.output import Output
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated


class Translation:
    """A whole answer. `translated` includes the events of `close`; every entry has been through the codec."""

    def __init__(self, *chunks: Json, **options: Any) -> None:
        self.translator = ChatTranslator(**options)
        self.translated = [each for chunk in chunks for each in self.translator.translate(chunk)]
        self.translated += self.translator.close()
        self.entries = list(numbered(self.translated))

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in self.translated]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def items(self) -> list[Item]:
        return Output(self.entries, logprobs=True).items()

    @property
    def calls(self) -> list[tuple[str | None, str | None, str | None]]:
        """Id, name and arguments of each call."""
        return [(item.id, item.name, item.arguments) for item in self.items if item.type == "call"]

    def extras(self, kind: type[Event] = Event) -> list[Extra]:
        return [extra for event, extra in self.translated if isinstance(event, kind) and extra is not NO_EXTRA]


def numbered(translated: list[Translated]) -> list[Entry]:
    """Entries as the writer makes them, each stored and read again."""
    entries, seq = [], -1
    for event, extra in translated:
        seq += seq_span(event, extra)
        row = codec.to_row(Entry(EntryId(1, seq), event, extra))
        entries.append(codec.from_row(row))
        assert codec.to_row(entries[-1]) == row
    return entries


def coalesced(translated: list[Translated]) -> list[Translated]:
    """The same events, with every delta coalesced that the writer may coalesce."""
    result: list[Translated] = []
    for event, extra in translated:
        last, last_extra = result[-1] if result else (None, NO_EXTRA)
        plain = extra is last_extra is NO_EXTRA
        if plain and isinstance(event, Delta) and isinstance(last, Delta) and event.continues(last):
            result[-1] = Translated(last.with_text(last.text + event.text), NO_EXTRA)
        else:
            result.append(Translated(event, extra))
    return result
