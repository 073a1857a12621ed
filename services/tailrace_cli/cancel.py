"""`tailrace cancel ID…`: end generations, on whichever worker they run.

Over Redis, as on a frontend, an end that Redis loses within its first seconds is written again. The command therefore
prints what it has done at once, and exits once the ends are safe. A frontend (`--url`) does that itself.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from tailrace.errors import Gone, NotFound
from tailrace.events import Json
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_cli.access import Access, opened
from tailrace_cli.frontend_client import opened_frontend
from tailrace_cli.remote_generations import RemoteGenerations, is_wanted
from tailrace_cli.terminal import print_json

Cancel = Callable[[str], Awaitable[tuple[str, bool]]]
"""Ends a generation: its status, and whether it had not ended before."""


def main(settings: Settings, *, generation_ids: Sequence[str], as_json: bool) -> int:
    """Cancel each of them. Returns the exit status: 1 where one does not exist.

    Raises:
        Unavailable: Redis does not respond, or the frontend.
    """
    return asyncio.run(_cancel(settings, list(dict.fromkeys(generation_ids)), as_json=as_json))


async def _cancel(settings: Settings, generation_ids: Sequence[str], *, as_json: bool) -> int:
    rows: list[Json] = []
    async with _by_frontend(settings) if is_wanted(settings) else _by_redis(settings) as cancel:
        for generation_id in generation_ids:
            row = await _cancel_one(generation_id, cancel)
            rows.append(row)
            if "error" in row:
                print(f"tailrace cancel: {row['error']}", file=sys.stderr)
            elif not as_json:
                print(f"{generation_id}  {row['status']}{'' if row['changed'] else ' already'}", flush=True)
        if as_json:
            print_json(rows)
    return int(any("error" in row for row in rows))


async def _cancel_one(generation_id: str, cancel: Cancel) -> Json:
    try:
        status, changed = await cancel(generation_id)
    except (NotFound, Gone) as error:
        return {"id": generation_id, "error": error.message}
    return {"id": generation_id, "status": status, "changed": changed}


@asynccontextmanager
async def _by_frontend(settings: Settings) -> AsyncIterator[Cancel]:
    async with opened_frontend(settings) as frontend:
        yield RemoteGenerations(frontend).cancel


@asynccontextmanager
async def _by_redis(settings: Settings) -> AsyncIterator[Cancel]:
    async with opened(settings) as access:
        confirming = asyncio.create_task(access.confirmations.run(), name="confirmations")
        try:
            yield lambda generation_id: _cancel_in_redis(access, generation_id)
            await access.confirmations.drain(2 * CONFIRM_S)
        finally:
            await cancel_and_wait(confirming)


async def _cancel_in_redis(access: Access, generation_id: str) -> tuple[str, bool]:
    state = await access.find(generation_id, "")
    if state.is_final:
        return state.status, False
    return (await access.generations.cancel(generation_id, state.record.owner)).status, True
