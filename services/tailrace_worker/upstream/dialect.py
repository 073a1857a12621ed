"""The interface of an upstream's API to an attempt: a `Dialect` opens a request, a `Translator` reads its answer."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tailrace.events import Event, Extra, Failure, FinalStatus, Finish, GenerationRecord, Item, Json, Upstream
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.redaction import Redact


class Translated(NamedTuple):
    """An event and its `extra`. The writer numbers it."""

    event: Event
    extra: Extra


class Translator(Protocol):
    """Translates the payloads of one answer into events. The properties are valid at any time.

    `read` and `close` never raise: a malformed value is skipped and counted. Events are neither numbered nor merged
    here. An event that must not merge carries an `extra`; every other one carries the one `NO_EXTRA`.
    """

    def read(self, payload: bytes) -> list[Translated]:
        """The events of one payload."""

    def close(self) -> list[Translated]:
        """The events that were held back for a later payload. Call it once, after the last payload."""

    @property
    def is_complete(self) -> bool:
        """Whether the upstream has marked the end of the answer, so that the stream may end here."""

    @property
    def holds_content(self) -> bool:
        """Whether content was received that no event has: arguments of a call whose name has not come yet."""

    @property
    def failure(self) -> Failure | None:
        """The error that the upstream sent in the stream; nothing after it counts."""

    @property
    def status(self) -> FinalStatus:
        """The status of a complete answer: `completed` or `incomplete`."""

    @property
    def finish(self) -> list[Finish]:
        """The end of each choice, in index order."""

    @property
    def usage(self) -> Json | None:
        """Token counts in the shape of Chat Completions, if the upstream sent any."""

    @property
    def upstream(self) -> Upstream:
        """The upstream's own id and model."""

    @property
    def extra(self) -> Extra:
        """Fields of the upstream that `done` carries beside its own."""

    @property
    def response(self) -> Json:
        """Further fields of a Responses upstream's Response, for `done`."""

    @property
    def malformed(self) -> int:
        """The number of malformed values and payloads that were skipped."""


class PartialAnswer(NamedTuple):
    """A text that is open in the log and continued for this time, from 1, since the output began."""

    item: Item
    ordinal: int

    @property
    def text(self) -> str:
        return self.item.text or ""


class MakeTranslator(Protocol):
    """`first_item`: the number of the first item; `first_index`: its `output_index` in Responses. `logprobs`: whether
    `item_closed` repeats them, as `done` will. `redact`: applied to each payload that has an error."""

    def __call__(self, *, first_item: int, first_index: int, logprobs: bool, redact: Redact) -> Translator: ...


@dataclass(frozen=True)
class Dialect:
    """An API that upstreams offer. `open` sends the request of a record: see `client.stream_payloads`.

    `continuing`: the same API for the rest of an answer. Its requests end with the text so far, and its translator
    continues the item; `first_item` is then the number of the next one. Before the first content it sends
    an empty text with `Extra.continued`. None: the API has no place for a partial answer. (Whether an upstream
    continues one is a matter of its profile.)

    `keeping`: the same API for an answer that the upstream may run in its background. None: the API has no such.
    """

    open: Callable[[UpstreamClient, GenerationRecord, Json], AsyncGenerator[list[bytes], None]]
    translator: MakeTranslator
    continuing: "Callable[[PartialAnswer], Dialect] | None" = None
    keeping: "Callable[[BackgroundResponse], Dialect] | None" = None
