"""The gate of one worker: what it keeps in memory, and what it sends to the server that all workers share."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tailrace.errors import RedisUnavailable
from tailrace.queue import Breaker, UpstreamCalls
from tailrace.queue.upstream_calls import Probe
from tailrace.settings import Settings
from tailrace.upstreams import CurrentUpstreams, UpstreamConfig
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream_admission import Call, Refusal, UpstreamAdmission

ONE = '[[upstreams]]\nname = "one"\nbase_url = "http://one.test/v1"\nmax_concurrency = 2\n'
TWO = '[[upstreams]]\nname = "two"\nbase_url = "http://two.test/v1"\n'


class StubCalls:
    """Takes the place of `UpstreamCalls`: `sent` has every call. `is_away`: the server does not respond."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.open: dict[str, int] = {}
        self.may_occupy = True
        self.probes: list[Probe] = []
        self.is_away = False
        self.reading: asyncio.Event | None = None

    def _send(self, *call: Any) -> None:
        self.sent.append(call)
        if self.is_away:
            raise RedisUnavailable

    def names_of(self, kind: str) -> list[Any]:
        return [call[1] for call in self.sent if call[0] == kind]

    async def occupy(self, upstream: str, call: str, limit: int) -> bool:
        self._send("occupy", upstream, call, limit)
        return self.may_occupy

    async def free(self, upstream: str, call: str) -> None:
        self._send("free", upstream, call)

    async def renew(self, calls: Mapping[str, Collection[str]]) -> None:
        self._send("renew", {name: set(held) for name, held in calls.items() if held})

    async def probe(self, upstream: str, call: str, _: Breaker) -> Probe:
        self._send("probe", upstream, call)
        return self.probes.pop(0)

    async def fail(self, upstream: str, call: str, generation_id: str, _: Breaker) -> int | None:
        self._send("fail", upstream, call, generation_id)
        return self.open.get(upstream)

    async def close(self, upstream: str, opened: int) -> None:
        self._send("close", upstream, opened)

    async def open_circuits(self, upstreams: Sequence[str]) -> dict[str, int]:
        self._send("open_circuits", tuple(upstreams))
        known = dict(self.open)
        if self.reading:
            await self.reading.wait()
        return known

    async def report(
        self, _: str, number: int, totals: Mapping[str, Any], in_use: Mapping[str, int], durations: Mapping[str, int]
    ) -> None:
        self._send("report", number, dict(totals), dict(in_use), *([dict(durations)] if durations else []))

    async def note(self, upstream: str, *, error: str = "", remaining: Mapping[str, int]) -> None:
        self._send("note", upstream, error, dict(remaining))


class Harness:
    def __init__(self, file: Path, **settings: Any) -> None:
        file.write_text(ONE + TWO)
        chosen = Settings(config=str(file), **settings)
        upstreams = CurrentUpstreams(chosen)
        self.one, self.two = upstreams.all
        self.calls = StubCalls()
        self.admission = UpstreamAdmission(chosen, cast("UpstreamCalls", self.calls), upstreams, "this worker")

    async def settled(self) -> None:
        while self.admission._tasks:
            await asyncio.gather(*self.admission._tasks)

    async def call(self, upstream: UpstreamConfig) -> Call:
        answer = await self.admission.admit(upstream, "gen")
        assert isinstance(answer, Call)
        return answer

    async def open(self, name: str, wait_ms: int) -> None:
        self.calls.open[name] = wait_ms
        self.admission.on_circuit_message(b"")
        await self.settled()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path / "tailrace.toml")
    yield harness
    await harness.admission.close()


async def test_call_without_a_limit_sends_nothing_while_its_circuit_is_closed(harness: Harness) -> None:
    call = await harness.call(harness.two)
    harness.admission.answered(call)
    harness.admission.release(call, has_failed=False)
    await harness.settled()
    assert harness.calls.sent == []


