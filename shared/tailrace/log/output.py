"""The fold of a log: its entries, one after another, become its output.

One class serves the worker, on the entries that it writes, and get, cancel, restart and sweep, on the entries that they
read. Every process that ends a generation can therefore write its `done`, and the fold of a log equals the output in
that `done`.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

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
    Item,
    ItemClosed,
    ItemOpened,
    Json,
    Restarted,
    Started,
    Timings,
    ToolArguments,
)  # fmt: skip
from tailrace.ids import START, EntryId
from tailrace.upstreams.prices import Price, cost_of

BYTES_A_TOKEN = 4
"""Rule of thumb for English under today's tokenizers; only for usage that is marked `estimated`."""


class OpenItem:
    """An item that is not complete yet."""

    __slots__ = ("annotations", "call", "fields", "logprobs", "opened", "part", "parts", "status")

    def __init__(self, opened: ItemOpened, call: Json) -> None:
        self.opened = opened
        self.parts: list[str] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.call = call
        self.fields = opened.fields
        self.part: Json = {}
        self.status: str | None = None

    def whole(self) -> Item:
        opened, text = self.opened, "".join(self.parts)
        self.parts = [text]
        status: Literal["incomplete"] | None = "incomplete" if self.status else None
        if opened.type == "call":
            return Item(
                opened.item, "call", opened.choice, tool=opened.tool, id=opened.id, name=opened.name,
                arguments=text, call=self.call or None, status=status, custom=opened.custom, place=opened.place,
                fields=self.fields,
            )  # fmt: skip
        return Item(
            opened.item, opened.type, opened.choice, text=None if opened.type == "other" else text,
            annotations=self.annotations, logprobs=self.logprobs, status=status, place=opened.place,
            form=opened.form, ref=opened.ref, fields=self.fields, part=self.part,
        )  # fmt: skip

    def close(self, whole: Item) -> None:
        """Keep what only the end of the item has."""
        self.fields, self.part = whole.fields, whole.part
        if whole.call:
            self.call = whole.call


class Output:
    """The output of a log so far.

    `open` holds the numbers of open items in order of opening, `last_id` the id of the last entry: START where there is
    none. `continued`: how often later attempts have continued this output.
    """

    def __init__(self, entries: Iterable[Entry] = (), *, logprobs: bool = False) -> None:
        self.last_id: EntryId = START
        self.open: list[int] = []
        self.created_at: float | None = None
        self.started_at: float | None = None
        self.done: Done | None = None
        self.continued = 0
        self._keep_logprobs = logprobs
        self._items: dict[int, OpenItem] = {}
        self._discarded: list[Item] = []
        for entry in entries:
            self.add(entry)

    @property
    def has_items(self) -> bool:
        """Whether any item was opened since the log began or was last discarded."""
        return bool(self._items)

    @property
    def next_item(self) -> int:
        return len(self._discarded) + len(self._items)

    @property
    def next_index(self) -> int:
        """The `output_index` of the next item."""
        opened = (item.opened.index for item in self._items.values())
        return 1 + max((*opened, *(item.index for item in self._discarded)), default=-1)

    def items(self) -> list[Item]:
        """The output so far, without what a restart discarded."""
        return self.done.output if self.done else [item.whole() for item in self._items.values()]

    def all_items(self) -> list[Item]:
        """Every item of the log, discarded ones first: numbers are dense in this list."""
        return [*self._discarded, *(item.whole() for item in self._items.values())]

    def add(self, entry: Entry) -> None:
        """Fold the entry that follows; its place is not checked."""
        self.last_id = entry.id
        self.apply(entry.event, entry.extra)

    def apply(self, event: Event, extra: Extra) -> None:
        match event:
            case Delta():
                item = self._items[event.item]
                item.parts.append(event.text)
                if extra is NO_EXTRA:
                    return
                self.continued = extra.continued or self.continued
                if extra.delta or extra.citations:
                    item.annotations += extra.annotations
                if self._keep_logprobs and extra.choice:
                    item.logprobs += extra.logprobs
                if extra.call and isinstance(event, ToolArguments):
                    item.call = {**item.call, **extra.call}
            case ItemOpened():
                self._items[event.item] = OpenItem(event, extra.call)
                self.open.append(event.item)
            case ItemClosed(whole=whole):
                self.open.remove(whole.item)
                self._items[whole.item].close(whole)
            case Restarted():
                self._restart(event)
            case Created(at=at):
                self.created_at = at
            case Started(at=at):
                self.started_at = self.started_at or at
            case Done():
                self.done = event
                self.open = []

    def _restart(self, event: Restarted) -> None:
        self._discarded = list(event.output)
        self._items = {}
        self.open = []
        self.continued = 0

    def restarted(self, attempt: int, reason: str, at: float) -> Restarted:
        """The event that discards the output so far: it closes what is open, and lists all items."""
        self._cut_open()
        return Restarted(attempt, reason, at, open=list(self.open), output=self.all_items())

    def build_done(
        self,
        status: FinalStatus,
        at: float,
        *,
        finish: list[Finish] | None = None,
        usage: Json | None = None,
        error: Failure | None = None,
        prompt_bytes: int | None = None,
        price: Price | None = None,
        **more: Any,
    ) -> Done:
        """The event that ends this log.

        `finish`: per choice, from the upstream; without it every choice opened so far ends without a reason.
        `usage`: from the upstream; without it, and with `prompt_bytes`, the size of the prompt's text, an estimate
        that is marked as one, unless no attempt has begun. `price`: of the upstream, where it is known.

        A request that the upstream has refused (`error.status`) used no tokens.
        """
        if status != "completed":
            self._cut_open()
        if not usage and prompt_bytes is not None and self.started_at is not None:
            is_refused = error is not None and error.status is not None and not self._items
            usage = self.estimated_usage(0 if is_refused else prompt_bytes)
        return Done(
            status, at, finish or [Finish(choice, None) for choice in self.choices()], usage, error,
            open=[] if status == "failed" else list(self.open), output=self.items(),
            **{"timings": self._timings(at), "cost": cost_of(usage, price), "continued": self.continued, **more},
        )  # fmt: skip

    def choices(self) -> list[int]:
        return sorted({choice for item in self._items.values() for choice in item.opened.choices})

    def estimated_usage(self, prompt_bytes: int) -> Json:
        """Usage counted by length, marked `estimated`: upstreams report none for an answer that was cut."""
        prompt = math.ceil(prompt_bytes / BYTES_A_TOKEN)
        written = sum(len(part.encode()) for item in self._items.values() for part in item.parts)
        completion = math.ceil(written / BYTES_A_TOKEN)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "estimated": True,
        }

    def _cut_open(self) -> None:
        for number in self.open:
            self._items[number].status = "incomplete"

    def _timings(self, at: float) -> Timings:
        created, started = self.created_at, self.started_at
        if created is None:
            return Timings()
        queue = round(max(0.0, started - created), 4) if started else None
        return Timings(queue=queue, total=round(max(0.0, at - created), 4))
