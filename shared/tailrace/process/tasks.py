"""Ending tasks for good."""

import asyncio
from typing import Any

AGAIN_S = 0.1


async def cancel_and_wait(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and wait until they are done; what they raise stays with them.

    A cancellation may be swallowed: Python 3.11's `asyncio.wait_for`, which redis-py awaits its sockets with, returns
    its result when both come at once. So whoever goes on is cancelled again.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
