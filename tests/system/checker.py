"""The independent checker: it reads HTTP only, and knows the native wire format and nothing else of the product.

Every token of the scripted upstream is unique, `<tag of the generation>:<k>@<µs>`, so a token that is lost, sent twice,
out of order, or of another attempt or generation is visible in the text itself. `Fold` folds what one client receives
and judges every event on arrival; `Case` is one generation with all its readers, and the verdict on it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from system import canaries
from system.wire_client import Event

if TYPE_CHECKING:
    from system.readers import Reader

TOKEN = re.compile(r"x*([a-z]+[0-9]+):([0-9]+)@([0-9]+)")
RELEVANT = frozenset({"started", "restarted", "done", "gone"})


class Violation(NamedTuple):
    """A broken promise: its kind, where it was seen, and what was seen."""

    kind: str
    where: str
    detail: str


class Plan(NamedTuple):
    """The answer that one generation is scripted to get, and the ends that are correct for it.

    `statuses`: final statuses that are correct in any case. `failures`: error codes that are correct as well.
    """

    tag: str
    tokens: int
    rate: float | None = None
    on_interrupt: str = "restart"
    before: tuple[dict[str, Any], ...] = ()
    padding: int = 0
    statuses: frozenset[str] = frozenset({"completed"})
    failures: frozenset[str] = frozenset()
    may_vanish: bool = False
    marker: str = ""

    def body(self) -> dict[str, Any]:
        prefix = f"{'x' * self.padding}{self.tag}:"
        tokens = {"count": self.tokens, "rate": self.rate, "prefix": prefix, "stamp": True}
        end = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
        return {
            "model": "scripted",
            "messages": [{"role": "user", "content": f"{self.tag} {canaries.PROMPT} {self.marker}"}],
            "script": [*self.before, {"tokens": tokens}, *end],
            "script_id": self.tag,
            "tailrace": {"on_interrupt": self.on_interrupt},
        }


class Fold:
    """The text as one client has it. `add` yields what is wrong with an event, as (kind, detail)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._texts: list[str] = []
        self._next = 0
        self._stamp = 0
        self._epoch = ""
        self._position = (0, -1)
        self._tokens: set[str] = set()
        self._missed: set[int] = set()

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, event: Event) -> Iterator[tuple[str, str]]:
        if event.id is not None:
            yield from self._check_order(event.id)
        if event.kind == "restarted":
            self._restart(event)
        elif event.kind == "text":
            yield from self._check_epoch(event)
            text = event.value["text"]
            self._texts.append(text)
            for token in text.split():
                yield from self._check_token(token)
        elif event.kind == "done" and event.value["status"] == "completed" and self._next != self._plan.tokens:
            yield "lost", f"completed with {self._next} of {self._plan.tokens} tokens"

    def _restart(self, event: Event) -> None:
        self._texts.clear()
        self._tokens.clear()
        self._missed.clear()
        self._next, self._stamp, self._epoch = 0, 0, ""
        if event.id is None:
            self._position = (0, -1)

    def _check_order(self, entry_id: str) -> Iterator[tuple[str, str]]:
        epoch, _, seq = entry_id.partition("-")
        before, self._position = self._position, (int(epoch), int(seq))
        if self._position <= before:
            yield "reordered", f"id {entry_id} after {before[0]}-{before[1]}"

    def _check_epoch(self, event: Event) -> Iterator[tuple[str, str]]:
        epoch = (event.id or "").partition("-")[0]
        if self._epoch and epoch != self._epoch:
            yield "mixed", f"epoch {epoch} continues the text of {self._epoch}"
        self._epoch = epoch

    def _check_token(self, token: str) -> Iterator[tuple[str, str]]:
        match = TOKEN.fullmatch(token)
        if match is None or match[1] != self._plan.tag:
            yield "mixed", f"{token[-60:]!r} in the text of {self._plan.tag}"
            return
        k, stamp = int(match[2]), int(match[3])
        if k > self._next:
            yield "lost", f"{self._next} to {k - 1}, before {token[-60:]}"
            self._missed.update(range(self._next, k))
        elif k < self._next:
            yield ("reordered" if k in self._missed else "doubled" if token in self._tokens else "mixed"), token[-60:]
        elif stamp < self._stamp:
            yield "mixed", f"{token[-60:]} is older than its predecessor"
        self._tokens.add(token)
        self._next, self._stamp = max(self._next, k + 1), stamp


class Case:
    """One generation and all its readers."""

    def __init__(self, plan: Plan, generation_id: str) -> None:
        self.plan = plan
        self.generation_id = generation_id
        self.readers: list[Reader] = []
        self.found: list[Violation] = []

    @property
    def violations(self) -> list[Violation]:
        return [*self.found, *(each for reader in self.readers for each in reader.violations)]

    @property
    def status(self) -> str:
        return next((reader.done["status"] for reader in self.readers if reader.done), "")

    def compare(self) -> None:
        """All readers that received the end have the same text, byte for byte, and the same status."""
        ends = Counter((reader.done["status"], reader.fold.text) for reader in self.readers if reader.done)
        if len(ends) > 1:
            seen = "; ".join(f"{count} × {status}, {len(text)} characters" for (status, text), count in ends.items())
            self.found.append(Violation("rewritten", self.plan.tag, f"clients have different ends: {seen}"))


def recoveries(readers: Iterable["Reader"], faults: Sequence[float]) -> list[float]:
    """For each takeover that a reader received: seconds from the fault before it to its `restarted`, or to `done`."""
    found = []
    for reader in readers:
        for before, after in itertools.pairwise(reader.received):
            if after.event.kind in RELEVANT and _is_recovery(after.event):
                since = [fault for fault in faults if before.at - 0.1 <= fault <= after.at]
                found.append(after.at - (since[0] if since else before.at))
    return found


def _is_recovery(event: Event) -> bool:
    value = event.value
    code = (value.get("error") or {}).get("code")
    return bool(value.get("attempt", 0) > 1 or code == "worker_lost")


def waits(readers: Iterable["Reader"], faults: Sequence[float]) -> list[float]:
    """For each fault, and each reader in the middle of an answer then: seconds until its next event."""
    found = []
    for reader in readers:
        times = [each.at for each in reader.received]
        for fault in faults:
            following = next((i for i, at in enumerate(times) if at > fault), 0)
            if following:
                found.append(times[following] - fault)
    return found
