"""`tailrace ls`: a caller's generations, newest first."""

import asyncio
import shutil
import sys
from collections.abc import Sequence

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest
from tailrace.events import Json
from tailrace.log.state import GenerationState
from tailrace.settings import Settings
from tailrace_cli.access import opened, owner_of
from tailrace_cli.terminal import one_line

MAX_LIMIT = 1000
HEADER = ("ID", "STATUS", "MODEL", "AGE", "TOKENS", "QUESTION")
STEPS = ((60, "s"), (60, "min"), (24, "h"))


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
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print("\n".join(table([HEADER, *(_cells(row, now) for row in rows)], columns)))


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


def age(seconds: float) -> str:
    """A time span in its largest unit: `59 s`, `3 min`, `5 h`, `2 d`."""
    amount = max(0, int(seconds))
    for step, unit in STEPS:
        if amount < step:
            return f"{amount} {unit}"
        amount //= step
    return f"{amount} d"


def table(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Rows in columns, each line cut to the width of the terminal; 0: not cut."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [line if not columns or len(line) <= columns else f"{line[: columns - 1]}…" for line in lines]
