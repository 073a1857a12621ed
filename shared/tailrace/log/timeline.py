"""The history of one generation, from its log and its state: attempts, entries and their sizes, gaps.

What is known of times: `created`, `started`, `restarted` and `done` have theirs. An entry's id has the time at which
its attempt became the writer (the epoch), and not the entry's own. The times between the pieces of content, and of the
requests that failed, are measured by the worker, which writes them with `done`, and meanwhile to the state, with the
first content and with each renewal of its lease. The state names the workers of the last two attempts.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter, itemgetter

import msgspec

from tailrace.events import (
    GAP_BOUNDS_S,
    Bucket,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    FailedRequest,
    Gap,
    ItemClosed,
    ItemOpened,
    Restarted,
    Started,
    Stream,
    Timings,
    Upstream,
)  # fmt: skip
from tailrace.ids import EntryId, short_name
from tailrace.log.measures import Measures
from tailrace.log.state import GenerationState

LOST_EARLY = "lost before its first item"
NOTHING_WRITTEN = "lost before its first entry"
LOST = "lost"
CONTINUED = "interrupted; the next attempt continues it"
ENDED_ELSEWHERE = "stopped: another process ended the generation"

STANDS_OUT = 5
STANDS_OUT_S = 0.1
"""A gap is in the timeline if it is longer than this, and than so many times the median."""


class Moment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the timeline, in the order of the log. `at`: epoch seconds by Redis' clock, where it is known. `entry`:
    the id of the event, or, for a gap, of the entry before it; "" for a request that failed. `seconds`: of a gap."""

    what: str
    entry: str
    at: float | None = None
    seconds: float | None = None
    detail: str = ""


class AttemptPart(msgspec.Struct, omit_defaults=True):
    """One attempt. `began_at`: epoch seconds; None where the attempt has written nothing. `ended`: why it ended; ""
    while it runs. `bytes`: of the content that it wrote."""

    attempt: int
    worker: str | None = None
    began_at: float | None = None
    first_entry: str | None = None
    entries: int = 0
    items: int = 0
    bytes: int = 0
    ended: str = ""


class Sizes(msgspec.Struct, frozen=True, omit_defaults=True):
    """The entries of one kind; of the four kinds of content also their bytes."""

    kind: str
    entries: int
    bytes: int | None = None
    p50: int | None = None
    p95: int | None = None
    max: int | None = None


class Timeline(msgspec.Struct, frozen=True):
    """The history of one generation. `is_own`: whether a worker wrote `done`. `stream`, `timings` and `upstream`: of
    `done`; before it, as the worker stored them last."""

    attempts: Sequence[AttemptPart]
    timeline: Sequence[Moment]
    entries: Sequence[Sizes]
    created_at: float
    timings: Timings
    stream: Stream
    upstream: Upstream
    done: Done | None
    is_own: bool

    @property
    def is_measured(self) -> bool:
        return self.stream.chunks is not None


