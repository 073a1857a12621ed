import asyncio
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.asyncio import Redis

from support.api import eventually
from support.queues import queue_on
from support.subscriptions import TIMEOUT_S, subscribed
from system.injectors import link
from tailrace import keys
from tailrace.queue import DELIVER_WEBHOOKS, JOB, Queue, arq_jobs, dump_job, load_job
from tailrace.queue.arq_jobs import CLOCK_SKEW_S, HOLD_S
from tailrace.redis.connection import connect
from tailrace_cli.embedded import EmbeddedServer


def test_job_is_json_whatever_its_content() -> None:
    job: dict[str, Any] = {
        "t": None, "f": JOB, "a": ("gen", "job"), "k": {}, "et": 1, "r": ValueError("odd"), "s": 1.5,
    }  # fmt: skip
    payload = dump_job(job)
    assert json.loads(payload) == load_job(payload)
    assert load_job(payload) == job | {"a": ["gen", "job"], "r": "ValueError('odd')"}


async def test_job_in_redis_is_no_pickle(redis: Redis, queue: Queue) -> None:
    await queue.jobs.enqueue("gen", "job", 60)
    payload = await redis.get(job_key_prefix + "job")
    assert payload.startswith(b"{")
    job = json.loads(payload)
    assert (job["f"], job["a"], job["k"]) == (JOB, ["gen", "job"], {})


async def test_job_is_due_at_once_by_any_clock_and_expires(redis: Redis, queue: Queue) -> None:
    await queue.jobs.enqueue("gen", "job", 77)
    due = await redis.zscore(keys.QUEUE, "job")
    assert due is not None
    assert due <= await queue.server.now() - (CLOCK_SKEW_S - 60) * 1000
    assert 0 < await redis.ttl(job_key_prefix + "job") <= 77


async def test_job_that_is_no_generation_goes_first(queue: Queue) -> None:
    for name in ("a", "b"):
        await queue.jobs.enqueue("gen", name, 60)
    assert await queue.jobs.enqueue("anna/whe_1", "webhooks", 60, job=DELIVER_WEBHOOKS) == 1
    assert [await queue.jobs.position(name) for name in ("a", "b")] == [2, 3]


async def test_job_wakes_the_workers(redis: Redis, queue: Queue) -> None:
    async with subscribed(redis, keys.WAKE) as messages, asyncio.timeout(TIMEOUT_S):
        await queue.jobs.enqueue("gen", "job", 60)
        assert await messages.get() == b""


async def test_job_enqueued_twice_is_one_job(redis: Redis, queue: Queue) -> None:
    assert [await queue.jobs.enqueue("gen", "job", 60) for _ in range(2)] == [1, 1]
    assert len(await redis.keys(job_key_prefix + "*")) == await queue.jobs.depth() == 1


async def test_job_that_is_removed_leaves_no_keys(redis: Redis, queue: Queue) -> None:
    await queue.jobs.enqueue("gen", "job", 60)
    for prefix in (in_progress_key_prefix, retry_key_prefix):
        await redis.set(prefix + "job", b"1")
    for _ in range(2):
        await queue.jobs.remove("job")
        assert await redis.dbsize() == 0


async def test_positions_count_from_1_in_order_of_enqueueing(queue: Queue) -> None:
    names = ["a", "b", "c"]
    assert [await queue.jobs.enqueue("gen", name, 60) for name in names] == [1, 2, 3]
    assert [await queue.jobs.position(name) for name in names] == [1, 2, 3]
    await queue.jobs.mark_started("a")
    assert [await queue.jobs.position(name) for name in names] == [None, 1, 2]
    assert await queue.jobs.depth() == 2


