"""`tailrace ls`: a caller's generations, newest first."""

import asyncio
import time
from collections.abc import Sequence

from tailrace.errors import InvalidRequest
from tailrace.events import Json
from tailrace.log.state import GenerationState
from tailrace.settings import Settings
from tailrace_cli.access import opened, owner_of
from tailrace_cli.frontend_client import opened_frontend
from tailrace_cli.remote_generations import RemoteGenerations, is_wanted
from tailrace_cli.tables import age, table, terminal_columns
from tailrace_cli.terminal import one_line, print_json

MAX_LIMIT = 1000
HEADER = ("ID", "STATUS", "MODEL", "AGE", ">TOKENS", "QUESTION")
OF_ALL = ("ID", "STATUS", "CALLER", "MODEL", "AGE", ">TOKENS", "ERROR", "QUESTION")
"""Of the generations of all callers; the questions are there for keys with `admin:content`."""

NARROW_COLUMNS = 100
"""A narrower terminal has no room for those questions."""


def main(settings: Settings, *, limit: int, as_json: bool, caller: str, search: str | None) -> None:
    """Print a table, or a JSON array. `search`: among the generations of all callers, which a frontend has.

    Raises:
        InvalidRequest: the limit is out of range.
        Unavailable: Redis does not respond, or the frontend.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"--limit is 1 to {MAX_LIMIT}")
    header: Sequence[str] = HEADER
    if search is not None:
        rows, now = asyncio.run(_search(settings, limit, search))
        header = OF_ALL[:-1] if 0 < terminal_columns() < NARROW_COLUMNS else OF_ALL
    elif is_wanted(settings, caller):
        rows, now = asyncio.run(_ask(settings, limit))
    else:
        rows, now = asyncio.run(_list(settings, limit, owner_of(settings, caller)))
    if as_json:
        print_json(rows)
        return
    print("\n".join(table([header, *(_cells(row, now, header) for row in rows)], terminal_columns())))


async def _search(settings: Settings, limit: int, search: str) -> tuple[list[Json], float]:
    async with opened_frontend(settings) as frontend:
        return await RemoteGenerations(frontend).search(limit, search), time.time()


async def _ask(settings: Settings, limit: int) -> tuple[list[Json], float]:
    async with opened_frontend(settings) as frontend:
        return await RemoteGenerations(frontend).newest(limit), time.time()


async def _list(settings: Settings, limit: int, owner: str) -> tuple[list[Json], float]:
    async with opened(settings) as access:
        found, _ = await access.generations.list(owner, limit, None)
        return [_row(state) for state in found], await access.log.server.now() / 1000


def _row(state: GenerationState) -> Json:
    return {
        "id": state.record.id,
        "status": state.status,
        "model": state.record.model,
        "created_at": state.record.created / 1000,
        "attempt": state.attempt,
        "tokens": state.tokens,
        "preview": state.record.preview,
    }


def _cells(row: Json, now: float, header: Sequence[str]) -> list[str]:
    """What a row has below each name of the header."""
    shown = {
        "ID": row["id"],
        "STATUS": row["status"],
        "CALLER": row.get("owner"),
        "MODEL": row["model"],
        "AGE": age(now - row["created_at"]),
        ">TOKENS": row["tokens"],
        "ERROR": row.get("error"),
        "QUESTION": row.get("preview"),
    }
    return [one_line("" if shown[name] is None else str(shown[name])) for name in header]
