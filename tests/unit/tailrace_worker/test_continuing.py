"""Attempts that continue the answer of an earlier one (`on_interrupt: continue`), on a real log."""

from typing import Any

import httpx2
import openai
import pytest

from support.attempts import AttemptHarness, Payload, ScriptedDialect
from support.chat_chunks import call_chunk, end, fragment, role, text_chunk
from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from support.queues import submit
from support.stored_log import entries_of
from tailrace.events import Delta, Entry, Event, Extra, ItemOpened, Json, Options, Reasoning, Restarted, Started, Text
from tailrace.ids import new_generation_id
from tailrace.upstreams import DEFAULT_UPSTREAM, PROFILES, Upstreams
from tailrace_worker.attempt import UpstreamInterrupted
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.writer import Writer

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
TEXT = (text_opened(), *texts("Hel"))
WHOLE = [role(), text_chunk("Hello"), end()]


async def lost(harness: AttemptHarness, *events: Event, request: Json = REQUEST, profile: str = "vllm") -> Writer:
    """The writer of an attempt whose worker was lost after these events."""
    harness.settings = harness.settings.model_copy(update={"max_attempts": 5})
    harness.generation_id = new_generation_id()
    config = DEFAULT_UPSTREAM.model_copy(update={"profile": PROFILES[profile]})
    harness.pool.upstreams.now = Upstreams([config], is_default=True)
    record = record_of(id=harness.generation_id, options=Options(60, 60, on_interrupt="continue"))
    await submit(harness.log, harness.queue, record, request)
    writer = (await harness.attempt()).writer
    for event in (Started(1, 1.0), *events):
        writer.add(event)
    await writer.flush()
    return writer


async def run(harness: AttemptHarness) -> list[Entry]:
    """Run the next attempt to its end; the whole log."""
    await (await harness.attempt()).run("worker_lost")
    return await entries_of(harness.log, harness.generation_id)


def text_of(entries: list[Entry]) -> str:
    return "".join(entry.event.text for entry in entries if isinstance(entry.event, Text))


def kinds(entries: list[Entry]) -> list[str]:
    return [entry.event.kind for entry in entries]


async def test_text_goes_on_in_the_same_item(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await lost(harness, text_opened(), *texts("Hel|lo"))
    rest: list[Payload] = [role(), text_chunk(" wor"), text_chunk("ld"), end(usage=USAGE), b"[DONE]"]
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=rest)
    entries = await run(harness)
    assert dialect.continued == ["Hello"]
    assert text_of(entries) == "Hello world"
    assert "restarted" not in kinds(entries)
    assert kinds(entries).count("item_opened") == kinds(entries).count("started") == 1
    assert {entry.event.item for entry in entries if isinstance(entry.event, Delta)} == {0}
    (mark,) = [entry for entry in entries if entry.extra.continued]
    assert (mark.event, mark.extra) == (Text(0, ""), Extra(continued=1))
    assert mark.id.epoch > before.epoch
    done = await harness.done()
    assert (done.status, done.continued, [item.text for item in done.output]) == ("completed", 1, ["Hello world"])
    assert done.usage == {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13, "estimated": True}
    assert done.open == [0]
    by_another = await harness.log.output(harness.generation_id, until=entries[-2].id)  # as for a cancel
    ended = by_another.build_done("cancelled", done.at)
    assert (ended.continued, [item.text for item in ended.output]) == (1, ["Hello world"])


async def test_item_that_is_closed_later_has_the_whole_text(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness, text_opened(), *texts("Let me"))
    call = call_chunk(fragment(0, "call_1", "search", "{}"))
    ScriptedDialect(monkeypatch, *WHOLE, rest=[text_chunk(" look."), call, end("tool_calls")])
    entries = await run(harness)
    (closed,) = [entry.event for entry in entries if entry.event.kind == "item_closed"]
    assert closed.whole.text == "Let me look."  # type: ignore[attr-defined]
    opened = [entry.event.item for entry in entries if isinstance(entry.event, ItemOpened)]
    assert opened == [0, 1]
    assert [item.type for item in (await harness.done()).output] == ["text", "call"]


async def test_answer_may_end_where_it_was_cut(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness, text_opened(), *texts("All."))
    ScriptedDialect(monkeypatch, *WHOLE, rest=[role(), end(), b"[DONE]"])
    entries = await run(harness)
    done = await harness.done()
    assert (done.status, text_of(entries), done.continued) == ("completed", "All.", 1)


async def test_upstream_that_is_lost_in_the_middle_is_asked_for_the_rest(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness)
    rest = [text_chunk(" two"), end()]
    dialect = ScriptedDialect(monkeypatch, role(), text_chunk("One"), ConnectionLost("broken"), rest=rest)
    with pytest.raises(UpstreamInterrupted):
        await (await harness.attempt()).run("worker_lost")
    entries = await run(harness)
    assert (text_of(entries), dialect.opened, dialect.continued) == ("One two", 2, ["One"])
    assert (await harness.done()).continued == 1


