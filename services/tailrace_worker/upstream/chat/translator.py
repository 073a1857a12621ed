"""Chat Completions payloads in, events out.

    payload ──▶ the text of a chunk like the last one, or a chunk                          (`payload_parser`)
    chunk   ──▶ chunk-level fields, usage, the upstream's id and model, an error           (here)
    choice  ──▶ items of text, reasoning, refusal and calls; the finish reason             (`choice`)

Rule 1: nothing is dropped but padding, null and repetitions. A field without an event of its own is carried in `extra`
(`fields`).
Rule 2: nothing raises. A malformed value is skipped and counted in `malformed`.
Rule 3: events are neither numbered nor merged here. An event that must not merge carries an `extra`; every other one
carries the one `NO_EXTRA`.
Rule 4: choices first appear in index order. An `item_opened` names those that appear with it.
"""

from tailrace.events import NO_EXTRA, Extra, Failure, FinalStatus, Finish, Json, Upstream
from tailrace_worker.upstream.chat.choice import Choice, StreamState
from tailrace_worker.upstream.chat.chunk import ChatChoice, decode_chunk
from tailrace_worker.upstream.chat.payload_parser import PayloadParser, strip_padding
from tailrace_worker.upstream.chat.stream import is_end
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.fields import NOTHING

INCOMPLETE = frozenset({"length", "model_length", "content_filter"})
FAILED = frozenset({"error", "insufficient_system_resource"})
"""Finish reasons with which an upstream reports that it aborted the answer."""


class ChatTranslator:
    """Translates one answer: the `Translator` of Chat Completions."""

    def __init__(self, *, first_item: int = 0, logprobs: bool = False) -> None:
        self.failure: Failure | None = None
        self._state = StreamState(first_item, logprobs=logprobs)
        self._parser = PayloadParser()
        self._has_ended = False
        self._choices: dict[int, Choice] = {}
        self._translated: list[Translated] = []
        self._usage: Json = NOTHING
        self._id = ""
        self._model = ""

    def read(self, payload: bytes) -> list[Translated]:
        """The events of one payload."""
        parser, payload = self._parser, strip_padding(payload)
        if text := parser.text_of(payload):
            return [self._choices[parser.choice].continue_text(text)]
        if is_end(payload):
            self._has_ended = True
            return []
        chunk = parser.parse(payload)
        if chunk is None:
            return []
        translated = self.translate(chunk)
        parser.set_template(payload, chunk, translated)
        return translated

    def translate(self, parsed: Json) -> list[Translated]:
        """The events of one parsed chunk."""
        chunk = decode_chunk(parsed, self._state.reader)
        self._state.chunk_fields.update(chunk.fields)
        self._id = self._id or chunk.id
        self._model = self._model or chunk.model
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._add(choice)
        self.failure = chunk.failure or self.failure
        return self._take()

    def close(self) -> list[Translated]:
        """The events that were held back: half a surrogate pair, a call without a name, a choice's field."""
        for index in sorted(self._choices):
            self._choices[index].close()
        return self._take()

    @property
    def is_complete(self) -> bool:
        """Whether `[DONE]` was received, or every choice that appeared has a finish reason: some upstreams send only
        one of the two."""
        return self._has_ended or (bool(self._choices) and all(choice.finish for choice in self._choices.values()))

    @property
    def status(self) -> FinalStatus:
        """The status that the finish reasons imply."""
        return "incomplete" if any(each.finish_reason in INCOMPLETE for each in self.finish) else "completed"

    @property
    def finish(self) -> list[Finish]:
        """The end of each choice, in index order."""
        choices = ((index, self._choices.get(index)) for index in range(self._state.choices))
        return [
            Finish(index, choice.finish if choice else None, role=index >= self._state.introduced)
            for index, choice in choices
        ]

    @property
    def usage(self) -> Json | None:
        """The last usage; some upstreams send it on the choice."""
        return self._usage or next((choice.usage for choice in self._choices.values() if choice.usage), None)

    @property
    def upstream(self) -> Upstream:
        return Upstream(self._id or None, self._model or None)

    @property
    def extra(self) -> Extra:
        """For `done`: the latest chunk-level fields, once more."""
        fields = self._state.chunk_fields.current
        return Extra(chunk_fields=dict(fields)) if fields else NO_EXTRA

    @property
    def malformed(self) -> int:
        """The number of malformed values and payloads that were skipped."""
        return self._state.reader.malformed + self._parser.malformed

    def _add(self, choice: ChatChoice) -> None:
        known = self._choices.get(choice.index)
        if known is None:
            known = self._choices[choice.index] = Choice(self._state, choice.index, self._translated)
            self._state.choices = max(self._state.choices, choice.index + 1)
        known.add(choice)
        if known.finish in FAILED and self.failure is None:
            self.failure = Failure("The upstream aborted the answer.", known.finish or "")

    def _take(self) -> list[Translated]:
        translated = self._translated.copy()
        self._translated.clear()
        return translated