async def test_job_waits_until_a_worker_has_started_it(redis: Redis, queue: Queue) -> None:
    names = ["waits", "started", "expired", "started and expired", "unknown"]
    for name in names[:-1]:
        await queue.jobs.enqueue("gen", name, 60)
    for name in names:
        if "started" in name:
            await redis.set(in_progress_key_prefix + name, b"1")
        if "expired" in name:
            await redis.delete(job_key_prefix + name)
    assert await queue.jobs.is_waiting(names) == [True, False, False, False, False]
    await queue.jobs.mark_started("waits")
    assert await queue.jobs.is_waiting(["waits"]) == [False]
    assert await queue.jobs.is_waiting([]) == []


async def test_jobs_from_before_a_failover_are_held_back_and_later_ones_are_not(tmp_path: Path) -> None:
    """The promoted replica has been up for longer than the hold, and may lack the newest marks."""
    one, other = EmbeddedServer(tmp_path / "one"), EmbeddedServer(tmp_path / "other")
    one.start()
    other.start()
    async with link(one.port, random.Random(1)) as address:
        redis = connect(f"redis://127.0.0.1:{address.port}/0")
        queue = queue_on(redis)
        async with Redis.from_url(other.url) as replica:
            try:
                await replica.execute_command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
                await replica.execute_command("REPLICAOF", "127.0.0.1", one.port)
                await asyncio.sleep(1.1)  # jobs of the second in which a server starts count as older
                await queue.jobs.enqueue("gen", "before", 3600)
                assert await queue.jobs.take("before", "worker", 1000) is not None
                await queue.jobs.enqueue("gen", "waiting", 3600)
                await eventually(partial(has_job, replica, "waiting"), 30)
                await eventually(partial(is_up_for, replica, HOLD_S + 1), 30)
                await replica.execute_command("REPLICAOF", "NO", "ONE")
                address.target = other.port
                address.cut()
                await replica.delete(in_progress_key_prefix + "before")  # which the replica had not received
                assert await queue.jobs.take("before", "another worker", 1000) is None
                await queue.jobs.enqueue("gen", "since", 3600)
                assert await queue.jobs.take("since", "another worker", 1000) is not None
                await eventually(lambda: queue.jobs.take("waiting", "another worker", 1000), HOLD_S + 10)
            finally:
                await redis.aclose()
                other.stop()
                one.stop()


async def has_job(redis: Redis, job_id: str) -> bool:
    return await redis.zscore(keys.QUEUE, job_id) is not None


async def is_up_for(redis: Redis, seconds: float) -> bool:
    return bool((await redis.info("server"))["uptime_in_seconds"] >= seconds)


async def test_jobs_from_before_a_restart_are_held_back_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have restarted with older data, in which jobs wait that have run since.

    The hold counts from the second in which the server started, or from when the worker noticed that, if it was before.
    So it ends up to a second before the run is `HOLD_S` old by the worker's count (`ServerRun.age_s`).
    """
    monkeypatch.setattr(arq_jobs, "HOLD_S", 600)
    server = EmbeddedServer(tmp_path)
    server.start()
    redis = connect(server.url)
    queue = queue_on(redis)
    try:
        await asyncio.sleep(1.1)  # servers report their age in whole seconds; the restart is within the second of a job
        await queue.jobs.enqueue("gen", "before", 3600)
        assert await queue.jobs.take("before", "worker", 1000) is not None
        await redis.delete(in_progress_key_prefix + "before")
        server.stop()
        restarted = time.time()
        server.start()
        assert await queue.jobs.take("before", "worker", 1000) is None
        await queue.jobs.enqueue("gen", "since", 3600)
        assert await queue.jobs.take("before", "worker", 1000) is None
        assert await queue.jobs.take("since", "worker", 1000) is not None
        assert await queue.jobs.take("since", "another worker", 1000) is None
        monkeypatch.setattr(arq_jobs, "HOLD_S", HOLD_S)
        await eventually(lambda: queue.jobs.take("before", "worker", 1000), HOLD_S + 10)
        assert time.time() - restarted >= HOLD_S
    finally:
        await redis.aclose()
        server.stop()
