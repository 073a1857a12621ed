"""Word that Redis is back."""

import asyncio

from tailrace_worker.reconnect_signal import ReconnectSignal


async def test_it_wakes_whoever_waits_and_nobody_who_comes_later() -> None:
    reconnects = ReconnectSignal()
    waiting = [asyncio.create_task(reconnects.wait(60)) for _ in range(2)]
    await asyncio.sleep(0)
    reconnects.notify()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await reconnects.wait(0.01) is False
