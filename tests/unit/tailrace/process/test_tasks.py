import asyncio

from tailrace.process.tasks import cancel_and_wait


async def test_swallowed_cancellation_is_repeated() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert task.cancelled()
    assert swallowed == 2


async def test_finished_and_missing_tasks_are_left_alone() -> None:
    async def fails() -> None:
        raise ValueError

    done = asyncio.create_task(fails())
    await asyncio.wait([done])
    await cancel_and_wait(done, None)
    assert isinstance(done.exception(), ValueError)
