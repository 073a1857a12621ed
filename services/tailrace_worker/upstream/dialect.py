"""The interface of an upstream's API to an attempt: a `Dialect` opens a request, a `Translator` reads its answer."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tailrace.events import Event, Extra, Failure, FinalStatus, Finish, GenerationRecord, Json, Upstream
from tailrace_worker.upstream.client import UpstreamClient


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
    def malformed(self) -> int:
        """The number of malformed values and payloads that were skipped."""


class MakeTranslator(Protocol):
    """`first_item`: the number of the first item. `logprobs`: whether `item_closed` repeats them, as `done` will."""

    def __call__(self, *, first_item: int, logprobs: bool) -> Translator: ...


@dataclass(frozen=True)
class Dialect:
    """An API that upstreams offer. `open` sends the request of a record: see `client.stream_payloads`."""

    open: Callable[[UpstreamClient, GenerationRecord, Json], AsyncGenerator[list[bytes], None]]
    translator: MakeTranslator
