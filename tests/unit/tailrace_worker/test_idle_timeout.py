"""A deadline that content moves."""

import asyncio
import time

import pytest

from tailrace_worker.idle_timeout import IdleTimeout


async def test_who_says_nothing_at_all_is_silent_after_the_first_patience() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with IdleTimeout(0.05, 60):
            await asyncio.sleep(10)
    assert 0.05 <= time.monotonic() - began < 5


async def test_who_was_heard_and_falls_silent_has_the_idle_time() -> None:
    async def speak_once() -> None:
        async with IdleTimeout(60, 0.05) as idle:
            idle.reset(time.monotonic())
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(speak_once(), 5)


async def test_who_goes_on_speaking_is_never_silent() -> None:
    async with IdleTimeout(0.3, 0.3) as idle:
        for _ in range(12):
            await asyncio.sleep(0.05)
            idle.reset(time.monotonic())


async def test_who_is_done_leaves_no_timer() -> None:
    async with IdleTimeout(0.02, 0.02) as idle:
        idle.reset(time.monotonic())
    await asyncio.sleep(0.1)


async def test_another_error_is_its_own() -> None:
    with pytest.raises(KeyError):
        async with IdleTimeout(60, 60):
            raise KeyError
