"""`tailrace top`: load, workers, callers and the generations that run, as they change.

    overview      the frontend's stream of snapshots, one a second
    callers, generations   asked for every REFRESH_S, or less often where an answer takes long

On a terminal until `q` or Ctrl-C; into a pipe once.
"""

import asyncio
import contextlib
import sys
import time
from typing import Any

from tailrace.errors import RateLimited, Unavailable
from tailrace.events import Json
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_cli.callers import all_callers
from tailrace_cli.frontend_client import ADMIN, FrontendClient, opened_frontend, rows_of
from tailrace_cli.interrupts import interruptible
from tailrace_cli.screen import Screen
from tailrace_cli.terminal import print_json
from tailrace_cli.top_view import View, lines

REFRESH_S = 2.0
SHARE = 0.05
"""Of the time, at most, in which a frontend is busy with our questions for callers and generations."""

RETRY_S = 1.0
LIMIT = 100
RUNNING = "status:running"


def main(settings: Settings, *, as_json: bool) -> None:
    """Print once, or on a terminal until the user leaves.

    Raises:
        Unavailable, TailraceError: the frontend does not answer, or refuses.
    """
    if as_json or not sys.stdout.isatty() or not sys.stdin.isatty():
        asyncio.run(interruptible(_print_once(settings, as_json=as_json)))
    else:
        asyncio.run(interruptible(_watch(settings)))


async def _print_once(settings: Settings, *, as_json: bool) -> None:
    async with opened_frontend(settings) as frontend:
        overview = await frontend.get(f"{ADMIN}/overview")
        callers, generations = await _details(frontend)
    if as_json:
        print_json({"overview": overview, "callers": callers, "generations": generations})
    else:
        print("\n".join(lines(View(overview, callers, generations), now=time.time())))


async def _details(frontend: FrontendClient) -> tuple[list[Json], list[Json]]:
    callers = await all_callers(frontend)
    return callers, rows_of(await frontend.get(f"{ADMIN}/generations", q=RUNNING, limit=LIMIT))


async def _watch(settings: Settings) -> None:
    async with opened_frontend(settings) as frontend:
        top = _Top(frontend)
        await top.begin()  # what is wrong now is an error of the command, on a screen that stays
        with Screen() as screen:
            await top.run(screen)


class _Top:
    """What is known, and the tasks that learn it."""

    def __init__(self, frontend: FrontendClient) -> None:
        self._frontend = frontend
        self._view = View({}, [], [])
        self._problems: dict[str, str] = {}
        self._changed = asyncio.Event()

    async def begin(self) -> None:
        self._view = View(await self._frontend.get(f"{ADMIN}/overview"), *await _details(self._frontend))

    async def run(self, screen: Screen) -> None:
        """Draw whatever changes, until the user leaves.

        Raises:
            TailraceError: the frontend refuses.
        """
        screen.on_resize = self._changed.set
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("snapshots", self._follow_overview()), ("details", self._refresh_details()),
                ("drawing", self._draw(screen)), ("keys", screen.left.wait()),
            )
        ]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancel_and_wait(*tasks)

    async def _draw(self, screen: Screen) -> None:
        while True:
            self._changed.clear()
            columns, rows = screen.size
            problem = next(iter(self._problems.values()), "")
            screen.draw(
                lines(self._view, now=time.time(), columns=columns, rows=rows, problem=problem, colours=screen.colours)
            )
            await self._changed.wait()

    async def _follow_overview(self) -> None:
        while True:
            with self._noting("overview"):
                async for name, value in self._frontend.events(f"{ADMIN}/overview/events"):
                    self._note("overview", "" if name == "snapshot" else value.get("message", ""))
                    if name == "snapshot":
                        self._show(overview=value)
            await asyncio.sleep(RETRY_S)  # a frontend that stops ends the stream: another one may answer

    async def _refresh_details(self) -> None:
        while True:
            began = time.monotonic()
            with self._noting("details"):
                callers, generations = await _details(self._frontend)
                self._note("details", "")
                self._show(callers=callers, generations=generations)
            await asyncio.sleep(max(REFRESH_S, (time.monotonic() - began) / SHARE))

    @contextlib.contextmanager
    def _noting(self, task: str) -> Any:
        """Show a failure that may pass, until the next answer."""
        try:
            yield
        except (Unavailable, RateLimited) as error:
            self._note(task, error.message)

    def _note(self, task: str, problem: str) -> None:
        self._problems.pop(task, None)
        if problem:
            self._problems[task] = problem
            self._changed.set()

    def _show(self, **changed: Any) -> None:
        self._view = self._view._replace(**changed)
        self._changed.set()
