"""`tailrace ls`: a caller's generations, newest first."""

import asyncio
import time

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
HEADER = ("ID", "STATUS", "MODEL", "AGE", "TOKENS", "QUESTION")


def main(settings: Settings, *, limit: int, as_json: bool, caller: str) -> None:
    """Print a table, or a JSON array.

    Raises:
        InvalidRequest: the limit is out of range.
        Unavailable: Redis does not respond, or the frontend.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"--limit is 1 to {MAX_LIMIT}")
    if is_wanted(settings, caller):
        rows, now = asyncio.run(_ask(settings, limit))
    else:
        rows, now = asyncio.run(_list(settings, limit, owner_of(settings, caller)))
    if as_json:
        print_json(rows)
        return
    print("\n".join(table([HEADER, *(_cells(row, now) for row in rows)], terminal_columns())))


async def _ask(settings: Settings, limit: int) -> tuple[list[Json], float]:
    async with opened_frontend(settings) as frontend:
        return await RemoteGenerations(frontend).list(limit), time.time()


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


def _cells(row: Json, now: float) -> tuple[str, ...]:
    tokens = "" if row["tokens"] is None else str(row["tokens"])
    shown = row["model"], age(now - row["created_at"]), tokens, row["preview"] or ""
    return row["id"], row["status"], *(one_line(each) for each in shown)
