"""Word that Redis is back."""

import asyncio

from tailrace_worker.reconnects import Reconnects


async def test_it_wakes_whoever_waits_and_nobody_who_comes_later() -> None:
    reconnects = Reconnects()
    waiting = [asyncio.create_task(reconnects.within(60)) for _ in range(2)]
    await asyncio.sleep(0)
    reconnects.ring()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await reconnects.within(0.01) is False
