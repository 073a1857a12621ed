"""The end of a generation on a real log: it is finalized, confirmed, and written again where it was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.attempts import AttemptHarness, ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.logs import record as record_of
from support.queues import submit
from support.stored_log import Snapshot, done_of_log, expire, lose, stored_entries
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle import finalization
from tailrace.lifecycle.termination import terminate
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace_worker import ending as module
from tailrace_worker.attempt import Attempt
from tailrace_worker.ending import CONFIRM_MARGIN_S
from tailrace_worker.reconnect_signal import ReconnectSignal

SLACK_S = 2.0  # a slow machine may take this long beyond a bound


async def test_ending_runs_every_step_of_finalize(harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    finalized = []

    async def record_it(_: Log, __: Queue, state: GenerationState) -> None:
        finalized.append(state.record.id)

    monkeypatch.setattr(finalization, "STEPS", (record_it, *finalization.STEPS))
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    assert finalized == [harness.generation_id]
    assert await harness.queue.load("anna") == (0, 0, None)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_end_of_a_fenced_attempt_is_not_written(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    """A cancel acquires the log after the answer was folded; it has or has not written its end."""
    finish = harness.log.finish

    async def cancel_first(generation_id: str, *arguments: Any) -> AppendResult:
        monkeypatch.undo()
        if has_ended:
            await terminate(harness.log, harness.queue, generation_id, "cancelled")
        else:
            await harness.log.acquire(generation_id, "a canceller", terminating="cancelled")
        return await finish(generation_id, *arguments)

    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    monkeypatch.setattr(harness.log, "finish", cancel_first)
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert attempt.writer.output.done is None
    assert attempt.writer.stopped.result().outcome is (Outcome.DONE if has_ended else Outcome.FENCED)
    done = await done_of_log(harness.log, harness.generation_id)
    assert (done and done.status) == ("cancelled" if has_ended else None)
    assert (await harness.queue.load("anna"))[1] == (not has_ended)


MakeEnded = Callable[[int], Awaitable[Attempt]]
"""Of the retention in seconds: makes an attempt that has just written its end."""


@pytest.fixture
def ended(harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch) -> MakeEnded:
    async def make(retention_s: int) -> Attempt:
        harness.generation_id = new_generation_id()
        record = record_of(id=harness.generation_id, options=Options(60, retention_s))
        await submit(harness.log, harness.queue, record)
        ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
        attempt = await harness.attempt()
        await attempt.run("worker_lost")
        return attempt

    return make


async def test_confirm_restores_an_end_that_redis_has_lost(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    before = await stored_entries(redis, harness.generation_id)
    await lose(redis, harness.generation_id)
    await attempt.ending.confirm(ReconnectSignal())
    assert await stored_entries(redis, harness.generation_id) == before
    assert (await harness.log.state(harness.generation_id)).status == "completed"
    assert await harness.queue.load("anna") == (1, 1, None)  # the fixture's generation, which waits


async def test_confirm_writes_the_end_again_on_a_server_with_older_data(
    harness: AttemptHarness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    older = await Snapshot.take(redis, harness.generation_id)
    await attempt.run("worker_lost")
    before = await stored_entries(redis, harness.generation_id)
    await older.bring_back()
    await attempt.ending.confirm(ReconnectSignal())
    assert await stored_entries(redis, harness.generation_id) == before
    assert await harness.queue.load("anna") == (0, 0, None)


async def test_confirm_restores_an_end_whose_reply_was_lost_before_the_server_lost_it(
    harness: AttemptHarness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = []
    finish = harness.log.finish

    async def finish_without_the_first_reply(*arguments: Any) -> AppendResult:
        replies.append(await finish(*arguments))
        if len(replies) == 1:
            raise RedisUnavailable
        return replies[-1]

    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    monkeypatch.setattr(harness.log, "finish", finish_without_the_first_reply)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert [reply.outcome for reply in replies] == [Outcome.OK, Outcome.DONE]
    before = await stored_entries(redis, harness.generation_id)
    await lose(redis, harness.generation_id)
    await attempt.ending.confirm(ReconnectSignal())
    assert await stored_entries(redis, harness.generation_id) == before
    assert await harness.queue.load("anna") == (0, 0, None)


async def test_confirm_leaves_an_end_that_another_process_wrote(
    harness: AttemptHarness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = harness.log.finish

    async def finish_after_a_cancel(*arguments: Any) -> AppendResult:
        monkeypatch.setattr(harness.log, "finish", finish)
        await terminate(harness.log, harness.queue, harness.generation_id, "cancelled")
        return await finish(*arguments)

    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    monkeypatch.setattr(harness.log, "finish", finish_after_a_cancel)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert (await harness.done()).status == "cancelled"
    await lose(redis, harness.generation_id)
    await attempt.ending.confirm(ReconnectSignal())
    assert not await redis.exists(*keys.of_generation(harness.generation_id)[:2])


async def test_confirm_restores_nothing_that_has_expired(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    await expire(redis, harness.generation_id)
    await attempt.ending.confirm(ReconnectSignal())
    assert not await redis.exists(keys.state(harness.generation_id), keys.log(harness.generation_id))


async def test_confirm_restores_nothing_once_the_retention_is_over(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded
) -> None:
    attempt = await ended(1)
    await asyncio.sleep(1)
    await lose(redis, harness.generation_id)
    await attempt.ending.confirm(ReconnectSignal())
    assert not await redis.exists(*keys.of_generation(harness.generation_id))


async def test_confirm_ends_within_the_retention_while_redis_is_away(
    harness: AttemptHarness, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def finish(*_: Any) -> AppendResult:
        raise RedisUnavailable

    attempt = await ended(1)
    monkeypatch.setattr(harness.log, "finish", finish)
    async with asyncio.timeout(1 - CONFIRM_MARGIN_S + SLACK_S):
        await attempt.ending.confirm(ReconnectSignal())


async def test_confirm_ends_within_the_retention_while_connections_are_lost(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded
) -> None:
    async def lose_connections() -> None:
        while True:
            reconnects.notify()
            await asyncio.sleep(0.02)

    reconnects = ReconnectSignal()
    attempt = await ended(1)
    for key in keys.of_generation(harness.generation_id)[:2]:
        await redis.persist(key)  # every check finds the end, so the clock alone limits the task
    losing = asyncio.create_task(lose_connections())
    try:
        async with asyncio.timeout(1 - CONFIRM_MARGIN_S + SLACK_S):
            await attempt.ending.confirm(reconnects)
    finally:
        await cancel_and_wait(losing)