async def test_slot_is_taken_renewed_and_given_back_once(harness: Harness) -> None:
    call = await harness.call(harness.one)
    assert harness.calls.sent == [("occupy", "one", call.id, 2)]
    await harness.admission.keep_alive()
    assert ("renew", {"one": {call.id}}) in harness.calls.sent
    changed = asyncio.create_task(harness.admission.changed.wait(5))
    await asyncio.sleep(0)
    harness.admission.release(call, has_failed=False)
    await harness.settled()
    assert await changed, "those that wait in line are woken"
    await harness.admission.keep_alive()
    assert harness.calls.names_of("renew")[-1] == {}
    assert harness.calls.names_of("free") == ["one"]


async def test_full_upstream_is_closed_with_its_limit_as_the_reason(harness: Harness) -> None:
    harness.calls.may_occupy = False
    assert await harness.admission.admit(harness.one, "gen") == Refusal("has 2 calls, as many as it may")
    await harness.admission.keep_alive()
    assert harness.calls.names_of("renew") == [{}]


async def test_open_circuit_is_known_without_a_command(harness: Harness) -> None:
    await harness.open("one", 60_000)
    harness.calls.sent.clear()
    for _ in range(3):
        assert await harness.admission.admit(harness.one, "gen") == Refusal("has an open circuit")
    assert harness.calls.sent == []


async def test_slot_is_given_back_where_the_probe_is_another_call(harness: Harness) -> None:
    await harness.open("one", 0)
    harness.calls.probes = [Probe(wait_ms=60_000)]
    assert await harness.admission.admit(harness.one, "gen") == Refusal("has an open circuit")
    await harness.settled()
    assert [call[0] for call in harness.calls.sent[1:]] == ["occupy", "probe", "free"]
    assert await harness.admission.admit(harness.one, "gen") == Refusal("has an open circuit"), (
        "until the next probe is due"
    )
    assert len(harness.calls.names_of("probe")) == 1


