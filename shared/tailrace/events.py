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

1. An *item* is numbered over the whole generation in order of opening. An item has exactly one part, and is one item of
   Responses; where an upstream's item has several parts, each is an item here. From then on an item's `output_index` is
   not its number, and events carry their `place`.
2. An event takes as many sequence numbers as Responses has frames for it: its `seq_span`. An entry's id carries the
   last of them, so `entry.id.seq - entry.seq_span` is the `seq` of the entry before it, in every log.
3. Fields of an upstream that no kind has are kept in `extra` of the entry that they came with, or in `fields` of their
   item. Nothing is dropped.
4. An end is one entry. `done` closes what is `open` and holds everything that a later reader needs.

A new frame in Responses changes spans: then `VERSION` grows, and `created` names the version by which a log counts.
"""

from typing import Any, ClassVar, Literal

import msgspec

from tailrace.ids import EntryId

VERSION = 1

ItemType = Literal["text", "reasoning", "refusal", "call", "other"]
"""`other`: an item of a Responses upstream without a part of text: of a tool that runs there, or of a kind to come."""

Form = Literal["", "summary", "text"]
"""Of reasoning: as a summary, or as the model's own text, where the upstream decides that and not the record."""

Place = tuple[int, int]
"""`output_index` and the index of the part in Responses, where they are not the item's number and 0."""

Status = Literal["queued", "running", "completed", "incomplete", "failed", "cancelled"]
FinalStatus = Literal["completed", "incomplete", "failed", "cancelled"]
OnInterrupt = Literal["restart", "fail", "continue"]
Priority = Literal["low", "normal", "high"]
MAX_TOKENS = 2**53
"""A greater count of an upstream's is none: clients read numbers as doubles."""

Api = Literal["chat", "responses", "ui-messages"]
Json = dict[str, Any]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of the output, whole. `text` for text, reasoning and refusal; `tool` to `custom` for a call.

    `logprobs` only where the generation's record asks for them. `status` is `incomplete` for what was cut short.
    `custom`: the call is of a custom tool, and its arguments are text of any form.

    The last five are of a Responses upstream: `fields` are its item's further fields (for `other`: all of them),
    `part` those of its part, `ref` its id, where the item is worth nothing without it.
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
    custom: bool = False
    place: Place | None = None
    form: Form = ""
    ref: str = ""
    fields: Json = {}
    part: Json = {}

    @property
    def closings(self) -> int:
        """The number of frames that close it in Responses."""
        return CLOSINGS.get(self.type, 3)

    @property
    def index(self) -> int:
        """Its `output_index` in Responses: that of the item which it is, or is a part of."""
        return self.place[0] if self.place else self.item


