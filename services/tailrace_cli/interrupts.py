"""Ctrl-C during a command that follows a log."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tailrace.process.tasks import cancel_and_wait

T = TypeVar("T")


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which SIGINT cancels.

    `asyncio.run` cancels the main task from inside the signal handler, and that one cancellation can be lost: redis-py
    polls a connection under a timeout of 0 s before each command, and a task that is cancelled twice in one turn of the
    loop counts as timed out (3 of 5 tries on a terminal). Here the work is cancelled until it has ended.

    Raises:
        CancelledError: the work was interrupted.
    """
    working, interrupted = asyncio.create_task(work, name="command"), asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    waiting = asyncio.create_task(interrupted.wait(), name="interrupt")
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(waiting, *([] if working.done() else [working]))
    return await working
