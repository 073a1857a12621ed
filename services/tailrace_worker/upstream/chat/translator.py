"""Chat Completions chunks in, events out: the one place where an upstream's dialect is understood.

    chunk   ──▶ fields that stick to it, usage, upstream's id and model, an error      (here)
    choice  ──▶ text, reasoning, refusal, calls, each an item; finish reason           (`choice`, `deltas`, `calls`)

Rule 1: nothing is dropped but padding, null and what a chunk says twice. What has no kind of its own rides
in `extra` (`fields`).
Rule 2: nothing raises. What makes no sense is passed over and counted in `malformed`.
Rule 3: what comes out is not numbered and not merged yet. Whatever must not merge carries `extra`; all else carries
the one `NO_EXTRA`.
Rule 4: choices first appear in index order. An `opened` names those that appear with it.
"""

from typing import Any

from tailrace import jsoncodec
from tailrace.events import NO_EXTRA, Extra, Failure, FinalStatus, Finish, Json, Upstream
from tailrace_worker.upstream.chat.choice import Answer, Choice, Piece

__all__ = ["ChatTranslator", "Piece", "status_of"]

MAX_CHOICES = 128
MAX_MESSAGE = 2000
OF_A_CHUNK = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})
INCOMPLETE = frozenset({"length", "model_length", "content_filter"})
FAILED = frozenset({"error", "insufficient_system_resource"})
"""Finish reasons that are none: the upstream gave up."""


def status_of(finish: list[Finish]) -> FinalStatus:
    """The status that an answer's finish reasons imply."""
    return "incomplete" if any(each.finish_reason in INCOMPLETE for each in finish) else "completed"


class ChatTranslator:
    """One answer of an upstream. Feed it chunks, then `close()` it; what `done` needs can be asked at any time.

    `first_item`: items are numbered on from there. `logprobs`: `closed` repeats them, as `done` will.
    `failure`: an error that the upstream told mid-stream.
    """

    def __init__(self, *, first_item: int = 0, logprobs: bool = False) -> None:
        self.failure: Failure | None = None
        self._answer = Answer(first_item, logprobs=logprobs)
        self._read = self._answer.read
        self._choices: dict[int, Choice] = {}
        self._pieces: list[Piece] = []
        self._usage: Json | None = None
        self._id = ""
        self._model = ""

    def translate(self, chunk: Json) -> list[Piece]:
        """The events of one chunk."""
        read = self._read
        self._answer.chunk_fields.update(read.unknown_fields(chunk, OF_A_CHUNK))
        if not (self._id and self._model):
            self._id = self._id or read.string(chunk.get("id"))
            self._model = self._model or read.string(chunk.get("model"))
        if usage := chunk.get("usage"):
            self._usage = read.verbatim(read.fields(usage)) or self._usage
        for told in read.elements(chunk.get("choices")):
            if told := read.fields(told):
                self._add(told)
        if chunk.get("error") or chunk.get("object") == "error":
            told = {"error": chunk.get("error") or {**chunk, "choices": None}}
            self.failure = failure_in(read.verbatim(told).get("error"))
        return self._take()

    def more(self, index: int, text: str) -> Piece:
        """More of the text that this choice is telling: of a chunk like the last one, which said text and no more."""
        return self._choices[index].more(text)

    def close(self) -> list[Piece]:
        """The events of what was held until the end: half a surrogate pair, a call without a name, a choice's field."""
        for index in sorted(self._choices):
            self._choices[index].close()
        return self._take()

    @property
    def finished(self) -> bool:
        """Whether every choice that appeared has a finish reason."""
        return bool(self._choices) and all(choice.finish for choice in self._choices.values())

    @property
    def finish(self) -> list[Finish]:
        """How the choices ended, in index order."""
        told = ((index, self._choices.get(index)) for index in range(self._answer.choices))
        return [
            Finish(index, choice.finish if choice else None, role=index >= self._answer.introduced)
            for index, choice in told
        ]

    @property
    def usage(self) -> Json | None:
        """The last that was told; some tell it on the choice."""
        return self._usage or next((choice.usage for choice in self._choices.values() if choice.usage), None)

    @property
    def upstream(self) -> Upstream:
        return Upstream(self._id or None, self._model or None)

    @property
    def extra(self) -> Extra:
        """For `done`: the latest chunk-level fields, once more."""
        fields = self._answer.chunk_fields.current
        return Extra(chunk_fields=dict(fields)) if fields else NO_EXTRA

    @property
    def malformed(self) -> int:
        """Values that made no sense and were passed over."""
        return self._read.malformed

    def _add(self, told: Json) -> None:
        index = self._read.index(told.get("index")) or 0
        choice = self._choices.get(index)
        if choice is None:
            if index >= MAX_CHOICES:
                self._read.malformed += 1
                return
            choice = self._choices[index] = Choice(self._answer, index, self._pieces)
            self._answer.choices = max(self._answer.choices, index + 1)
        choice.add(told)
        if choice.finish in FAILED and self.failure is None:
            self.failure = Failure("The upstream gave the answer up.", choice.finish or "")

    def _take(self) -> list[Piece]:
        pieces = self._pieces.copy()
        self._pieces.clear()
        return pieces


def failure_in(error: Any) -> Failure:
    """An error as upstreams tell it: an object with any of the usual fields, or only its message."""
    if not isinstance(error, dict):
        error = {"message": error}
    message, code, kind, param = (error.get(key) for key in ("message", "code", "type", "param"))
    if not isinstance(message, str):
        message = jsoncodec.dumps(message).decode() if message else "The upstream failed."
    return Failure(
        message[:MAX_MESSAGE],
        str(code or kind or "upstream_error"),
        kind if kind and isinstance(kind, str) else "server_error",
        param if param and isinstance(param, str) else None,
    )
