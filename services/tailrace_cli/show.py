"""`tailrace show [ID]`: where a generation stands, its question, and its answer so far."""

import asyncio
import json
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
from tailrace_cli.frontend_client import opened_frontend
from tailrace_cli.remote_generations import FINAL, RemoteGenerations, is_wanted
from tailrace_cli.tables import age
from tailrace_cli.terminal import neutralized, one_line, print_json
from tailrace_frontend.http.generation_json import generation_json
from tailrace_frontend.preview import question_of
from tailrace_frontend.readable_generations import Snapshot

NAME_WIDTH = 10
OF_TEXT = ("owner", "ended_at", "expires_at")
"""Fields that the text has beside those of the JSON."""


def main(settings: Settings, *, generation_id: str, as_json: bool, caller: str) -> None:
    """Print the generation as text, or as the JSON of the HTTP API.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
        Unavailable: Redis does not respond, or the frontend.
    """
    if is_wanted(settings, caller):
        value, now = asyncio.run(_ask(settings, generation_id))
    else:
        value, now = asyncio.run(_read(settings, generation_id, caller))
    if as_json:
        print_json({name: each for name, each in value.items() if name not in OF_TEXT})
        return
    data = "".join(f"{line}\n" for line in _lines(value, now)).encode(errors="replace")
    sys.stdout.buffer.write(neutralized(data) if sys.stdout.isatty() else data)


async def _ask(settings: Settings, generation_id: str) -> tuple[Json, float]:
    async with opened_frontend(settings) as frontend:
        return await RemoteGenerations(frontend).get(generation_id), time.time()


async def _read(settings: Settings, generation_id: str, caller: str) -> tuple[Json, float]:
    async with opened(settings) as access:
        state = await access.find(generation_id, caller)
        return _as_json(await access.generations.snapshot(state)), await access.log.server.now() / 1000


def _as_json(snapshot: Snapshot) -> Json:
    """As `GET /v1/generations/{id}`, without the URL, which is a frontend's; and what only the text has."""
    state, request, output, done, position, workers, *_ = snapshot
    known: Json = {"queue_position": position, "attempt": state.attempt, "worker": short_name(state.worker) or None}
    if workers is not None:
        known["worker_running"] = workers > 0
    generation = generation_json(state, "", request=request, output=output, done=done, **known)
    del generation["events_url"]
    generation["owner"] = state.record.owner
    if done is not None:
        generation |= {"ended_at": done.at, "expires_at": done.at + state.record.options.retention_s}
    return json.loads(jsoncodec.dumps(generation))  # type: ignore[no-any-return]  # parts are JSON as it is stored


def _lines(value: Json, now: float) -> Iterator[str]:
    for name, shown in _facts(value, now):
        yield f"{name:{NAME_WIDTH}}{one_line(shown)}"
    for heading, text in (("Question", question_of(value["request"] or {})), ("Answer", _answer(value["output"]))):
        if text:
            yield from ("", heading, "", *text.splitlines())


def _facts(value: Json, now: float) -> Iterator[tuple[str, str]]:
    created, ended = value["created_at"], _ended_at(value)
    yield "id", value["id"]
    yield "status", _status(value)
    yield "model", value["model"]
    if "owner" in value:
        yield "caller", value["owner"]
    yield "created", f"{_clock(created)}, {age(now - created)} ago"
    if ended is not None:
        kept = f"; kept until {_clock(value['expires_at'])}" if value.get("expires_at") else ""
        yield "ended", f"{_clock(ended)}, after {ended - created:.1f} s{kept}"
    if usage := value.get("usage"):
        names = ("prompt_tokens", "completion_tokens")
        yield "tokens", ", ".join(f"{usage.get(name, '?')} {name.removesuffix('_tokens')}" for name in names)
    if error := value.get("error"):
        yield "error", ": ".join(filter(None, (error["code"], error.get("message"))))


def _ended_at(value: Json) -> float | None:
    """A frontend has it as a time span, of generations that a worker has run."""
    total = (value.get("timings") or {}).get("total")
    return value.get("ended_at") or (None if total is None else value["created_at"] + total)


def _status(value: Json) -> str:
    parts: list[str] = [value["status"]]
    if value["status"] == "queued" and value.get("queue_position") is not None:
        parts.append(f"place {value['queue_position']}")
    if value["status"] == "running" and value.get("worker"):
        parts.append(f"worker {value['worker']}")
    if value.get("attempt", 0) > 1:
        parts.append(f"attempt {value['attempt']}")
    if value["status"] not in FINAL and value.get("worker_running") is False:
        parts.append("no worker is running")
    return ", ".join(parts)


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _answer(output: Any) -> str:
    """The texts, refusals and calls of the first choice."""
    items: Sequence[Item] = msgspec.convert(output, list[Item])
    return "\n\n".join(_shown(item for item in items if item.choice == 0))


def _shown(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        if item.type == "call":
            yield f"calls {item.name}({item.arguments})"
        elif item.type != "reasoning" and item.text:
            yield item.text
