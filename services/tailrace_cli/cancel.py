"""`tailrace cancel ID…`: end generations, on whichever worker they run.

As on a frontend, an end that Redis loses within its first seconds is written again. The command therefore prints what
it has done at once, and exits once the ends are safe.
"""

import asyncio
import sys
from collections.abc import Sequence

from tailrace.errors import Gone, NotFound
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_cli.access import Access, opened


def main(settings: Settings, *, generation_ids: Sequence[str]) -> int:
    """Cancel each of them. Returns the exit status: 1 where one does not exist.

    Raises:
        Unavailable: Redis does not respond.
    """
    return asyncio.run(_cancel(settings, generation_ids))


async def _cancel(settings: Settings, generation_ids: Sequence[str]) -> int:
    status = 0
    async with opened(settings) as access:
        confirming = asyncio.create_task(access.confirmations.run(), name="confirmations")
        try:
            for generation_id in dict.fromkeys(generation_ids):
                try:
                    print(f"{generation_id}  {await _cancel_one(access, generation_id)}", flush=True)
                except (NotFound, Gone) as error:
                    print(f"tailrace cancel: {error.message}", file=sys.stderr)
                    status = 1
            await access.confirmations.drain(2 * CONFIRM_S)
        finally:
            await cancel_and_wait(confirming)
    return status


async def _cancel_one(access: Access, generation_id: str) -> str:
    state = await access.find(generation_id, "")
    if state.is_final:
        return f"{state.status} already"
    return (await access.generations.cancel(generation_id, state.record.owner)).status
