"""`tailrace ls`: a caller's generations, newest first."""

import asyncio
import sys

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest
from tailrace.events import Json
from tailrace.log.state import GenerationState
from tailrace.settings import Settings
from tailrace_cli.access import opened, owner_of
from tailrace_cli.tables import age, table, terminal_columns
from tailrace_cli.terminal import one_line

MAX_LIMIT = 1000
HEADER = ("ID", "STATUS", "MODEL", "AGE", "TOKENS", "QUESTION")


def main(settings: Settings, *, limit: int, as_json: bool, caller: str) -> None:
    """Print a table, or a JSON array.

    Raises:
        InvalidRequest: the limit is out of range.
        Unavailable: Redis does not respond.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"--limit is 1 to {MAX_LIMIT}")
    rows, now = asyncio.run(_list(settings, limit, owner_of(settings, caller)))
    if as_json:
        sys.stdout.buffer.write(jsoncodec.dumps(rows) + b"\n")
        return
    print("\n".join(table([HEADER, *(_cells(row, now) for row in rows)], terminal_columns())))


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
    shown = row["model"], age(now - row["created_at"]), tokens, row["preview"]
    return row["id"], row["status"], *(one_line(each) for each in shown)