CLOSINGS = {"call": 2, "other": 1}


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """Further fields of the upstream's chunk: of the chunk, the choice, the delta, the tool call.

    `before` counts the annotations of this item in earlier entries. `continued`, on an empty text: from here on another
    attempt continues the item; the ordinal of that continuation, from 1.

    Of a Responses upstream: `frames` are further fields of its events, by the ordinal of the entry's frame; `events`
    are whole events of an item of type `other`, which only Responses shows; `unknown` are events of no item, which no
    format shows but the native ones; `citations` are annotations that Chat Completions has no form for.
    """

    chunk_fields: Json = {}
    choice: Json = {}
    delta: Json = {}
    call: Json = {}
    before: int = 0
    continued: int = 0
    frames: dict[str, Json] = {}
    events: list[Json] = []
    unknown: list[Json] = []
    citations: list[Json] = []

    @property
    def annotations(self) -> list[Json]:
        return self.citations or objects_in(self.delta.get("annotations"))

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

    A call has `tool` (ordinal among the choice's calls), the upstream's `id` and `name`; `custom` to `fields` as for
    `Item`. `further`: it is a further part of an item of Responses that has begun before.
    """

    kind = "item_opened"
    item: int
    type: ItemType
    choice: int = 0
    choices: list[int] = []
    tool: int = 0
    id: str = ""
    name: str = ""
    custom: bool = False
    place: Place | None = None
    form: Form = ""
    ref: str = ""
    fields: Json = {}
    further: bool = False

    @property
    def index(self) -> int:
        """As for `Item`."""
        return self.place[0] if self.place else self.item


class Placed(Event, frozen=True, omit_defaults=True, kw_only=True):
    """Base of the events that carry their place beside their item's number."""

    place: Place | None = None


class Delta(Placed, frozen=True, omit_defaults=True):
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
    """`key`: its name in the upstream's chunks. `form` and `ref` as for `Item`."""

    kind = "reasoning"
    key: str = "reasoning_content"
    form: Form = ""
    ref: str = ""


class Refusal(Delta, frozen=True, omit_defaults=True):
    kind = "refusal"


class ToolArguments(Delta, frozen=True, omit_defaults=True):
    """A fragment of a call's arguments; `tool` and `call` (the upstream's id) name the call in formats without items,
    `custom` is as for `Item`."""

    kind = "tool_arguments"
    tool: int = 0
    call: str = ""
    custom: bool = False


class ItemClosed(Event, frozen=True, omit_defaults=True):
    """An item is complete. (Calls of a chat upstream may interleave: `done` closes them.)

    `is_last`: so is the item of Responses that it is a part of, whose `earlier` parts were closed before.
    """

    kind = "item_closed"
    whole: Item
    is_last: bool = True
    earlier: list[Item] = []


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
    """Why a generation did not complete.

    `status` is the HTTP status with which the upstream refused the request, or that it sent as a code; `retry_after`
    the seconds after which it allows another one. `details`: the further fields of an error object in a stream.
    """

    message: str
    code: str
    type: str = "server_error"
    param: str | None = None
    status: int | None = None
    retry_after: int | None = None
    details: Json | None = None


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds. What was not observed is left out."""

    queue: float | None = None
    first_token: float | None = None
    between_tokens_p50: float | None = None
    between_tokens_p95: float | None = None
    between_tokens_max: float | None = None
    total: float | None = None


GAP_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
"""Upper bounds of the buckets of gaps; a last one has the longer ones."""


class Bucket(msgspec.Struct, frozen=True, omit_defaults=True):
    """The number of gaps that are longer than the bucket before allows, and at most `up_to` seconds; None: the rest."""

    count: int
    up_to: float | None = None


class Gap(msgspec.Struct, frozen=True):
    """A time without content: from `at`, in epoch seconds by Redis' clock, for so many seconds, after this entry."""

    at: float
    seconds: float
    after: str


class FailedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request to an upstream that failed, `at` seconds after the generation's creation. `code`: of the failure.
    `upstream`: its name in `tailrace.toml`, if there is one. `delay`: seconds until the next request; None: there was
    none."""

    at: float
    code: str
    upstream: str | None = None
    delay: float | None = None


class Stream(msgspec.Struct, frozen=True, omit_defaults=True):
    """Measures of the upstream's stream, of all attempts but for `tokens_per_second`. None: not observed.

    `chunks`, `bytes`: the pieces of content, and the payloads of all events, as received. `gaps`: the times between two
    pieces of content, by their length; no empty buckets. `slowest`: the longest of them, the longest first. `failed`:
    the last ten of the requests that failed.
    """

    attempts: int | None = None
    retries: int | None = None
    chunks: int | None = None
    bytes: int | None = None
    malformed: int | None = None
    tokens_per_second: float | None = None
    stalls: int | None = None
    gaps: list[Bucket] = []
    slowest: list[Gap] = []
    failed: list[FailedRequest] = []


class Upstream(msgspec.Struct, frozen=True, omit_defaults=True):
    """The upstream's id of the answer, and its name for the model. `name`: of the upstream in `tailrace.toml`, if there
    is one."""

    id: str | None = None
    model: str | None = None
    name: str | None = None


class Format(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the output is the JSON that the request asked for.

    `parsed`: the whole text is one JSON value. `valid`: the value fits the schema; None: there is no schema, no value,
    or the schema could not be applied. `error`: why one of them is false, or None in spite of a schema.
    """

    parsed: bool
    valid: bool | None = None
    error: str | None = None


class Done(Event, frozen=True, omit_defaults=True):
    """The end. `open`: items it closes (none if failed: Responses closes nothing then). `cost`: of the usage, in US
    dollars. `format`: where the request asks for JSON and the answer has come to its end. `continued`: how often a
    later attempt continued the output. `response`: further fields of a Responses upstream's Response."""

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
    cost: float | None = None
    stream: Stream = Stream()
    format: Format | None = None
    continued: int = 0
    response: Json = {}

    @property
    def output_tokens(self) -> int | None:
        """The output's tokens as the usage counts them; None where it does not."""
        count = (self.usage or {}).get("completion_tokens")
        return count if type(count) is int and 0 <= count < MAX_TOKENS else None


KINDS: tuple[type[Event], ...] = (
    Created, Started, ItemOpened, Text, Reasoning, Refusal, ToolArguments, ItemClosed, Restarted, Done,
)  # fmt: skip


def seq_span(event: Event, extra: Extra = NO_EXTRA) -> int:
    """The sequence numbers that the event takes: its frames in Responses (rule 2)."""
    match event:
        case Text():
            return 1 if extra is NO_EXTRA else text_frames(event, extra)
        case Delta() | Started():
            return 1
        case ItemOpened(type=type_):
            return 1 if type_ in CLOSINGS or event.further else 2
        case ItemClosed(whole=whole, is_last=is_last):
            return whole.closings if is_last else whole.closings - 1
        case Created(queued=queued):
            return 2 if queued else 1
        case Done(status="failed"):
            return 2
        case Done(open=open_, output=output) | Restarted(open=open_, output=output):
            closed = [item for item in output if item.item in open_]
            parts = len(closed) - len({item.index for item in closed})
            return 1 + sum(item.closings for item in closed) - parts
    raise TypeError(f"not an event: {event!r}")


def text_frames(event: Text, extra: Extra) -> int:
    """The frames of a text with an `extra`: the text, unless there is something else instead of it."""
    others = len(extra.events) + (len(extra.annotations) if extra.delta or extra.citations else 0)
    return others if others and not event.text else 1 + others


class Entry(msgspec.Struct, frozen=True):
    """An event at its place in the log."""

    id: EntryId
    event: Event
    extra: Extra = NO_EXTRA

    @property
    def seq_span(self) -> int:
        return seq_span(self.event, self.extra)

    def is_contiguous_after(self, cursor: EntryId) -> bool:
        """Whether nothing lies between the cursor and this entry, which is of the same writer or of a later one."""
        return self.id.seq - seq_span(self.event, self.extra) == cursor.seq and self.id.epoch >= cursor.epoch


class Options(msgspec.Struct, frozen=True):
    """How a generation is kept, and what happens when it is interrupted. Times in seconds.

    `previous`: the id of the generation that this one continues, for those who list them; empty where there is none.
    `priority`: among its owner's generations that wait.
    """

    deadline_s: int
    retention_s: int
    on_interrupt: OnInterrupt = "restart"
    on_disconnect: Literal["continue", "cancel"] = "continue"
    previous: str = ""
    priority: Priority = "normal"


class GenerationRecord(msgspec.Struct, frozen=True):
    """Fields that are fixed when a generation is created: every process encodes the same cursor as the same bytes.

    `created` is in milliseconds of Redis' clock; the `create` script sets it. The next four fields are options of wire
    formats: `include_usage` for Chat Completions; `background`, `reasoning_summary` and `logprobs` for Responses.
    `foreground`: the client waits for the answer itself, and repeats the request after a 429. The request is stored
    beside the record, as its caller sent it, in the API that `api` names. `Log.request` loads it: it may be megabytes.
    `store`: whether later requests may continue this one. `preview`: how the last user message begins, for lists.
    `structured`: whether the request asks for JSON. `traceparent`: of the creation, where it is traced. `tags`: the
    request's metadata as `name=value`, for searches.
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
    api: Api = "chat"
    store: bool = True
    preview: str = ""
    structured: bool = False
    traceparent: str = ""
    tags: list[str] = []