async def test_slot_is_given_back_where_the_call_is_cancelled_before_it_begins(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.open("one", 0)

    async def endless(*_: Any) -> Probe:
        await asyncio.Event().wait()
        return Probe()

    monkeypatch.setattr(harness.calls, "probe", endless)
    entering = asyncio.create_task(harness.admission.admit(harness.one, "gen"))
    await asyncio.sleep(0.01)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    await harness.settled()
    assert harness.calls.names_of("free") == ["one"]
    await harness.admission.keep_alive()
    assert harness.calls.names_of("renew") == [{}]


async def test_slot_is_given_back_where_the_reply_to_its_command_is_lost(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> bool:
        raise RedisUnavailable("the reply is lost")

    monkeypatch.setattr(harness.calls, "occupy", lost)
    assert isinstance(await harness.admission.admit(harness.one, "gen"), Refusal)
    await harness.settled()
    assert harness.calls.names_of("free") == ["one"]


async def test_probe_that_is_answered_closes_the_circuit(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await harness.open("two", 0)
    harness.calls.probes = [Probe(opened=17)]
    call = await harness.call(harness.two)
    assert call.opened == 17
    assert await harness.admission.admit(harness.two, "gen") == Refusal("has an open circuit"), "while the probe runs"
    harness.admission.answered(call)
    await harness.settled()
    assert ("close", "two", 17) in harness.calls.sent
    assert (await harness.call(harness.two)).opened is None
    assert caplog.messages == [
        "upstream two: its circuit is open; a probe is due in 0.0 s",
        "upstream two: a call probes it",
        "upstream two: its circuit is closed again",
    ]


async def test_circuit_that_another_worker_has_closed_is_found_closed(harness: Harness) -> None:
    await harness.open("two", 0)
    harness.calls.probes = [Probe()]
    assert (await harness.call(harness.two)).opened is None
    harness.calls.open.clear()
    await harness.open("one", 60_000)
    del harness.calls.open["one"]
    harness.admission.on_circuit_message(None)  # reconnected
    await harness.settled()
    await harness.call(harness.one)


async def test_failed_call_is_recorded_and_opens_the_circuit_here(harness: Harness) -> None:
    call = await harness.call(harness.two)
    harness.calls.open["two"] = 60_000
    harness.admission.release(call, has_failed=True)
    await harness.settled()
    assert ("fail", "two", call.id, "gen") in harness.calls.sent
    assert await harness.admission.admit(harness.two, "gen") == Refusal("has an open circuit")


async def test_failures_are_not_recorded_where_circuits_are_off(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "tailrace.toml", circuit_failures=0)
    harness.admission.release(await harness.call(harness.two), has_failed=True)
    await harness.settled()
    assert harness.calls.sent == []
    await harness.admission.close()


async def test_messages_that_arrive_during_a_read_cause_one_more(harness: Harness) -> None:
    harness.calls.reading = asyncio.Event()
    for _ in range(5):
        harness.admission.on_circuit_message(b"")
        await asyncio.sleep(0)
    harness.calls.open["two"] = 60_000
    harness.calls.reading.set()
    await harness.settled()
    assert len(harness.calls.names_of("open_circuits")) == 2
    assert await harness.admission.admit(harness.two, "gen") == Refusal("has an open circuit")


async def test_upstream_with_a_limit_is_closed_while_the_server_is_away_and_others_are_not(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.calls.is_away = True
    assert await harness.admission.admit(harness.one, "gen") == Refusal(
        "is not called while the queue's server does not respond"
    )
    call = await harness.call(harness.two)
    harness.admission.release(call, has_failed=True)
    harness.admission.on_circuit_message(None)
    await harness.settled()
    assert not any(record.levelno >= logging.ERROR for record in caplog.records)


async def test_durations_of_attempts_are_reported_once(harness: Harness) -> None:
    for _ in range(2):
        timings = TokenTimings()
        timings.asked = 1.0
        for at in (1.5, 1.52, 6.52):
            timings.record(at, 1)
        harness.admission.release(await harness.call(harness.two), has_failed=False)
        harness.admission.measured("two", timings)
    harness.admission.measured("two", TokenTimings())
    await harness.admission._report()
    await harness.admission._report()
    first, second = (call for call in harness.calls.sent if call[0] == "report")
    assert first[4] == {
        "first_token/6:two": 2, "first_token/us:two": 1_000_000,
        "gap/3:two": 2, "gap/8:two": 2, "gap/us:two": 10_040_000,
    }  # fmt: skip
    assert len(second) == 4, "there is nothing to add"


async def test_last_error_and_what_is_left_are_stored_once_and_again_after_an_outage(harness: Harness) -> None:
    left = {"requests": 17}
    harness.admission.remaining_of = lambda name: left if name == "two" else {}
    harness.admission.release(await harness.call(harness.two), has_failed=True)
    for code in ("200", "429", "500"):
        harness.admission.count_request("two", code)
    await harness.admission.keep_alive()
    await harness.admission.keep_alive()
    reports = [call for call in harness.calls.sent if call[0] == "report"]
    assert reports[0][4] == {"limited:two": 1}
    notes = [("note", "two", "500", {"requests": 17})]
    assert [call for call in harness.calls.sent if call[0] == "note"] == notes
    left["requests"] = 16
    harness.calls.is_away = True
    with pytest.raises(RedisUnavailable):
        await harness.admission._note_news()
    harness.calls.is_away = False
    await harness.admission.keep_alive()
    notes += 2 * [("note", "two", "", {"requests": 16})]
    assert [call for call in harness.calls.sent if call[0] == "note"] == notes


async def test_counts_begin_anew_after_each_report(harness: Harness) -> None:
    first, second = await harness.call(harness.two), await harness.call(harness.two)
    harness.admission.release(first, has_failed=True)
    await harness.admission.keep_alive()
    await harness.admission.keep_alive()
    harness.admission.release(second, has_failed=False)
    harness.calls.is_away = True
    with pytest.raises(RedisUnavailable):
        await harness.admission._report()
    await harness.call(harness.two)
    harness.calls.is_away = False
    await harness.admission._report()
    await harness.admission._report()
    assert [call[1:] for call in harness.calls.sent if call[0] == "report"] == [
        (1, {"two": (2, 1)}, {"two": 1}),
        (2, {"two": (0, 0)}, {"two": 1}),
        (3, {"two": (0, 0)}, {"two": 0}),
        (3, {"two": (0, 0)}, {"two": 1}),
        (4, {"two": (1, 0)}, {"two": 1}),
    ]
