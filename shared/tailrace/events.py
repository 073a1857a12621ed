"""The ten kinds of event in a log. They are as fine as the most detailed wire format, OpenAI's Responses.

    created         the generation exists
    started         a worker runs it; nothing is opened yet
    item_opened     an item begins: text, reasoning, a refusal or a tool call
    text            ┐
    reasoning       │ a piece of an item, as it came
    refusal         │
    tool_arguments  ┘
    item_closed     an item ends before the generation does; carries the whole item
    restarted       a later attempt starts over; clients discard all items so far
    done            the end: status, finish reasons, usage, error and the whole output, once

1. An *item* is numbered over the whole generation in order of opening: the `output_index` of Responses. An item has
   exactly one part.
2. An event takes as many sequence numbers as Responses has frames for it: its `seq_span`. An entry's id carries the
   last of them, so `entry.id.seq - entry.seq_span` is the `seq` of the entry before it, in every log.
3. Fields of an upstream that no kind has are kept in `extra` of the entry that they came with. Nothing is dropped.
4. An end is one entry. `done` closes what is `open` and holds everything that a later reader needs.

A new frame in Responses changes spans: then `VERSION` grows, and `created` names the version by which a log counts.
"""

from typing import Any, ClassVar, Literal

import msgspec

from tailrace.ids import EntryId

VERSION = 1

ItemType = Literal["text", "reasoning", "refusal", "call"]
Status = Literal["queued", "running", "completed", "incomplete", "failed", "cancelled"]
FinalStatus = Literal["completed", "incomplete", "failed", "cancelled"]
Json = dict[str, Any]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of the output, whole. `text` for text, reasoning and refusal; the last five for a call.

    `logprobs` only where the generation's record asks for them. `status` is `incomplete` for what was cut short.
    """

    item: int
    type: ItemType
    choice: int = 0
    text: str | None = None
    annotations: list[Json] = []
    logprobs: list[Json] = []
    status: Literal["incomplete"] | None = None
    tool: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    call: Json | None = None

    @property
    def closings(self) -> int:
        """The number of frames that close it in Responses."""
        return 2 if self.type == "call" else 3


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """Further fields of the upstream's chunk: of the chunk, the choice, the delta, the tool call.

    `before` counts the annotations of this item in earlier entries.
    """

    chunk_fields: Json = {}
    choice: Json = {}
    delta: Json = {}
    call: Json = {}
    before: int = 0

    @property
    def annotations(self) -> list[Json]:
        return objects_in(self.delta.get("annotations"))

    @property
    def logprobs(self) -> list[Json]:
        logprobs = self.choice.get("logprobs")
        return objects_in(logprobs.get("content")) if isinstance(logprobs, dict) else []


def objects_in(value: Any) -> list[Json]:
    """The objects in a list; [] for anything else. Clients and upstreams send other types, too."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


NO_EXTRA = Extra()


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of the ten kinds."""

    kind: ClassVar[str]


class Created(Event, frozen=True, omit_defaults=False):
    """`at`: epoch seconds by Redis' clock. `queued`: Responses sends `response.queued`, too (background)."""

    kind = "created"
    at: float
    queued: bool = False
    version: int = VERSION


class Started(Event, frozen=True, omit_defaults=True):
    """An attempt begins and nothing has been opened yet. `attempt` counts from 1."""

    kind = "started"
    attempt: int
    at: float


class ItemOpened(Event, frozen=True, omit_defaults=True):
    """An item begins. `choices`: the choices that first appear with it, in index order.

    A call has `tool` (ordinal among the choice's calls), the upstream's `id` and `name`.
    """

    kind = "item_opened"
    item: int
    type: ItemType
    choice: int = 0
    choices: list[int] = []
    tool: int = 0
    id: str = ""
    name: str = ""


class Delta(Event, frozen=True, omit_defaults=True):
    """Base of the four kinds that add text to an item."""

    item: int
    text: str
    choice: int = 0

    def with_text(self, text: str) -> "Delta":
        """The same place, another text: how adjacent deltas merge."""
        return msgspec.structs.replace(self, text=text)

    def continues(self, other: Event) -> bool:
        """Whether both belong to one item, and, for reasoning, to one key, which may change inside an item."""
        if type(other) is not type(self) or other.item != self.item:
            return False
        return not isinstance(self, Reasoning) or self.key == other.key  # type: ignore[attr-defined]


class Text(Delta, frozen=True, omit_defaults=True):
    kind = "text"


