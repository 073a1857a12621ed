"""`tailrace workers`: the workers that are alive; `drain` and `stop` one of them."""

import asyncio
import time
from collections.abc import Sequence

from tailrace.errors import InvalidRequest, NotFound
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.confirmation import confirmed
from tailrace_cli.frontend_client import ADMIN, FrontendClient, opened_frontend, rows_of
from tailrace_cli.tables import age, bar, size, table, terminal_columns
from tailrace_cli.terminal import one_line, print_json

PATH = f"{ADMIN}/workers"
BAR_COLUMNS = 100
"""A narrower terminal has no room for bars."""

SILENT_S = 3.0
"""Of a worker that is said to be silent; its heartbeats come more often with any usual lease."""

CONSEQUENCES = {
    "drain": "It takes no further generation; {runs} where it is.",
    "stop": "It ends as on SIGTERM; what still runs then goes to another worker. {Runs} now.",
}
DONE = {"drain": "drains", "stop": "stops"}


def main(
    settings: Settings, *, as_json: bool, action: str | None = None, worker_id: str = "", is_confirmed: bool = False
) -> int:
    """Print the workers, or send a command to one. Returns the exit status: 1 where that is not confirmed.

    Raises:
        InvalidRequest: the name is that of several workers, or there is no terminal to ask on.
        NotFound: no such worker is alive.
        Unavailable, TailraceError: the frontend does not answer, or refuses.
    """
    if action is None:
        asyncio.run(_list(settings, as_json=as_json))
        return 0
    return asyncio.run(_command(settings, action, worker_id, as_json=as_json, is_confirmed=is_confirmed))


async def _list(settings: Settings, *, as_json: bool) -> None:
    async with opened_frontend(settings) as frontend:
        workers = rows_of(await frontend.get(PATH))
    if as_json:
        print_json(workers)
    else:
        columns = terminal_columns()
        print("\n".join(table(worker_rows(workers, time.time(), has_bars=columns >= BAR_COLUMNS), columns)))


async def _command(settings: Settings, action: str, worker_id: str, *, as_json: bool, is_confirmed: bool) -> int:
    async with opened_frontend(settings) as frontend:
        worker = await _find(frontend, worker_id)
        name, running = worker["id"], worker.get("running", 0)
        if not is_confirmed and not await confirmed(f"{question(action, name, running)} {action.capitalize()} it?"):
            return 1
        answer = await frontend.send("POST", f"{PATH}/{name}/{action}")
    if as_json:
        print_json(answer | {"running": running})
    else:
        print(f"{name}  {DONE[action]}")
    return 0


def question(action: str, name: str, running: int) -> str:
    """What an action does to a worker that runs so many generations."""
    runs = f"{running:,} generation{' ends' if running == 1 else 's end'}" if action == "drain" else f"runs {running:,}"
    return f"Worker {name}: " + CONSEQUENCES[action].format(runs=runs, Runs=f"It {runs}")


async def _find(frontend: FrontendClient, worker_id: str) -> Json:
    """The worker with this name, or whose name begins so.

    Raises:
        NotFound, InvalidRequest: there is none, or there are several.
    """
    alive: list[Json] = rows_of(await frontend.get(PATH))
    found = [each for each in alive if worker_id and each["id"].startswith(worker_id)]
    exact = [each for each in found if each["id"] == worker_id]
    if len(found) > 1 and not exact:
        raise InvalidRequest(f"{worker_id} begins the names of {len(found)} workers; `tailrace workers` prints them")
    if not found:
        raise NotFound(f"no worker whose name begins with {worker_id!r} is alive; `tailrace workers` prints them")
    return (exact or found)[0]


def worker_rows(workers: Sequence[Json], now: float, *, has_bars: bool) -> list[Sequence[str]]:
    """A header and a row for each worker."""
    header = [
        "WORKER",
        "STATE",
        ">RUNNING",
        *(["LOAD"] if has_bars else []),
        ">TOK/S",
        ">MEMORY",
        ">UP",
        "HOST",
        ">PID",
        "VERSION",
    ]
    return [header, *(_cells(each, now, has_bars=has_bars) for each in workers)]


def _cells(worker: Json, now: float, *, has_bars: bool) -> list[str]:
    """Heartbeats of other versions may lack anything but the name."""
    running, slots, started = worker.get("running", 0), worker.get("slots", 0), worker.get("started_at", 0)
    return [
        one_line(worker["id"]),
        state_of(worker),
        f"{running:,}/{slots:,}",
        *([bar(running, slots)] if has_bars else []),
        f"{worker.get('tokens_per_second', 0):,.1f}",
        size(worker.get("rss_bytes")),
        age(now - started) if started else "",
        one_line(worker.get("host", "")),
        str(worker.get("pid", "")),
        one_line(worker.get("version", "")),
    ]


def state_of(worker: Json) -> str:
    """`ready`, `drains`, `not ready` as its `/readyz` has it, or for how long it has been silent."""
    if worker["silent"] > SILENT_S:
        return f"silent {age(worker['silent'])}"
    if worker.get("draining"):
        return "drains"
    return "not ready" if worker.get("refusal") else "ready"