class History:
    """Collects the history of a log, entry by entry."""

    def __init__(self, state: GenerationState) -> None:
        self._state = state
        self._attempts: list[AttemptPart] = []
        self._moments: list[tuple[EntryId, Moment]] = []
        self._sizes: dict[str, list[int]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)
        self._created_at = state.record.created / 1000
        self._queue: float | None = None
        self._writer_epoch = 0
        self._first_items: dict[int, int] = {}  # of attempts, by their places here: its place among the moments
        self._done: Done | None = None
        self._is_own = False

    def add(self, entry: Entry) -> None:
        """Add the entry that follows."""
        event = entry.event
        self._counts[event.kind] += 1
        if isinstance(event, Started | Restarted):
            self._begin(entry.id, event, event.attempt, event.at)
        elif isinstance(event, Done):
            self._end(entry.id, event)
        elif self._attempts and entry.id.epoch != self._writer_epoch:
            self._continue(entry.id)
        if self._attempts and not isinstance(event, Done):
            self._attempts[-1].entries += 1
        self._add_content(entry.id, event)

    def _add_content(self, entry_id: EntryId, event: Event) -> None:
        match event:
            case Delta(text=text):
                size = len(text) if text.isascii() else len(text.encode())
                self._sizes[event.kind].append(size)
                if self._attempts:
                    self._attempts[-1].bytes += size
            case Created(at=at):
                self._created_at = at
                self._note(entry_id, "created", at)
            case ItemOpened(item=item, type=type_, name=name):
                if self._attempts:
                    self._attempts[-1].items += 1
                self._first_items.setdefault(len(self._attempts) - 1, len(self._moments))
                self._note(entry_id, f"item {item} opened", detail=f"{type_} {name}".strip())
            case ItemClosed(whole=whole):
                self._note(entry_id, f"item {whole.item} closed", detail=whole.type)

    def _note(
        self, entry_id: EntryId, what: str, at: float | None = None, seconds: float | None = None, detail: str = ""
    ) -> None:
        self._moments.append((entry_id, Moment(what, str(entry_id), at, seconds, detail)))

    def _begin(self, entry_id: EntryId, event: Started | Restarted, attempt: int, at: float) -> None:
        reason = event.reason if isinstance(event, Restarted) else LOST_EARLY
        if self._attempts:
            self._attempts[-1].ended = reason
        self._add_attempt(AttemptPart(attempt, began_at=at, first_entry=str(entry_id)))
        self._writer_epoch = entry_id.epoch
        if self._queue is None:
            self._queue = round(max(0.0, at - self._created_at), 4)
        detail = reason if isinstance(event, Restarted) else ""
        self._note(entry_id, f"attempt {attempt} {event.kind}", at, detail=detail)

    def _continue(self, entry_id: EntryId) -> None:
        """Another attempt has written on, without starting over. The epoch is the time at which it acquired the log."""
        attempt, at = len(self._attempts) + 1, entry_id.epoch / 1000
        self._attempts[-1].ended = CONTINUED
        self._add_attempt(AttemptPart(attempt, began_at=at, first_entry=str(entry_id)))
        self._writer_epoch = entry_id.epoch
        self._note(entry_id, f"attempt {attempt} continues", at)

    def _add_attempt(self, part: AttemptPart) -> None:
        """Add an attempt, and those before it that have written nothing."""
        while len(self._attempts) < part.attempt - 1:
            self._attempts.append(AttemptPart(len(self._attempts) + 1, ended=NOTHING_WRITTEN))
        self._attempts.append(part)

    def _end(self, entry_id: EntryId, done: Done) -> None:
        reason = f"{done.status}: {done.error.code}" if done.error else done.status
        is_own = entry_id.epoch == self._writer_epoch
        stream, began = done.stream, len(self._attempts)
        if stream.attempts and stream.attempts > began and not self._state.terminating and stream.chunks is not None:
            is_own = True  # an attempt that wrote nothing but the end
            if self._attempts:
                self._attempts[-1].ended = LOST
            self._add_attempt(AttemptPart(stream.attempts, first_entry=str(entry_id)))
        if self._attempts:
            self._attempts[-1].ended = reason if is_own else ENDED_ELSEWHERE
        self._done, self._is_own = done, is_own
        detail = reason if is_own else f"{reason}; written by another process than the worker"
        self._note(entry_id, "done", done.at, detail=detail)

    def timeline(self, measures: Measures) -> Timeline:
        """The history so far. `measures`: of a generation that runs."""
        done = self._done
        timings = done.timings if done else measures.timings(self._queue)
        stream, upstream = (done.stream, done.upstream) if done else (measures.stream, measures.upstream)
        moments = self._all_moments(timings, stream)
        return Timeline(
            self._all_attempts(), moments, self._all_sizes(), self._created_at, timings, stream, upstream, done,
            self._is_own,
        )  # fmt: skip

    def _all_attempts(self) -> list[AttemptPart]:
        state, attempts = self._state, self._attempts.copy()
        while len(attempts) < state.attempt:
            if attempts and (not attempts[-1].ended or attempts[-1].ended == ENDED_ELSEWHERE):
                attempts[-1].ended = LOST if attempts[-1].items else LOST_EARLY
            attempts.append(AttemptPart(len(attempts) + 1, ended=ENDED_ELSEWHERE if self._done else ""))
        for number, worker in ((state.attempt, state.worker), (state.attempt - 1, state.taken_from)):
            if worker and 0 < number <= len(attempts):
                attempts[number - 1].worker = short_name(worker)
        return attempts

    def _all_moments(self, timings: Timings, stream: Stream) -> list[Moment]:
        """The events in the order of the log, with the gaps that stand out and the requests that failed among them. The
        first item has the time of the first content, where it was measured."""
        moments = self._moments.copy()
        at = None if timings.first_token is None else round(self._created_at + timings.first_token, 4)
        if at is not None and (place := self._first_item_at(at)) is not None:
            entry_id, moment = moments[place]
            moments[place] = entry_id, msgspec.structs.replace(moment, at=at)
        for gap in stream.slowest:
            if stands_out(gap, timings, stream):
                moments.append((EntryId.parse(gap.after), Moment("gap", gap.after, gap.at, gap.seconds)))
        moments.sort(key=itemgetter(0))  # stable: a gap follows the entry that it is after
        return self._with_failed([moment for _, moment in moments], stream.failed)

    def _first_item_at(self, at: float) -> int | None:
        """The place of the first item of the attempt that ran at this time, if it has one."""
        began = [attempt for attempt, part in enumerate(self._attempts) if part.began_at and part.began_at <= at]
        return self._first_items.get(began[-1]) if began else None

    def _with_failed(self, moments: list[Moment], failed: Sequence[FailedRequest]) -> list[Moment]:
        """Each request that failed stands before the first event that is known to be later."""
        for request in failed:
            at = round(self._created_at + request.at, 3)
            which = f"upstream {request.upstream}" if request.upstream else ""
            again = "" if request.delay is None else f"the next request {request.delay:.3g} s later"
            detail = "; ".join(filter(None, (which, again)))
            place = next((k for k, each in enumerate(moments) if each.at is not None and each.at > at), len(moments))
            moments.insert(place, Moment(f"request failed: {request.code}", "", at, detail=detail))
        return moments

    def _all_sizes(self) -> list[Sizes]:
        found = []
        for kind, count in self._counts.items():
            sizes = sorted(self._sizes.get(kind, ()))
            if not sizes:
                found.append(Sizes(kind, count))
                continue
            found.append(Sizes(kind, count, sum(sizes), _quantile(sizes, 0.5), _quantile(sizes, 0.95), sizes[-1]))
        return sorted(found, key=attrgetter("entries"), reverse=True)


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest value that so large a share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def stands_out(gap: Gap, timings: Timings, stream: Stream) -> bool:
    """Whether a gap is much longer than the usual one."""
    usual = timings.between_tokens_p50
    return gap.seconds > max(STANDS_OUT_S, STANDS_OUT * (_median(stream.gaps) if usual is None else usual))


def _median(gaps: Sequence[Bucket]) -> float:
    """The upper bound of the bucket that has the median; 0 where there are no gaps."""
    half, count = sum(bucket.count for bucket in gaps) / 2, 0
    for bucket in gaps:
        count += bucket.count
        if count >= half:
            return bucket.up_to or GAP_BOUNDS_S[-1]
    return 0.0
