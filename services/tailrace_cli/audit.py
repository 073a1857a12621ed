"""`tailrace audit`: who did what as an operator, the oldest of the lines first; `--follow` goes on."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence

from rich.cells import cell_len

from tailrace.errors import InvalidRequest, RateLimited, Unavailable
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.frontend_client import ADMIN, FrontendClient, opened_frontend, rows_of
from tailrace_cli.interrupts import interruptible
from tailrace_cli.tables import fitted, terminal_columns
from tailrace_cli.terminal import one_line, print_json

PATH = f"{ADMIN}/audit"
MAX_LIMIT = 1000
RETRY_S = 1.0
BEGINNING = "0-0"
NAMES = ("who", "action", "outcome", "target", "address")
NARROW_COLUMNS = 100
"""A narrower terminal has no room for the year."""


def main(settings: Settings, *, limit: int, follow: bool, as_json: bool) -> None:
    """Print the newest entries. With `follow` also what is added, until Ctrl-C: as JSON one object a line, otherwise a
    JSON array.

    Raises:
        InvalidRequest: the limit is out of range.
        Unavailable, TailraceError: the frontend does not answer, or refuses.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"--limit is 1 to {MAX_LIMIT}")
    asyncio.run(interruptible(_print(settings, limit, follows=follow, as_json=as_json)))


async def _print(settings: Settings, limit: int, *, follows: bool, as_json: bool) -> None:
    async with opened_frontend(settings) as frontend:
        entries = rows_of(await frontend.get(PATH, limit=limit))[::-1]
        if as_json and not follows:
            print_json(entries)
            return
        show = print_json if as_json else Lines(entries, terminal_columns()).show
        for entry in entries:
            show(entry)
        if follows:
            async for entry in following(frontend, entries[-1]["id"] if entries else BEGINNING):
                show(entry)


async def following(frontend: FrontendClient, last: str) -> AsyncIterator[Json]:
    """Each entry after this one, as it is added. While the frontend does not answer, it is asked again.

    Raises:
        TailraceError: the frontend refuses.
    """
    is_away = False
    while True:
        try:
            async for name, entry in frontend.events(f"{PATH}/events", last_event_id=last):
                if name == "entry":
                    is_away, last = False, entry["id"]
                    yield entry
        except (Unavailable, RateLimited) as error:
            if not is_away:
                print(f"tailrace audit: {error.message}; asking again", file=sys.stderr, flush=True)
            is_away = True
        await asyncio.sleep(RETRY_S)  # a frontend that stops ends the stream: another one may answer


class Lines:
    """The entries as lines below a header, in columns as wide as the first of them need. A longer value later moves
    what follows it."""

    def __init__(self, entries: Sequence[Json], columns: int) -> None:
        self._columns = columns
        self._form = "%m-%d %H:%M:%S" if 0 < columns < NARROW_COLUMNS else "%Y-%m-%d %H:%M:%S"
        header = [name.upper() for name in NAMES]
        self._widths = [max(map(cell_len, cells)) for cells in zip(header, *map(cells_of, entries), strict=True)]
        self._print("TIME".ljust(len(time.strftime(self._form))), header)

    def show(self, entry: Json) -> None:
        """Print one entry, at once, with its time here."""
        self._print(time.strftime(self._form, time.localtime(entry["at"])), cells_of(entry))

    def _print(self, moment: str, cells: Sequence[str]) -> None:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, self._widths, strict=True))
        print(fitted("  ".join([moment, *padded]).rstrip(), self._columns), flush=True)


def cells_of(entry: Json) -> list[str]:
    """What is shown of an entry, in the order of NAMES."""
    shown = {name: one_line(str(entry[name])) or "-" for name in NAMES}
    if entry["repeated"]:
        shown["target"] += f" ({entry['repeated']:,} more)"
    return [shown[name] for name in NAMES]
