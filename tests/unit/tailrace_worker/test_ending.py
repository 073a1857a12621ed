"""The end of a generation on a real log: it is finalized, and written again where it was lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.attempts import AttemptHarness, ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.ends import confirmations_on, terminate
from support.logs import record as record_of
from support.queues import submit
from support.stored_log import Snapshot, done_of_log, expire, lose, stored_entries
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle import confirmation, finalization
from tailrace.lifecycle.confirmation import CONFIRM_MARGIN_S, Confirmations
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace_worker.attempt import Attempt

SLACK_S = 2.0  # a slow machine may take this long beyond a bound


async def test_ending_runs_every_step_of_finalize(harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    finalized = []

    async def record_it(_: Log, __: Queue, state: GenerationState) -> None:
        finalized.append(state.record.id)

    monkeypatch.setattr(finalization, "STEPS", (record_it, *finalization.STEPS))
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    assert finalized == [harness.generation_id]
    assert (await harness.queue.load("anna"))[:2] == (0, 0)


async def test_end_records_what_the_output_takes(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("x" * 5000), end())
    before = (await harness.queue.load("anna")).usage.stored_bytes
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    recorded = (await harness.queue.load("anna")).usage.stored_bytes - before
    assert recorded == 2 * attempt.writer.stored_bytes > 10_000


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


async def confirmed(harness: AttemptHarness, attempt: Attempt, **options: Any) -> Confirmations:
    """The worker's confirmations, once they have confirmed the end or given it up."""
    confirmations = confirmations_on(harness.log, harness.queue, **options)
    assert attempt.ending.written is not None
    confirmations.keep(attempt.ending.written)
    running = asyncio.create_task(confirmations.run())
    try:
        await confirmations.drain(CONFIRM_S + SLACK_S)
    finally:
        await cancel_and_wait(running)
    return confirmations


async def test_end_that_redis_has_lost_is_restored(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    before = await stored_entries(redis, harness.generation_id)
    await lose(redis, harness.generation_id)
    assert len(await confirmed(harness, attempt)) == 0
    assert await stored_entries(redis, harness.generation_id) == before
    assert (await harness.log.state(harness.generation_id)).status == "completed"
    assert (await harness.queue.load("anna"))[:2] == (1, 1)  # the fixture's generation, which waits


async def test_end_is_written_again_on_a_server_with_older_data(
    harness: AttemptHarness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    older = await Snapshot.take(redis, harness.generation_id)
    await attempt.run("worker_lost")
    before = await stored_entries(redis, harness.generation_id)
    await older.bring_back()
    assert len(await confirmed(harness, attempt)) == 0
    assert await stored_entries(redis, harness.generation_id) == before
    assert (await harness.queue.load("anna"))[:2] == (0, 0)


async def test_end_whose_reply_was_lost_before_the_server_lost_it_is_restored(
    harness: AttemptHarness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = []
    finish = harness.log.finish

    async def finish_without_the_first_reply(*arguments: Any) -> AppendResult:
        replies.append(await finish(*arguments))
        if len(replies) == 1:
            raise RedisUnavailable
        return replies[-1]

    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    monkeypatch.setattr(harness.log, "finish", finish_without_the_first_reply)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert [reply.outcome for reply in replies] == [Outcome.OK, Outcome.DONE]
    before = await stored_entries(redis, harness.generation_id)
    await lose(redis, harness.generation_id)
    assert len(await confirmed(harness, attempt)) == 0
    assert await stored_entries(redis, harness.generation_id) == before
    assert (await harness.queue.load("anna"))[:2] == (0, 0)


async def test_retention_counts_from_the_first_call_that_may_have_written_the_end(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, replied_at = harness.log.finish, list[float]()

    async def lose_the_first_reply(*arguments: Any) -> AppendResult:
        answer = await finish(*arguments)
        replied_at.append(time.monotonic())
        if len(replied_at) == 1:
            raise RedisUnavailable
        return answer

    monkeypatch.setattr(harness.log, "finish", lose_the_first_reply)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert attempt.ending.written is not None
    assert attempt.ending.written.written_at < replied_at[0] < replied_at[1]


@pytest.mark.parametrize("error", [RedisUnavailable(), RedisFull(), RedisRefused(detail="no permission")])
async def test_end_that_cannot_be_finalized_is_confirmed_all_the_same(
    harness: AttemptHarness,
    appending: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    async def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(finalization, "STEPS", (refuse,))
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert attempt.ending.written is not None
    assert f"{harness.generation_id}: a sweeper will finalize the end: {error}" in caplog.messages


async def test_end_that_another_process_wrote_is_not_confirmed(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = harness.log.finish

    async def finish_after_a_cancel(*arguments: Any) -> AppendResult:
        monkeypatch.setattr(harness.log, "finish", finish)
        await terminate(harness.log, harness.queue, harness.generation_id, "cancelled")
        return await finish(*arguments)

    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    monkeypatch.setattr(harness.log, "finish", finish_after_a_cancel)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    await attempt.run("worker_lost")
    assert (await harness.done()).status == "cancelled"
    assert attempt.ending.written is None


async def test_end_is_not_written_where_another_process_has_acquired_the_generation_since(
    harness: AttemptHarness,
    redis: Redis,
    appending: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    older = await Snapshot.take(redis, harness.generation_id)
    await attempt.run("worker_lost")
    await older.bring_back()
    await harness.log.acquire(harness.generation_id, "another worker", worker="this worker")
    assert len(await confirmed(harness, attempt)) == 0
    assert (await harness.log.state(harness.generation_id)).status == "running"
    assert f"{harness.generation_id}: the end could not be confirmed: FENCED" in caplog.messages


async def test_end_that_has_expired_is_not_restored(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    await expire(redis, harness.generation_id)
    assert len(await confirmed(harness, attempt)) == 0
    assert not await redis.exists(keys.state(harness.generation_id), keys.log(harness.generation_id))


async def test_end_is_not_restored_once_the_retention_is_over(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded
) -> None:
    attempt = await ended(1)
    await asyncio.sleep(1)
    await lose(redis, harness.generation_id)
    assert len(await confirmed(harness, attempt)) == 0
    assert not await redis.exists(*keys.of_generation(harness.generation_id))


@pytest.mark.parametrize("call", ["positions", "finish"])
async def test_end_is_given_up_within_the_retention_while_redis_is_away(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def away(*_: Any) -> Any:
        raise RedisUnavailable

    attempt = await ended(1)
    await lose(redis, harness.generation_id)
    monkeypatch.setattr(harness.log, call, away)
    async with asyncio.timeout(1 - CONFIRM_MARGIN_S + SLACK_S):
        await confirmed(harness, attempt)


async def test_end_is_given_up_within_the_retention_while_connections_are_lost(
    harness: AttemptHarness, redis: Redis, ended: MakeEnded
) -> None:
    attempt = await ended(1)
    for key in keys.of_generation(harness.generation_id)[:2]:
        await redis.persist(key)  # every check finds the end, so the clock alone limits the checks
    began = time.monotonic()
    assert len(await confirmed(harness, attempt, connected_at=time.monotonic)) == 0
    assert time.monotonic() - began < 1 - CONFIRM_MARGIN_S + SLACK_S
