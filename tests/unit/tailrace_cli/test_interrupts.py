"""Ctrl-C, also where the first cancellation is lost."""

import asyncio
import os
import signal

import pytest

from tailrace_cli.interrupts import interruptible


def test_result_of_the_work_is_returned() -> None:
    assert asyncio.run(interruptible(asyncio.sleep(0, "done"))) == "done"


@pytest.mark.parametrize("losses", [0, 2])
def test_interrupt_cancels_the_work_even_if_a_cancellation_is_lost(losses: int) -> None:
    cancellations = 0

    async def work() -> None:
        nonlocal cancellations
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations > losses:
                    raise

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interruptible(work()))
    assert cancellations == losses + 1


def test_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(interruptible(fail()))


async def test_work_in_another_thread_is_not_interrupted() -> None:
    assert await asyncio.to_thread(asyncio.run, interruptible(asyncio.sleep(0, "done"))) == "done"