class Reasoning(Delta, frozen=True, omit_defaults=True):
    """`key`: its name in the upstream's chunks."""

    kind = "reasoning"
    key: str = "reasoning_content"


class Refusal(Delta, frozen=True, omit_defaults=True):
    kind = "refusal"


class ToolArguments(Delta, frozen=True, omit_defaults=True):
    """A fragment of a call's arguments; `tool` and `call` (the upstream's id) name the call in formats without
    items."""

    kind = "tool_arguments"
    tool: int = 0
    call: str = ""


class ItemClosed(Event, frozen=True, omit_defaults=True):
    """An item is complete (never a call: calls may interleave, `done` closes them)."""

    kind = "item_closed"
    whole: Item


class Restarted(Event, frozen=True, omit_defaults=True):
    """A later attempt starts over: clients discard all items so far.

    `attempt` is its ordinal, `reason` why it was needed, `at` epoch seconds. `open` holds the item numbers that this
    event closes as incomplete, `output` every item so far, discarded ones included.
    """

    kind = "restarted"
    attempt: int = 0
    reason: str = ""
    at: float = 0.0
    open: list[int] = []
    output: list[Item] = []


class Finish(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one choice ended. `role` only where the choice has no item."""

    index: int
    finish_reason: str | None
    role: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Why a generation did not complete."""

    message: str
    code: str
    type: str = "server_error"
    param: str | None = None


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds. What was not observed is left out."""

    queue: float | None = None
    first_token: float | None = None
    between_tokens_p50: float | None = None
    between_tokens_p95: float | None = None
    total: float | None = None


class Upstream(msgspec.Struct, frozen=True, omit_defaults=True):
    """The upstream's id of the answer, and its name for the model."""

    id: str | None = None
    model: str | None = None


class Done(Event, frozen=True, omit_defaults=True):
    """The end. `open`: items it closes (none if failed: Responses closes nothing then)."""

    kind = "done"
    status: FinalStatus
    at: float
    finish: list[Finish] = []
    usage: Json | None = None
    error: Failure | None = None
    open: list[int] = []
    output: list[Item] = []
    upstream: Upstream = Upstream()
    timings: Timings = Timings()


KINDS: tuple[type[Event], ...] = (
    Created, Started, ItemOpened, Text, Reasoning, Refusal, ToolArguments, ItemClosed, Restarted, Done,
)  # fmt: skip


def seq_span(event: Event, extra: Extra = NO_EXTRA) -> int:
    """The sequence numbers that the event takes: its frames in Responses (rule 2)."""
    match event:
        case Text():
            return 1 + len(extra.annotations) if extra.delta else 1
        case Delta() | Started():
            return 1
        case ItemOpened(type=type_):
            return 1 if type_ == "call" else 2
        case ItemClosed():
            return 3
        case Created(queued=queued):
            return 2 if queued else 1
        case Done(status="failed"):
            return 2
        case Done(open=open_, output=output) | Restarted(open=open_, output=output):
            return 1 + sum(item.closings for item in output if item.item in open_)
    raise TypeError(f"not an event: {event!r}")


class Entry(msgspec.Struct, frozen=True):
    """An event at its place in the log."""

    id: EntryId
    event: Event
    extra: Extra = NO_EXTRA

    @property
    def seq_span(self) -> int:
        return seq_span(self.event, self.extra)

    def is_contiguous_after(self, cursor: EntryId) -> bool:
        """Whether nothing lies between the cursor and this entry."""
        return self.id.seq - self.seq_span == cursor.seq


class Options(msgspec.Struct, frozen=True):
    """How a generation is kept, and what happens when it is interrupted. Times in seconds."""

    deadline_s: int
    retention_s: int
    on_interrupt: Literal["restart", "fail"] = "restart"
    on_disconnect: Literal["continue", "cancel"] = "continue"


class GenerationRecord(msgspec.Struct, frozen=True):
    """What is fixed when a generation is created, so that every process encodes the same cursor as the same bytes.

    `created` is in milliseconds of Redis' clock; the `create` script sets it. The next four fields are options of wire
    formats: `include_usage` for Chat Completions; `background`, `reasoning_summary` and `logprobs` for Responses.
    `foreground`: the client waits for the answer itself, and repeats the request after a 429. The request is stored
    beside the record and loaded by `Log.request`: it may be megabytes.
    """

    id: str
    owner: str
    model: str
    options: Options
    created: int = 0
    include_usage: bool = False
    background: bool = False
    reasoning_summary: bool = False
    logprobs: bool = False
    foreground: bool = False
