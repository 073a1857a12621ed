"""One generation as the dashboard shows it: a row of the list, the whole of it, its timeline, its content.

What may quote a prompt or an output is left out unless `has_content`: the preview, and the messages of errors.
"""

from typing import Any

import msgspec

from tailrace.events import Delta, Entry, Failure, GenerationRecord, Json, Restarted, Text
from tailrace.ids import short_name
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.log.timeline import History, Moment
from tailrace.settings import TRACE_ID
from tailrace_frontend.generations import Generations
from tailrace_frontend.readable_generations import Snapshot

ITEM = "item "
"""Begins the moments of items: those of calls have the name of a tool, which is the caller's."""


def row_json(state: GenerationState, *, has_content: bool) -> Json:
    """A generation in a list, with what its state has."""
    record = state.record
    row: Json = {
        "id": record.id,
        "status": state.status,
        "model": record.model,
        "owner": record.owner,
        "created_at": record.created / 1000,
        "ended_at": state.ended / 1000 or None,
        "attempt": state.attempt,
        "worker": state.worker or None,
        "tokens": state.tokens,
        "error": state.failure or None,
    }
    return row | ({"preview": record.preview, "tags": record.tags} if has_content else {})


async def detail_json(generations: Generations, log: Log, state: GenerationState, *, has_content: bool) -> Json:
    """Where a generation stands, and what was measured of it: of one that runs, as its worker stored it last."""
    record, summary = state.record, await generations.summary(state)
    done = await generations.end(state)
    value = row_json(state, has_content=has_content)
    value |= {
        "api": record.api,
        "options": msgspec.to_builtins(record.options),
        "deadline_at": state.deadline / 1000,
        "lease_at": state.lease / 1000 or None,
        "expires_at": None if summary.expires_at is None else summary.expires_at / 1000,
        "position": summary.position,
        "taken_from": short_name(state.taken_from) or None,
        "lost_attempts": state.lost_attempts,
        "handovers": state.handovers,
        "readers": generations.count_readers(record.id),
        "seq": state.seq,
    }
    if done is None:
        measures = await log.measures(record.id)
        return value | {
            "timings": measures.timings(None),
            "stream": measures.stream,
            "upstream": measures.upstream,
            "usage": None,
            "cost": None,
        }
    return value | {
        "timings": done.timings,
        "stream": done.stream,
        "upstream": done.upstream,
        "usage": done.usage,
        "cost": done.cost,
        "finish": [finish.finish_reason for finish in done.finish],
        "format": None if done.format is None else {"parsed": done.format.parsed, "valid": done.format.valid},
        "continued": done.continued,
        "failure": _failure(done.error, has_content=has_content),
    }


def trace_json(record: GenerationRecord, trace_url: str) -> Json | None:
    """The trace of the creation, and its address where the settings have a template of it; None: it was not traced."""
    trace_id = record.traceparent.split("-")[1] if record.traceparent.count("-") == 3 else ""
    if not trace_id:
        return None
    return {"id": trace_id, "url": trace_url.replace(TRACE_ID, trace_id) or None}


def _failure(error: Failure | None, *, has_content: bool) -> Json | None:
    if error is None:
        return None
    failure: Json = {"code": error.code, "type": error.type, "status": error.status}
    return failure | ({"message": error.message} if has_content else {})


async def timeline_json(log: Log, state: GenerationState) -> Json:
    """The history of a generation, as `tailrace debug --json` has it, without the names of tools. `offsets`: where the
    text was when a slow gap began, in UTF-16 units, by the entry before the gap."""
    history, places = History(state), _Places()
    async for entry in log.read_all(state.record.id):
        history.add(entry)
        places.add(entry)
    timeline = history.timeline(await log.measures(state.record.id))
    return {
        "attempts": timeline.attempts,
        "timeline": list(map(_without_names, timeline.timeline)),
        "entries": timeline.entries,
        "created_at": timeline.created_at,
        "timings": timeline.timings,
        "stream": timeline.stream,
        "is_measured": timeline.is_measured,
        "ended_by_worker": timeline.is_own,
        "offsets": places.of([gap.after for gap in timeline.stream.slowest]),
    }


def _without_names(moment: Moment) -> Moment:
    if not moment.what.startswith(ITEM):
        return moment
    return msgspec.structs.replace(moment, detail=moment.detail.partition(" ")[0])


class _Places:
    """How much text there was after each entry."""

    def __init__(self) -> None:
        self._units = 0
        self._after: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        match entry.event:
            case Restarted():
                self._units = 0
            case Text(text=text, choice=0):
                self._units += len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
            case Delta():
                pass
        self._after[str(entry.id)] = self._units

    def of(self, ids: list[str]) -> dict[str, int]:
        return {each: self._after[each] for each in ids if each in self._after}


def content_json(snapshot: Snapshot) -> dict[str, Any]:
    """The request and the output so far."""
    return {"id": snapshot.state.record.id, "request": snapshot.request, "output": snapshot.output}
