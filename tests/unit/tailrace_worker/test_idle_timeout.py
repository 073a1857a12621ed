"""The idle timeout: a deadline that content moves."""

import asyncio
import time

import pytest

from tailrace_worker.idle_timeout import IdleTimeout


async def test_idle_timeout_fires_after_first_s_without_content() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with IdleTimeout(0.05, 60):
            await asyncio.sleep(10)
    assert 0.05 <= time.monotonic() - started < 5


async def test_idle_timeout_fires_idle_s_after_the_last_content() -> None:
    async def reset_once() -> None:
        async with IdleTimeout(60, 0.05) as idle:
            idle.reset(time.monotonic())
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reset_once(), 5)


async def test_idle_timeout_never_fires_while_content_arrives() -> None:
    async with IdleTimeout(0.3, 0.3) as idle:
        for _ in range(12):
            await asyncio.sleep(0.05)
            idle.reset(time.monotonic())


async def test_idle_timeout_may_be_shortened_and_never_prolonged() -> None:
    async def shorten(seconds: float) -> None:
        async with IdleTimeout(0.2, 60) as idle:
            idle.shorten(seconds)
            await asyncio.sleep(10)

    for seconds, least_s in ((0.05, 0.05), (30, 0.2)):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shorten(seconds), 5)
        assert least_s <= time.monotonic() - started < 4


async def test_idle_timeout_does_not_count_while_it_is_paused() -> None:
    async def pause_once() -> None:
        async with IdleTimeout(0.1, 0.1) as idle:
            idle.pause()
            await asyncio.sleep(0.4)
            idle.reset(time.monotonic())
            await asyncio.sleep(10)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await pause_once()
    assert 0.5 <= time.monotonic() - started < 5


async def test_idle_timeout_leaves_no_timer() -> None:
    async with IdleTimeout(0.02, 0.02) as idle:
        idle.reset(time.monotonic())
    await asyncio.sleep(0.1)


async def test_idle_timeout_lets_other_errors_pass() -> None:
    with pytest.raises(KeyError):
        async with IdleTimeout(60, 60):
            raise KeyError


async def test_idle_timeout_without_any_time_fires_at_once() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5), IdleTimeout(0.0, 60):
            await asyncio.Event().wait()
