"""`tailrace audit`: who did what as an operator, the oldest of the lines first; `--follow` goes on."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

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
WIDTHS = {"who": 12, "action": 20, "outcome": 18, "address": 12}
"""Of the columns; a longer value moves what follows it."""

HEADER = {"who": "WHO", "action": "ACTION", "outcome": "OUTCOME", "address": "ADDRESS", "target": "TARGET"}


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
        if not as_json:
            print(fitted(_line("TIME", HEADER), terminal_columns()))
        for entry in entries:
            show(entry, as_json=as_json)
        if follows:
            async for entry in following(frontend, entries[-1]["id"] if entries else BEGINNING):
                show(entry, as_json=as_json)


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


def show(entry: Json, *, as_json: bool) -> None:
    """Print one entry, at once."""
    if as_json:
        print_json(entry)
    else:
        print(fitted(line_of(entry), terminal_columns()), flush=True)


def line_of(entry: Json) -> str:
    """An entry as a line, with its time here."""
    shown = {name: one_line(str(entry[name])) or "-" for name in HEADER}
    if entry["repeated"]:
        shown["target"] += f" ({entry['repeated']:,} more)"
    return _line(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["at"])), shown)


def _line(moment: str, shown: Json) -> str:
    cells = (f"{shown[name]:{width}}" for name, width in WIDTHS.items())
    return f"{moment:19}  {'  '.join(cells)}  {shown['target']}".rstrip()
