"""What `tailrace top` shows, as lines: for a terminal of a size, or whole for a pipe."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tailrace.events import Json
from tailrace.ids import short_name
from tailrace_cli.callers import caller_rows
from tailrace_cli.tables import age, bar, fitted, size, table
from tailrace_cli.terminal import BOLD, DIM, RED, YELLOW, coloured, one_line
from tailrace_cli.workers import worker_rows

BAR_COLUMNS = 100
"""A narrower terminal has no room for bars in its tables."""

WORKERS, CALLERS = 8, 8
"""Rows of each that a terminal shows at most, those with most load; the generations have the rest."""

GENERATIONS = ("GENERATION", "CALLER", "MODEL", ">AGE", "WORKER", ">ATTEMPT")
KEYS = "q quits"


class View(NamedTuple):
    """The answers of the API that are shown: a snapshot, callers, and generations that run."""

    overview: Json
    callers: Sequence[Json]
    generations: Sequence[Json]


def lines(
    view: View, *, now: float, columns: int = 0, rows: int = 0, problem: str = "", colours: bool = False
) -> list[str]:
    """`columns`, `rows`: of the terminal; 0: nothing is cut. `problem`: why the view is not of this second."""
    paint = coloured if colours else lambda text, _: text
    has_bars = columns >= BAR_COLUMNS
    shown = [fitted(each, columns) for each in _summary(view.overview, has_bars=columns > 0)]
    if problem:
        shown.append(paint(fitted(one_line(problem), columns), RED))
    badges = ((one_line(each["text"]), RED if each["level"] == "bad" else YELLOW) for each in view.overview["badges"])
    shown += [paint(fitted(text, columns), colour) for text, colour in badges]
    workers, callers = list(view.overview["workers"]), list(view.callers)
    if rows:
        workers = sorted(workers, key=lambda each: -each.get("running", 0))[:WORKERS]
        callers = sorted(callers, key=_load_of)[:CALLERS]
    room = rows
    for found, what, total in (
        (worker_rows(workers, now, has_bars=has_bars), "worker", len(view.overview["workers"])),
        (caller_rows(callers, has_bars=has_bars), "caller", len(view.callers)),
        (generation_rows(view.generations, now), "generation", view.overview["running"]),
    ):
        header, *body = table(found, columns)
        room = rows - len(shown) - 3 if rows else len(body)  # an empty line, the header, and the number of others
        body = body[: max(0, room)]
        shown += ["", paint(header, BOLD), *body]
        if (more := total - len(body)) > 0 and rows:
            shown.append(paint(fitted(f"and {more:,} more {what}{'s' * (more > 1)}", columns), DIM))
    return shown[:rows] if rows else shown


def _load_of(caller: Json) -> tuple[int, str]:
    return -(caller["use"]["running"] + caller["use"]["waiting"]), caller["name"]


def _summary(overview: Json, *, has_bars: bool) -> Iterator[str]:
    running, slots = overview["running"], overview["slots"]
    load = f" {bar(running, slots)}" if has_bars else ""
    yield (
        f"tailrace  running {running:,}/{slots:,}{load}  waiting {_waiting(overview)}  "
        f"{overview['tokens_per_second']:,.1f} tokens/s  {overview['readers']:,} readers"
    )
    yield f"servers   {' · '.join(map(_server, overview['servers']))}"
    if overview["upstreams"]:
        yield f"upstreams {' · '.join(map(_upstream, overview['upstreams']))}"


def _server(server: Json) -> str:
    share = f" ({server['percent']:.0f} %)" if server["memory_limit"] else ""
    return f"{one_line(server['name'])} {size(server['memory'])}{share}, {server['commands_per_second']:,} commands/s"


def _waiting(overview: Json) -> str:
    return f"{overview['waiting']:,}" + (f" (for {age(overview['waited'])})" if overview["waiting"] else "")


def _upstream(upstream: Json) -> str:
    state = ", circuit open" if upstream["open"] else ""
    return (
        f"{one_line(upstream['name'])}: {upstream['in_use']:,} under way, {upstream['failures']:,} of "
        f"{upstream['calls']:,} calls failed{state}"
    )


def generation_rows(generations: Sequence[Json], now: float) -> list[Sequence[str]]:
    """A header and a row for each generation."""
    return [GENERATIONS, *(_cells(each, now) for each in generations)]


def _cells(generation: Json, now: float) -> list[str]:
    return [
        one_line(generation["id"]),
        one_line(generation["owner"]),
        one_line(generation["model"]),
        age(now - generation["created_at"]),
        short_name(generation["worker"] or ""),
        str(generation["attempt"]),
    ]
