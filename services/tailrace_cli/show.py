"""`tailrace show [ID]`: where a generation stands, its question, and its answer so far."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import Item, Json
from tailrace.ids import short_name
from tailrace.settings import Settings
from tailrace_cli.access import opened
from tailrace_cli.tables import age
from tailrace_cli.terminal import neutralized, one_line
from tailrace_frontend.generations import Snapshot
from tailrace_frontend.http.generation_json import generation_json
from tailrace_frontend.preview import question_of

NAME_WIDTH = 10


def main(settings: Settings, *, generation_id: str, as_json: bool, caller: str) -> None:
    """Print the generation as text, or as the JSON of the HTTP API.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
        Unavailable: Redis does not respond.
    """
    snapshot, now = asyncio.run(_read(settings, generation_id, caller))
    if as_json:
        data = jsoncodec.dumps(_as_json(snapshot)) + b"\n"
    else:
        data = "".join(f"{line}\n" for line in _lines(snapshot, now)).encode(errors="replace")
    sys.stdout.buffer.write(neutralized(data) if sys.stdout.isatty() else data)


async def _read(settings: Settings, generation_id: str, caller: str) -> tuple[Snapshot, float]:
    async with opened(settings) as access:
        state = await access.find(generation_id, caller)
        return await access.generations.snapshot(state), await access.log.server.now() / 1000


def _as_json(snapshot: Snapshot) -> Json:
    """As `GET /v1/generations/{id}`, without the URL, which is a frontend's."""
    state, request, output, done, position, workers, *_ = snapshot
    known: Json = {"queue_position": position, "attempt": state.attempt, "worker": short_name(state.worker) or None}
    if workers is not None:
        known["worker_running"] = workers > 0
    generation = generation_json(state, "", request=request, output=output, done=done, **known)
    del generation["events_url"]
    return generation


def _lines(snapshot: Snapshot, now: float) -> Iterator[str]:
    for name, value in _facts(snapshot, now):
        yield f"{name:{NAME_WIDTH}}{one_line(value)}"
    for heading, text in (("Question", question_of(_decoded(snapshot.request))), ("Answer", _answer(snapshot))):
        if text:
            yield from ("", heading, "", *text.splitlines())


def _facts(snapshot: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    state, done = snapshot.state, snapshot.done
    created = state.record.created / 1000
    yield "id", state.record.id
    yield "status", _status(snapshot)
    yield "model", state.record.model
    yield "caller", state.record.owner
    yield "created", f"{_clock(created)}, {age(now - created)} ago"
    if done is not None:
        kept_until = done.at + state.record.options.retention_s
        yield "ended", f"{_clock(done.at)}, after {done.at - created:.1f} s; kept until {_clock(kept_until)}"
        if done.usage:
            counts = (
                f"{done.usage.get(name, '?')} {name.removesuffix('_tokens')}"
                for name in ("prompt_tokens", "completion_tokens")
            )
            yield "tokens", ", ".join(counts)
        if done.error is not None:
            yield "error", f"{done.error.code}: {done.error.message}"


def _status(snapshot: Snapshot) -> str:
    state = snapshot.state
    parts: list[str] = [state.status]
    if state.status == "queued" and snapshot.position is not None:
        parts.append(f"place {snapshot.position}")
    if state.status == "running" and state.worker:
        parts.append(f"worker {short_name(state.worker)}")
    if state.attempt > 1:
        parts.append(f"attempt {state.attempt}")
    if not state.is_final and snapshot.workers == 0:
        parts.append("no worker is running")
    return ", ".join(parts)


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _decoded(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _answer(snapshot: Snapshot) -> str:
    """The texts, refusals and calls of the first choice."""
    output: Sequence[Item] = msgspec.convert(_decoded(jsonable(snapshot.output)), list[Item])
    return "\n\n".join(_shown(item for item in output if item.choice == 0))


def jsonable(output: Any) -> Any:
    """The output as JSON has it: what is stored, or structs."""
    return output if isinstance(output, msgspec.Raw) else msgspec.to_builtins(output)


def _shown(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        if item.type == "call":
            yield f"calls {item.name}({item.arguments})"
        elif item.type != "reasoning" and item.text:
            yield item.text
