import asyncio

from tailrace_worker.reconnect_signal import ReconnectSignal


async def test_notify_wakes_every_waiting_task_and_no_later_one() -> None:
    reconnects = ReconnectSignal()
    waiting = [asyncio.create_task(reconnects.wait(60)) for _ in range(2)]
    await asyncio.sleep(0)
    reconnects.notify()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await reconnects.wait(0.01) is False
