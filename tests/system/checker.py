"""The independent checker: reads HTTP only, knows nothing of the product but its native wire.

Every token the scripted upstream says is unique, `<tag of the generation>:<k>@<µs>`, so that whatever is lost, told
twice, out of its place, or of another attempt or generation is visible in the text itself. `Text` folds what a client
was told and judges every event as it comes; `Case` is one generation with all its readers, and the verdict on it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from system.wire_client import Event

if TYPE_CHECKING:
    from system.readers import Reader

TOKEN = re.compile(r"x*([a-z]+[0-9]+):([0-9]+)@([0-9]+)")
RELEVANT = frozenset({"started", "restarted", "done", "gone"})


class Violation(NamedTuple):
    """What must not be: its kind, where it was seen, and what was seen."""

    kind: str
    where: str
    detail: str


class Plan(NamedTuple):
    """What one generation is asked to say, and which of its ends the policy explains."""

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
        terminating = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
        return {
            "model": "scripted",
            "messages": [{"role": "user", "content": f"Say {self.tag} {self.marker}"}],
            "script": [*self.before, {"tokens": tokens}, *terminating],
            "script_id": self.tag,
            "tailrace": {"on_interrupt": self.on_interrupt},
        }


class Text:
    """The text as a client has it. `add` answers what is wrong with an event, as (kind, detail)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._said: list[str] = []
        self._next = 0
        self._stamp = 0
        self._epoch = ""
        self._place = (0, -1)
        self._told: set[str] = set()
        self._missed: set[int] = set()

    @property
    def text(self) -> str:
        return "".join(self._said)

    def add(self, event: Event) -> Iterator[tuple[str, str]]:
        if event.id is not None:
            yield from self._at(event.id)
        if event.kind == "restarted":
            self._begin_anew(event)
        elif event.kind == "text":
            yield from self._of_one_attempt(event)
            text = event.value["text"]
            self._said.append(text)
            for token in text.split():
                yield from self._token(token)
        elif event.kind == "done" and event.value["status"] == "completed" and self._next != self._plan.tokens:
            yield "lost", f"completed with {self._next} of {self._plan.tokens} tokens"

    def _begin_anew(self, event: Event) -> None:
        self._said.clear()
        self._told.clear()
        self._missed.clear()
        self._next, self._stamp, self._epoch = 0, 0, ""
        if event.id is None:
            self._place = (0, -1)

    def _at(self, place: str) -> Iterator[tuple[str, str]]:
        epoch, _, n = place.partition("-")
        before, self._place = self._place, (int(epoch), int(n))
        if self._place <= before:
            yield "reordered", f"id {place} after {before[0]}-{before[1]}"

    def _of_one_attempt(self, event: Event) -> Iterator[tuple[str, str]]:
        epoch = (event.id or "").partition("-")[0]
        if self._epoch and epoch != self._epoch:
            yield "mixed", f"attempt {epoch} goes on in the text of {self._epoch}"
        self._epoch = epoch

    def _token(self, token: str) -> Iterator[tuple[str, str]]:
        match = TOKEN.fullmatch(token)
        if match is None or match[1] != self._plan.tag:
            yield "mixed", f"{token[-60:]!r} in the text of {self._plan.tag}"
            return
        k, stamp = int(match[2]), int(match[3])
        if k > self._next:
            yield "lost", f"{self._next} to {k - 1}, before {token[-60:]}"
            self._missed.update(range(self._next, k))
        elif k < self._next:
            yield ("reordered" if k in self._missed else "doubled" if token in self._told else "mixed"), token[-60:]
        elif stamp < self._stamp:
            yield "mixed", f"{token[-60:]} was said before its predecessor"
        self._told.add(token)
        self._next, self._stamp = max(self._next, k + 1), stamp


class Case:
    """One generation and everybody who read it."""

    def __init__(self, plan: Plan, generation: str) -> None:
        self.plan = plan
        self.generation = generation
        self.readers: list[Reader] = []
        self.found: list[Violation] = []

    @property
    def violations(self) -> list[Violation]:
        return [*self.found, *(each for reader in self.readers for each in reader.violations)]

    @property
    def status(self) -> str:
        return next((reader.done["status"] for reader in self.readers if reader.done), "")

    def compare(self) -> None:
        """All who were told the end were told the same text, byte for byte, and the same end."""
        ends = Counter((reader.done["status"], reader.told.text) for reader in self.readers if reader.done)
        if len(ends) > 1:
            told = "; ".join(f"{count} × {status}, {len(text)} characters" for (status, text), count in ends.items())
            self.found.append(Violation("rewritten", self.plan.tag, f"clients have different ends: {told}"))


def silences(readers: Iterable["Reader"], faults: Sequence[float]) -> list[float]:
    """For each take-over that a reader was told of: seconds from the fault behind it to its being told."""
    found = []
    for reader in readers:
        for before, after in itertools.pairwise(reader.heard):
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
        times = [heard.at for heard in reader.heard]
        for fault in faults:
            following = next((i for i, at in enumerate(times) if at > fault), 0)
            if following:
                found.append(times[following] - fault)
    return found
