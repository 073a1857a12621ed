"""Several upstreams behind one name: attempts on a real log, with a real server for circuits and slots."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on
from support.logs import record
from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import Done, GenerationRecord, Json
from tailrace.ids import new_generation_id, new_token
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_worker import fallback
from tailrace_worker.appenders import Appenders
from tailrace_worker.attempt import Attempt, UpstreamInterrupted
from tailrace_worker.json_checker import JsonChecker
from tailrace_worker.upstream import retry_after
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream_pool import UpstreamPool

UPSTREAM = '[[upstreams]]\nname = "{name}"\nbase_url = "http://{name}.test/v1"\n'
THREE = "".join(UPSTREAM.format(name=name) for name in ("one", "two", "three"))

Behaviour = Callable[[], Awaitable[None]]


def status_error(status: int, **headers: str) -> openai.APIStatusError:
    request = httpx2.Request("POST", "http://one.test/v1/chat/completions")
    response = httpx2.Response(
        status, request=request, headers={name.replace("_", "-"): headers[name] for name in headers}
    )
    return openai.APIStatusError("No.", response=response, body={"message": f"status {status}"})


class Harness:
    """One worker with a `tailrace.toml`. `behaviours`: what an upstream does before it answers, by name; it answers
    with its name. `asked`: upstream and model of each request; `in_use`: requests that stream now."""

    def __init__(self, redis: Redis, log: Log, file: Path, text: str, **settings: Any) -> None:
        file.write_text(text)
        self.file = file
        self.log = log
        self.queue = queue_on(redis)
        self.settings = Settings(config=str(file), **settings)
        self.pool = UpstreamPool(self.settings, self.queue.upstreams, "this worker")
        self.confirmations = confirmations_on(log, self.queue)
        self.appenders = Appenders(log, self.queue.index.register)
        self.behaviours: dict[str, Behaviour] = {}
        self.asked: list[tuple[str, str]] = []
        self.in_use: dict[str, int] = {}
        self.most_in_use = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def open(
        self, client: UpstreamClient, _: GenerationRecord, request: Json
    ) -> AsyncGenerator[list[bytes], None]:
        name = client.config.name
        self.asked.append((name, request["model"]))
        self.in_use[name] = self.in_use.get(name, 0) + 1
        self.most_in_use = max(self.most_in_use, self.in_use[name])
        try:
            await asyncio.sleep(0)
            if name in self.behaviours:
                await self.behaviours[name]()
            yield [json.dumps({"choices": [{"index": 0, "delta": {"content": name}}]}).encode()]
            await self.may_end.wait()
            yield [json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()]
        finally:
            self.in_use[name] -= 1

    def fail(self, name: str, error: Exception, times: int | None = None) -> None:
        """From now on the upstream fails so; `times`: that often, then it answers."""
        left = times

        async def behave() -> None:
            nonlocal left
            if left == 0:
                return
            if left is not None:
                left -= 1
            raise error

        self.behaviours[name] = behave

    async def generate(self, model: str = "m", *, foreground: bool = False, **fields: Any) -> Done:
        """The end of a new generation."""
        generation_id = new_generation_id()
        created = record(id=generation_id, model=model, foreground=foreground)
        await submit(self.log, self.queue, created, {"model": model, "messages": [], **fields})
        grant = await self.log.acquire(generation_id, new_token(), worker="this worker")
        appender = self.appenders.join(generation_id)
        await Attempt(
            self.settings, self.log, self.queue, self.confirmations, appender, self.pool, grant,
            JsonChecker(),
        ).run("worker_lost")  # fmt: skip
        done = await done_of_log(self.log, generation_id)
        assert done is not None
        return done

    @property
    def names_asked(self) -> list[str]:
        return [name for name, _ in self.asked]

    async def settled(self) -> None:
        """Wait for the commands that no call waits for."""
        await asyncio.gather(*self.pool.admission._tasks)


MakeHarness = Callable[..., Harness]


@pytest.fixture
async def make(redis: Redis, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeHarness]:
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.001)
    made: list[tuple[Harness, asyncio.Task[None]]] = []

    def build(text: str = THREE, **settings: Any) -> Harness:
        harness = Harness(redis, log, tmp_path / "tailrace.toml", text, **settings)
        dialect = Dialect(harness.open, ChatTranslator)
        monkeypatch.setattr(fallback, "DIALECTS", {"chat": dialect, "responses": dialect})
        made.append((harness, asyncio.create_task(harness.appenders.run())))
        return harness

    yield build
    for harness, appending in made:
        await cancel_and_wait(appending)
        await harness.pool.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of other tasks
            await asyncio.sleep(0.005)


def text_of(done: Done) -> str:
    return "".join(item.text or "" for item in done.output)


# ── which one is asked ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_first_upstream_of_the_file_answers_and_done_has_its_name(make: MakeHarness) -> None:
    harness = make()
    done = await harness.generate()
    assert (done.status, text_of(done), done.upstream.name) == ("completed", "one", "one")
    assert harness.names_asked == ["one"]


@pytest.mark.parametrize(("answers", "asked"), [(1, ["one", "two"]), (2, ["two"])])
async def test_upstream_whose_api_has_no_place_for_the_request_is_not_asked(
    make: MakeHarness, answers: int, asked: list[str]
) -> None:
    responses = UPSTREAM.format(name="one") + 'dialect = "responses"\n'
    harness = make(responses + UPSTREAM.format(name="two"))
    harness.fail("one", status_error(401))
    done = await harness.generate(n=answers)
    assert (text_of(done), harness.names_asked) == ("two", asked)


@pytest.mark.parametrize(
    "error", [status_error(503), status_error(429), status_error(401), status_error(404), status_error(402),
              ConnectionLost("x"), TimeoutError(), ValueError("no SSE")],
    ids=str,
)  # fmt: skip
async def test_next_upstream_answers_where_one_fails_before_any_content(make: MakeHarness, error: Exception) -> None:
    harness = make()
    harness.fail("one", error)
    harness.fail("two", error)
    done = await harness.generate()
    assert (done.status, text_of(done), done.upstream.name) == ("completed", "three", "three")
    assert harness.names_asked == ["one", "two", "three"]


async def test_rate_limit_of_a_foreground_request_goes_to_the_next_upstream(make: MakeHarness) -> None:
    harness = make()
    harness.fail("one", status_error(429))
    assert text_of(await harness.generate(foreground=True)) == "two"


async def test_fault_of_the_request_is_final_at_the_first_upstream(make: MakeHarness) -> None:
    harness = make()
    harness.fail("one", status_error(400))
    done = await harness.generate()
    assert (done.status, done.error and done.error.status) == ("failed", 400)
    assert harness.names_asked == ["one"]


async def test_what_an_upstream_held_back_is_no_part_of_the_next_ones_answer(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make()
    held_back = {"delta": {"role": "assistant"}, "content_filter_results": {"hate": "safe"}}

    async def broken(client: UpstreamClient, _: GenerationRecord, __: Json) -> AsyncGenerator[list[bytes], None]:
        if client.config.name != "three":
            yield [json.dumps({"choices": [{"index": 0, **held_back}]}).encode()]
            raise ConnectionLost("x")
        yield [json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()]

    monkeypatch.setattr(fallback, "DIALECTS", {"chat": Dialect(broken, ChatTranslator)})
    done = await harness.generate()
    assert [(item.item, item.type, item.text) for item in done.output] == [(0, "text", "Hi")]
    assert (done.status, done.open) == ("completed", [0])


async def test_retry_that_the_upstream_asks_for_follows_whatever_the_status_is(make: MakeHarness) -> None:
    harness = make(UPSTREAM.format(name="one"))
    harness.fail("one", status_error(400, x_should_retry="true"), times=1)
    assert text_of(await harness.generate()) == "one"
    assert harness.names_asked == ["one", "one"]


async def test_upstream_that_breaks_off_after_content_is_not_replaced(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make()

    async def broken(client: UpstreamClient, _: GenerationRecord, __: Json) -> AsyncGenerator[list[bytes], None]:
        harness.asked.append((client.config.name, ""))
        yield [json.dumps({"choices": [{"index": 0, "delta": {"content": "Hal"}}]}).encode()]
        raise ConnectionLost("x")

    monkeypatch.setattr(fallback, "DIALECTS", {"chat": Dialect(broken, ChatTranslator)})
    with pytest.raises(UpstreamInterrupted, match="upstream_lost"):
        await harness.generate()
    assert harness.names_asked == ["one"]


async def test_every_upstream_is_asked_as_often_as_a_single_one(make: MakeHarness) -> None:
    harness = make(upstream_retries=2, circuit_failures=0)
    for name in ("one", "two", "three"):
        harness.fail(name, status_error(503))
    done = await harness.generate()
    assert (done.status, done.error and done.error.code) == ("failed", "upstream_error")
    assert sorted(harness.names_asked) == sorted(3 * ["one", "two", "three"])
    assert harness.names_asked[:3] == ["one", "two", "three"]


async def test_upstream_that_recovers_between_two_retries_answers(make: MakeHarness) -> None:
    harness = make()
    harness.fail("one", status_error(503), times=2)
    harness.fail("two", status_error(404))
    harness.fail("three", status_error(401))
    assert text_of(await harness.generate()) == "one"
    assert sorted(harness.names_asked) == ["one", "one", "one", "three", "two"]


async def test_each_failure_is_a_line_of_the_log(make: MakeHarness, caplog: pytest.LogCaptureFixture) -> None:
    harness = make(THREE, upstream_retries=1)
    harness.fail("one", status_error(429), times=1)
    harness.fail("two", status_error(404))
    await harness.generate()
    lines = [each.partition(": ")[2] for each in caplog.messages if "failed, and" in each]
    assert lines == [
        "upstream one failed, and may be asked again in 0.0 s (request 1 of up to 2): status 429 [http://one.test/v1]",
        "upstream two failed, and is not asked again (request 1 of up to 2): status 404 [http://two.test/v1]",
    ]


async def test_error_is_that_of_an_upstream_that_may_work_later(make: MakeHarness) -> None:
    harness = make(upstream_retries=0)
    harness.fail("one", status_error(404))
    harness.fail("two", status_error(503))
    harness.fail("three", status_error(404))
    done = await harness.generate()
    assert done.error is not None
    assert (done.error.code, done.error.status) == ("upstream_error", 503)


async def test_alias_is_sent_as_the_upstreams_own_name(make: MakeHarness) -> None:
    text = UPSTREAM.format(name="one") + 'aliases = { fast = "big" }\n'
    harness = make(text + UPSTREAM.format(name="two") + 'aliases = { fast = "small" }\n')
    harness.fail("one", status_error(503))
    done = await harness.generate("fast")
    assert harness.asked == [("one", "big"), ("two", "small")]
    assert done.status == "completed"


async def test_model_that_no_upstream_serves_fails_at_once(make: MakeHarness) -> None:
    harness = make(UPSTREAM.format(name="one") + 'models = ["llama-*"]\n')
    done = await harness.generate("gpt")
    assert done.error is not None
    assert (done.status, done.error.code) == ("failed", "upstream_no_model")
    assert harness.asked == []


async def test_failure_names_the_keys_of_the_file_and_none_of_its_secrets(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_KEY", "sk-secret-of-one-0123")
    monkeypatch.setenv("TWO_KEY", "sk-secret-of-two-0123")
    text = UPSTREAM.format(name="one") + 'api_key_env = "ONE_KEY"\nmodels = ["m"]\n'
    harness = make(text + UPSTREAM.format(name="two") + 'api_key_env = "TWO_KEY"\nmodels = ["n"]\n', upstream_retries=0)
    harness.fail("one", status_error(401))
    done = await harness.generate()
    assert done.error is not None
    assert done.error.message == "The upstream does not accept the key in ONE_KEY (status 401)."
    quoting = openai.APIStatusError(
        "No.", response=httpx2.Response(503, request=httpx2.Request("POST", "http://x")),
        body={"message": "one sent sk-secret-of-one-0123, two sent sk-secret-of-two-0123"},
    )  # fmt: skip
    harness.fail("one", quoting)
    done = await harness.generate()
    assert done.error is not None
    assert done.error.message == "The upstream failed (status 503): one sent ***, two sent ***"


# ── circuits ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_circuit_opens_after_the_failures_and_the_upstream_is_not_called(
    make: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make(circuit_failures=3)
    harness.fail("one", status_error(503))
    for _ in range(8):
        assert text_of(await harness.generate()) == "two"
        await harness.settled()
    assert harness.names_asked.count("one") == 3
    assert [each for each in caplog.messages if "circuit" in each] == [
        "upstream one: its circuit is open; a probe is due in 10.0 s"
    ]


@pytest.mark.parametrize("status", [400, 404])
async def test_probe_that_is_refused_closes_the_circuit(make: MakeHarness, status: int) -> None:
    harness = make(UPSTREAM.format(name="one"), circuit_failures=1, circuit_probe_s=0.2, upstream_retries=0)
    harness.fail("one", status_error(503), times=1)
    assert (await harness.generate()).status == "failed"
    await harness.settled()
    harness.fail("one", status_error(status), times=1)
    refused = await harness.generate()
    assert (refused.error and refused.error.status) == status
    await harness.settled()
    assert await harness.queue.upstreams.open_circuits(["one"]) == {}
    assert text_of(await harness.generate()) == "one"


async def test_circuit_stays_closed_under_a_request_that_always_fails(make: MakeHarness) -> None:
    harness = make(circuit_failures=2)
    for name in ("one", "two", "three"):
        harness.fail(name, status_error(500))
    assert (await harness.generate()).status == "failed"
    await harness.settled()
    assert await harness.queue.upstreams.open_circuits(["one", "two", "three"]) == {}


async def test_circuit_stays_closed_where_the_upstream_refuses_a_request_or_a_model(make: MakeHarness) -> None:
    harness = make(circuit_failures=2)
    for error in (status_error(404), status_error(403), status_error(400)):
        harness.fail("one", error)
        for _ in range(3):
            await harness.generate()
    await harness.settled()
    assert harness.names_asked.count("one") == 9


async def test_probe_closes_the_circuit_with_its_first_content(make: MakeHarness) -> None:
    harness = make(circuit_failures=1, circuit_probe_s=0.1)
    harness.fail("one", status_error(503), times=1)
    assert text_of(await harness.generate()) == "two"
    await harness.settled()
    await asyncio.sleep(0.12)
    harness.may_end.clear()
    probe = asyncio.create_task(harness.generate())
    await until(lambda: not harness.pool.admission._probe_at)
    assert not probe.done(), "the circuit is closed while the probe streams"
    harness.may_end.set()
    assert text_of(await probe) == "one"
    assert await harness.queue.upstreams.open_circuits(["one"]) == {}


async def test_probe_is_one_call_and_the_others_go_to_the_next_upstream(make: MakeHarness) -> None:
    harness = make(circuit_failures=1, circuit_probe_s=0.2)
    harness.fail("one", status_error(503), times=1)
    await harness.generate()
    await harness.settled()
    await asyncio.sleep(0.22)
    blocked = asyncio.Event()

    async def slow() -> None:
        await blocked.wait()

    harness.behaviours["one"] = slow
    probe = asyncio.create_task(harness.generate())
    await until(lambda: harness.in_use.get("one", 0) > 0)
    assert [text_of(each) for each in await asyncio.gather(*(harness.generate() for _ in range(5)))] == 5 * ["two"]
    blocked.set()
    assert text_of(await probe) == "one"


async def test_failed_probe_goes_to_the_next_upstream_and_the_circuit_stays_open(make: MakeHarness) -> None:
    harness = make(circuit_failures=1, circuit_probe_s=0.1)
    harness.fail("one", status_error(503))
    await harness.generate()
    await harness.settled()
    await asyncio.sleep(0.12)
    assert text_of(await harness.generate()) == "two"
    await harness.settled()
    assert harness.names_asked.count("one") == 2
    assert list(await harness.queue.upstreams.open_circuits(["one"])) == ["one"]


async def test_generation_waits_for_the_only_upstream_until_its_circuit_closes(
    make: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make(UPSTREAM.format(name="one"), circuit_failures=1, circuit_probe_s=1.3)
    await harness.queue.upstreams.fail("one", "call", "generation", harness.pool.admission._breaker)
    await harness.pool.admission.keep_alive()
    done = await harness.generate()
    assert (done.status, text_of(done)) == ("completed", "one")
    assert harness.names_asked == ["one"]
    assert any("waits for an upstream: one has an open circuit" in each for each in caplog.messages)


async def test_wait_ends_with_a_failure_that_has_the_reason(
    make: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make(UPSTREAM.format(name="one"), circuit_failures=1, upstream_wait_s=0.2)
    await harness.queue.upstreams.fail("one", "call", "generation", harness.pool.admission._breaker)
    await harness.pool.admission.keep_alive()
    done = await harness.generate()
    assert done.error is not None
    assert (done.status, done.error.code) == ("failed", "upstream_busy")
    assert "for 0.2 s (TAILRACE_UPSTREAM_WAIT_S)" in done.error.message
    assert any("no upstream could be called: one has an open circuit" in each for each in caplog.messages)


# ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_full_upstream_is_passed_over_at_once(make: MakeHarness) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 2\n" + UPSTREAM.format(name="two"))
    harness.may_end.clear()
    running = [asyncio.create_task(harness.generate()) for _ in range(5)]
    await until(lambda: len(harness.asked) >= 5)
    assert sorted(harness.names_asked) == ["one", "one", "two", "two", "two"]
    harness.may_end.set()
    await asyncio.gather(*running)


async def test_generations_wait_in_line_for_a_full_upstream_and_none_is_lost(make: MakeHarness, redis: Redis) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 3\n")

    async def answer() -> None:
        await asyncio.sleep(0.02)

    harness.behaviours["one"] = answer
    dones = await asyncio.gather(*(harness.generate() for _ in range(20)))
    assert [done.status for done in dones] == 20 * ["completed"]
    assert harness.most_in_use == 3
    await harness.settled()
    assert await redis.zcard(keys.slots("one")) == 0


async def test_line_is_first_in_first_out(make: MakeHarness, redis: Redis) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 1\n")
    await redis.zadd(keys.slots("one"), {"of another worker": 1000 * (await redis.time())[0] + 60_000})
    running = []
    for model in ("first", "second", "third"):
        running.append(asyncio.create_task(harness.generate(model)))
        await asyncio.sleep(0.05)
    await redis.delete(keys.slots("one"))
    running.append(asyncio.create_task(harness.generate("late")))
    await asyncio.gather(*running)
    assert [model for _, model in harness.asked] == ["first", "second", "third", "late"]


async def test_slot_is_free_again_after_a_failure_and_after_a_cancellation(make: MakeHarness, redis: Redis) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 1\n", upstream_retries=0)
    harness.fail("one", status_error(503))
    await harness.generate()
    await harness.settled()
    assert await redis.zcard(keys.slots("one")) == 0
    harness.behaviours.clear()
    harness.may_end.clear()
    running = asyncio.create_task(harness.generate())
    await until(lambda: harness.in_use["one"] > 0)
    assert await redis.zcard(keys.slots("one")) == 1
    await cancel_and_wait(running)
    await harness.settled()
    assert await redis.zcard(keys.slots("one")) == 0
    assert harness.in_use["one"] == 0


async def test_slots_of_other_workers_count_and_expire_with_them(make: MakeHarness, redis: Redis) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 1\n")
    await redis.zadd(keys.slots("one"), {"of a worker that was killed": 1000 * (await redis.time())[0] + 900})
    began = asyncio.get_running_loop().time()
    assert (await harness.generate()).status == "completed"
    assert asyncio.get_running_loop().time() - began < 3


async def test_upstream_with_a_limit_is_not_called_while_the_queues_server_is_away(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make(UPSTREAM.format(name="one") + "max_concurrency = 1\n" + UPSTREAM.format(name="two"))

    async def away(*_: Any) -> bool:
        raise RedisUnavailable

    monkeypatch.setattr(harness.queue.upstreams, "occupy", away)
    assert text_of(await harness.generate()) == "two"


# ── costs, counts and reloads ───────────────────────────────────────────────────────────────────────────────────────


async def test_closed_circuit_without_a_limit_costs_no_command(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make()
    commands: list[Any] = []
    execute_many = harness.queue.server.execute_many

    async def counted(sent: Any, **options: Any) -> list[Any]:
        commands.extend(each for each in sent if "tailrace:upstream" in str(each))
        return await execute_many(sent, **options)

    monkeypatch.setattr(harness.queue.server, "execute_many", counted)
    for _ in range(3):
        await harness.generate()
    await harness.settled()
    assert commands == []
    harness.fail("one", status_error(503))
    await harness.generate()
    await harness.settled()
    assert len(commands) == 1, "a failed call costs one"


async def test_counts_are_reported_once_and_again_where_that_failed(
    make: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make()
    harness.fail("one", status_error(503), times=1)
    await harness.queue.presence.heartbeat("this worker")
    await harness.generate()
    await harness.settled()
    report = harness.queue.upstreams.report

    async def lost(*arguments: Any) -> None:
        await report(*arguments)
        raise RedisUnavailable

    monkeypatch.setattr(harness.queue.upstreams, "report", lost)
    with pytest.raises(RedisUnavailable):
        await harness.pool.admission.keep_alive()
    monkeypatch.setattr(harness.queue.upstreams, "report", report)
    for _ in range(2):
        await harness.pool.admission.keep_alive()
    usage = await harness.queue.upstreams.usage()
    assert (usage["one"].calls, usage["one"].failures, usage["two"].calls) == (1, 1, 1)
    assert sum(each.in_use for each in usage.values()) == 0


async def test_reload_takes_new_upstreams_and_cuts_no_call(make: MakeHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    harness = make()
    harness.may_end.clear()
    running = asyncio.create_task(harness.generate())
    await until(lambda: bool(harness.asked))
    old = harness.pool.clients
    harness.file.write_text(UPSTREAM.format(name="four") + UPSTREAM.format(name="two"))
    assert await harness.pool.upstreams.reload()
    assert harness.pool.clients[1] is old[1], "an upstream that is the same keeps its connections"
    harness.may_end.set()
    assert text_of(await running) == "one"
    assert text_of(await harness.generate()) == "four"
    assert f"TAILRACE_CONFIG: read {harness.file} again: four, two" in caplog.messages


async def test_reload_of_an_invalid_file_keeps_the_old_one(make: MakeHarness, caplog: pytest.LogCaptureFixture) -> None:
    harness = make()
    harness.file.write_text(THREE + "dialect = 'other'\n")
    assert not await harness.pool.upstreams.reload()
    assert text_of(await harness.generate()) == "one"
    (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert 'line 10: dialect: it must be "chat" or "responses"' in error.getMessage()
    assert error.getMessage().endswith("the upstreams that were read before stay in use")
