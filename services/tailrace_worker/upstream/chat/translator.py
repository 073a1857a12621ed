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

from tailrace.events import NO_EXTRA, Extra, Failure, FinalStatus, Finish, Json, Text, Upstream
from tailrace_worker.upstream.chat.choice import Choice, OpenItem, StreamState
from tailrace_worker.upstream.chat.chunk import FAILED, ChatChoice, decode_chunk
from tailrace_worker.upstream.chat.continued_request import joined_usage
from tailrace_worker.upstream.chat.payload_parser import PayloadParser, strip_padding
from tailrace_worker.upstream.chat.stream import is_end
from tailrace_worker.upstream.dialect import PartialAnswer, Translated
from tailrace_worker.upstream.fields import NOTHING, LenientReader
from tailrace_worker.upstream.redaction import Redact, unchanged

INCOMPLETE = frozenset({"length", "model_length", "content_filter"})
NOT_A_CODE = frozenset({"error", "abort"})
"""Finish reasons among `FAILED` that name no reason."""


class ChatTranslator:
    """Translates one answer: the `Translator` of Chat Completions. `continued`: the text of choice 0 that it continues;
    the chunks repeat nothing of it."""

    response: Json = NOTHING
    """Chat Completions has no Response."""

    def __init__(
        self,
        *,
        first_item: int = 0,
        first_index: int | None = None,
        logprobs: bool = False,
        continued: PartialAnswer | None = None,
        redact: Redact = unchanged,
    ) -> None:
        self.failure: Failure | None = None
        self._redact = redact
        self._state = StreamState(first_item, first_item if first_index is None else first_index, logprobs=logprobs)
        self._parser = PayloadParser()
        self._has_ended = False
        self._choices: dict[int, Choice] = {}
        self._translated: list[Translated] = []
        self._usage: Json = NOTHING
        self._id = ""
        self._model = ""
        self._continued = self._seam = continued  # the seam: until it is translated
        if continued:
            self._state.choices = self._state.introduced = 1
            item = OpenItem.continued(continued.item, self._state.place_of(continued.item.item))
            self._choices[0] = Choice(self._state, 0, self._translated, item)

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
        if chunk.has_error:  # upstreams quote the worker's key in it, in any field
            chunk = decode_chunk(self._redact(parsed), LenientReader())
        self._state.chunk_fields.update(chunk.fields)
        self._id = self._id or chunk.id
        self._model = self._model or chunk.model
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._add(choice)
        self.failure = chunk.failure or self.failure
        self._has_ended = self._has_ended or chunk.is_whole
        return self._take()

    def close(self) -> list[Translated]:
        """The events that were held back: half a surrogate pair, a call without a name, a choice's field. There are
        none of a rest that never began: its answer may have to start over."""
        if self._seam and not self.is_complete:
            return []
        for index in sorted(self._choices):
            self._choices[index].close()
        return self._take(is_last=True)

    @property
    def is_complete(self) -> bool:
        """Whether every choice that appeared has a finish reason; or, where none has one, `[DONE]` followed whole
        answers. (vllm-mlx and some gateways send no finish reason at a natural end, but `length` at a limit.)"""
        choices = self._choices.values()
        if any(choice.finish for choice in choices):
            return all(choice.finish for choice in choices)
        return self._has_ended and bool(choices) and all(choice.is_whole for choice in choices)

    @property
    def holds_content(self) -> bool:
        """Whether a call without a name was received: it is held back until its name comes."""
        return any(choice.holds_call for choice in self._choices.values())

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
        """The last usage; some upstreams send it on the choice. That of a continuation is for the whole answer."""
        usages = (choice.usage for choice in self._choices.values() if choice.usage)
        usage: Json | None = self._usage or next(usages, None)
        return joined_usage(usage, self._continued.text) if usage and self._continued else usage

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
        if self.failure is None and (choice.failure or known.finish in FAILED):
            self.failure = choice.failure or _aborted(known.finish or "")

    def _take(self, *, is_last: bool = False) -> list[Translated]:
        """`is_last`: the answer is complete: a rest without any content was requested all the same."""
        translated = self._translated.copy()
        self._translated.clear()
        if (translated or is_last) and self._seam:
            mark = Translated(Text(self._seam.item.item, ""), Extra(continued=self._seam.ordinal))
            translated, self._seam = [mark, *translated], None
        return translated


def _aborted(finish_reason: str) -> Failure:
    message = f"The upstream aborted the answer (finish reason `{finish_reason}`)."
    return Failure(message, "upstream_error" if finish_reason in NOT_A_CODE else finish_reason)
