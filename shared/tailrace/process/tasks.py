"""Reliable cancellation of tasks, and their errors."""

import asyncio
from typing import Any

RETRY_S = 0.1


async def cancel_and_wait(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel the tasks and wait until they are done. Their exceptions stay in the tasks.

    A cancellation can be lost: Python 3.11's `asyncio.wait_for`, with which redis-py awaits its sockets, returns its
    result if result and cancellation arrive together. A task that is still running is therefore cancelled again.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RETRY_S)


def retrieve_error(task: asyncio.Task[Any]) -> None:
    """A callback for a task that many await: where all of them were cancelled, asyncio would log its error as one that
    was never retrieved."""
    if not task.cancelled():
        task.exception()