async def test_answer_is_continued_as_often_as_it_is_cut(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness, text_opened(), *texts("1"))
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=[text_chunk(" 2"), ConnectionLost("broken")])
    for _ in range(2):
        with pytest.raises(UpstreamInterrupted):
            await (await harness.attempt()).run("upstream_lost")
    dialect.rest = [text_chunk(" 3"), end()]
    entries = await run(harness)
    assert (text_of(entries), dialect.continued) == ("1 2 2 3", ["1", "1 2", "1 2 2"])
    assert [entry.extra.continued for entry in entries if entry.extra.continued] == [1, 2, 3]
    assert (await harness.done()).continued == 3


ASKED = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
AWAY = openai.APIConnectionError(message="refused", request=ASKED)
REFUSED = openai.BadRequestError(
    "Prefill is incompatible with enable_thinking.", response=httpx2.Response(400, request=ASKED), body=None
)


async def test_text_is_kept_where_the_upstream_is_away(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings = harness.settings.model_copy(update={"upstream_retries": 0})
    await lost(harness, *TEXT)
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=[AWAY])
    entries = await run(harness)
    done = await harness.done()
    assert (done.status, [item.text for item in done.output]) == ("failed", ["Hel"])
    assert done.error is not None
    assert done.error.code == "upstream_unreachable"
    assert (dialect.opened, "restarted" in kinds(entries)) == (1, False)


@pytest.mark.parametrize("rest", [[REFUSED], [{"error": {"message": "Prefill is not possible.", "code": 400}}]])
async def test_answer_starts_over_where_the_upstream_refuses_to_continue_it(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, rest: list[Any]
) -> None:
    await lost(harness, text_opened(), *texts("Hel"))
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=rest)
    entries = await run(harness)
    assert kinds(entries)[-4:] == ["restarted", "item_opened", "text", "done"]
    restarted = entries[-4].id
    assert await harness.log.last_restart(harness.generation_id, restarted.epoch) == restarted
    done = await harness.done()
    assert (done.status, done.continued, [item.text for item in done.output]) == ("completed", 0, ["Hello"])
    assert dialect.continued == ["Hel"]


THOUGHT = (ItemOpened(0, "reasoning", 0, [0]), Reasoning(0, "Hm"))
TWO = {**REQUEST, "n": 2}
JSON = {**REQUEST, "response_format": {"type": "json_object"}}
PREFILLED = {**REQUEST, "messages": [*REQUEST["messages"], {"role": "assistant", "content": "I"}]}


@pytest.mark.parametrize(
    ("events", "request_", "profile"),
    [
        (THOUGHT, REQUEST, "vllm"),
        ((*THOUGHT, text_opened(1, choices=()), Text(1, "a")), REQUEST, "vllm"),
        ((ItemOpened(0, "call", 0, [0], id="call_1", name="search"),), REQUEST, "vllm"),
        ((text_opened(),), REQUEST, "vllm"),
        ((text_opened(0, 0, [0, 1]), Text(0, "a")), TWO, "vllm"),
        (TEXT, TWO, "vllm"),
        (TEXT, JSON, "vllm"),
        (TEXT, {**REQUEST, "guided_regex": "a+"}, "vllm"),
        (TEXT, {**REQUEST, "tool_choice": "required"}, "vllm"),
        (TEXT, PREFILLED, "vllm"),
        (TEXT, REQUEST, "openai"),
    ],
)  # fmt: skip
async def test_answer_that_cannot_be_continued_starts_over(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, events: tuple[Event, ...],
    request_: Json, profile: str,
) -> None:  # fmt: skip
    await lost(harness, *events, request=request_, profile=profile)
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=[text_chunk("never"), end()])
    entries = await run(harness)
    assert [entry.event.reason for entry in entries if isinstance(entry.event, Restarted)] == ["worker_lost"]
    done = await harness.done()
    assert (done.status, done.continued, [item.text for item in done.output]) == ("completed", 0, ["Hello"])
    assert (dialect.opened, dialect.continued) == (1, [])


async def test_restart_after_a_continuation_counts_from_nothing(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness, text_opened(), *texts("1"))
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=[text_chunk(" 2"), ConnectionLost("broken")])
    with pytest.raises(UpstreamInterrupted):
        await (await harness.attempt()).run("upstream_lost")
    dialect.rest = [REFUSED]
    await run(harness)
    assert (await harness.done()).continued == 0


async def test_attempt_that_has_written_nothing_is_followed_by_a_first_one(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost(harness)
    dialect = ScriptedDialect(monkeypatch, *WHOLE, rest=[])
    assert kinds(await run(harness)) == ["created", "started", "started", "item_opened", "text", "done"]
    assert dialect.continued == []
