"""`tailrace debug [ID]`: the timeline of a generation: attempts, gaps, retries, entries and their sizes."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tailrace import jsoncodec
from tailrace.events import Bucket, Json, Upstream
from tailrace.ids import short_name
from tailrace.log.state import GenerationState
from tailrace.log.timeline import History, Timeline
from tailrace.settings import Settings
from tailrace.upstreams.prices import DIGITS
from tailrace_cli.access import opened
from tailrace_cli.terminal import has_colours, one_line

PIPE_COLUMNS = 160
"""Width of the tables in a file or a pipe: nothing is cut there."""

NARROW_COLUMNS = 60
"""In a narrower terminal ids and times are folded, too."""

COUNTS = ("chunks", "bytes", "retries", "stalls", "malformed")
BAR = "█"
BAR_CHARACTERS = 40
HEADING = "bold"
DIM = "dim"

NOT_ENDED = "The generation has not ended. The measures are those that the worker stored last."
NOT_OWN = "Another process than the worker wrote the end. The measures are those that the worker stored last."
NOT_MEASURED = (
    "No worker has stored measures of the stream. It does so with the first content, with each renewal of its lease, "
    "and with the end."
)


def main(settings: Settings, *, generation_id: str, as_json: bool, caller: str) -> None:
    """Print the timeline as text, or as JSON.

    Raises:
        NotFound, Gone: there is no such generation, or no longer.
        Unavailable: Redis does not respond.
    """
    state, timeline = asyncio.run(_read(settings, generation_id, caller))
    if as_json:
        sys.stdout.buffer.write(jsoncodec.dumps(as_value(state, timeline)) + b"\n")
        return
    is_terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout, no_color=not has_colours(sys.stdout), width=None if is_terminal else PIPE_COLUMNS,
        highlight=False, markup=False, emoji=False, soft_wrap=False,
    )  # fmt: skip
    for part in rendered(state, timeline, console.width):
        console.print(part)


async def _read(settings: Settings, generation_id: str, caller: str) -> tuple[GenerationState, Timeline]:
    async with opened(settings) as access:
        state = await access.find(generation_id, caller)
        history = History(state)
        async for entry in access.log.read_all(state.record.id):
            history.add(entry)
        return state, history.timeline(await access.log.measures(state.record.id))


def as_value(state: GenerationState, timeline: Timeline) -> Json:
    """The timeline as JSON."""
    record, done = state.record, timeline.done
    value: Json = {
        "id": record.id,
        "status": done.status if done else state.status,
        "model": record.model,
        "created_at": timeline.created_at,
        "ended_at": done.at if done else None,
        "worker": short_name(state.worker) or None,
        "ended_by_worker": timeline.is_own,
    }
    value |= {name: getattr(done, name, None) for name in ("usage", "cost", "error")}
    value["upstream"] = timeline.upstream
    names = ("timings", "stream", "attempts", "entries", "timeline")
    return value | {name: msgspec.to_builtins(getattr(timeline, name)) for name in names}


def rendered(state: GenerationState, timeline: Timeline, width: int) -> Iterator[RenderableType]:
    """The parts of the report, for a terminal of that width."""
    yield _facts(state, timeline)
    parts: list[tuple[str, Table]] = [("Attempts", _attempts(timeline)), ("Timeline", _moments(timeline, width))]
    if timeline.entries:
        parts.append(("Entries of the log", _entries(timeline)))
    if timeline.stream.slowest:
        parts.append(("Slowest gaps", _slowest(timeline)))
    if timeline.stream.gaps:
        parts.append(("Gaps between two pieces of content", _histogram(timeline.stream.gaps, width)))
    for heading, table in parts:
        yield Text()
        yield Text(heading, HEADING)
        yield table
    if note := _note(timeline):
        yield Text()
        yield Text(note, DIM)


def _note(timeline: Timeline) -> str:
    """How far the measures can be relied upon."""
    if not timeline.is_measured:
        return NOT_MEASURED
    if timeline.done is None:
        return NOT_ENDED
    return "" if timeline.is_own else NOT_OWN


def _facts(state: GenerationState, timeline: Timeline) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(state, timeline):
        table.add_row(name, one_line(value))
    return table


def _lines(state: GenerationState, timeline: Timeline) -> Iterator[tuple[str, str]]:
    done, timings, stream = timeline.done, timeline.timings, timeline.stream
    yield "id", state.record.id
    yield "status", done.status if done else state.status
    yield "model", " ".join(_known([state.record.model, timeline.upstream.model and f"({timeline.upstream.model})"]))
    if upstream := _upstream(timeline.upstream):
        yield "upstream", upstream
    yield "created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timeline.created_at))
    if done and done.error:
        yield "error", f"{done.error.code}: {done.error.message}"
    figures = [("queue", timings.queue), ("first token", timings.first_token), ("total", timings.total)]
    yield "times", ", ".join(f"{name} {seconds(value)}" for name, value in figures if value is not None) or "none yet"
    between = [
        ("p50", timings.between_tokens_p50), ("p95", timings.between_tokens_p95), ("max", timings.between_tokens_max),
    ]  # fmt: skip
    if timings.between_tokens_max is not None:
        yield "between tokens", ", ".join(f"{name} {seconds(value)}" for name, value in between if value is not None)
    if done and done.usage:
        yield "usage", _usage(done.usage, done.cost)
    if timeline.is_measured:
        yield "stream", ", ".join(f"{name} {getattr(stream, name)}" for name in COUNTS)
        if stream.tokens_per_second is not None:
            yield "rate", f"{stream.tokens_per_second:,.1f} tokens/s"


def _upstream(upstream: Upstream) -> str:
    """Its name, and its id of the answer."""
    return " ".join(_known([upstream.name, upstream.id and f"({upstream.id})"]))


def _known(values: Sequence[Any]) -> Iterator[str]:
    return (str(value) for value in values if value)


def _usage(usage: Json, cost: float | None) -> str:
    """The counts, with a mark on an estimate, and what they cost."""
    names = ("prompt_tokens", "completion_tokens")
    counts = ", ".join(f"{usage.get(name, '?')} {name.removesuffix('_tokens')}" for name in names)
    marks = _known([counts, usage.get("estimated") and "estimated", cost is not None and f"{_decimal(cost)} USD"])
    return ", ".join(marks)


def _decimal(number: float) -> str:
    """Without an exponent: costs are small."""
    return f"{number:.{DIGITS}f}".rstrip("0").rstrip(".")


def _attempts(timeline: Timeline) -> Table:
    table = _table("attempt", "worker", ">began", ">items", ">entries", ">bytes", "ended")
    for part in timeline.attempts:
        table.add_row(
            str(part.attempt), part.worker or "?", _since(timeline, part.began_at), str(part.items),
            f"{part.entries:,}", f"{part.bytes:,}", one_line(part.ended or "runs"),
        )  # fmt: skip
    return table


def _moments(timeline: Timeline, width: int) -> Table:
    table = _table(">time", "entry", "event", "")
    for column in table.columns[:2]:
        column.no_wrap = width >= NARROW_COLUMNS
    for moment in timeline.timeline:
        what = moment.what if moment.seconds is None else f"gap of {seconds(moment.seconds)} after it"
        cells = map(one_line, (moment.entry, what, moment.detail))
        table.add_row(_since(timeline, moment.at), *cells, style=DIM if moment.seconds else None)
    return table


def _entries(timeline: Timeline) -> Table:
    table = _table("kind", ">entries", ">bytes", ">p50", ">p95", ">max")
    for sizes in timeline.entries:
        bytes_ = (sizes.bytes, sizes.p50, sizes.p95, sizes.max)
        table.add_row(sizes.kind, f"{sizes.entries:,}", *("" if each is None else f"{each:,}" for each in bytes_))
    return table


def _slowest(timeline: Timeline) -> Table:
    table = _table(">began", ">gap", "after")
    for gap in timeline.stream.slowest:
        table.add_row(_since(timeline, gap.at), seconds(gap.seconds), gap.after)
    return table


def _histogram(gaps: Sequence[Bucket], width: int) -> Table:
    """A bar for each bucket, by its count."""
    table = _table(">up to", ">gaps", "")
    most = max(bucket.count for bucket in gaps)
    room = max(1, min(BAR_CHARACTERS, width - 24))
    for bucket in gaps:
        bound = "longer" if bucket.up_to is None else seconds(bucket.up_to)
        table.add_row(bound, f"{bucket.count:,}", BAR * max(1, round(room * bucket.count / most)))
    return table


def _table(*columns: str) -> Table:
    """A table without lines; numbers, whose names begin with `>`, stand to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return table


def _since(timeline: Timeline, at: float | None) -> str:
    """Seconds since the creation; "" where the time is not known."""
    return "" if at is None else f"+{at - timeline.created_at:.3f} s"


def seconds(value: float | None) -> str:
    """A time span: `850 µs`, `12 ms`, `1.25 s`."""
    if value is None:
        return "?"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.4g} s"
