"""The history of one generation, from logs in memory."""

from typing import Any

import msgspec
import pytest

from support.logs import AT, EPOCH, LogBuilder, call_opened, text_opened, texts
from support.logs import record as record_of
from tailrace.events import Bucket, FailedRequest, Failure, Gap, Started, Stream, Timings, ToolArguments
from tailrace.ids import EntryId
from tailrace.log.measures import Measures
from tailrace.log.state import GenerationState
from tailrace.log.timeline import (
    CONTINUED,
    ENDED_ELSEWHERE,
    LOST,
    LOST_EARLY,
    NOTHING_WRITTEN,
    History,
    Moment,
    Sizes,
    Timeline,
)

OWN = Stream(attempts=1, retries=0, chunks=2, bytes=300, malformed=0, stalls=0)
"""Of an end that a worker has written."""

NOTHING = Measures()


def history(log: LogBuilder, measures: Measures = NOTHING, **state: Any) -> Timeline:
    fields: dict[str, Any] = {
        "record": record_of(), "status": "completed", "epoch": EPOCH, "attempt": 1, "seq": 5, "lease": 0,
        "deadline": 0, "job_id": "d", "worker": "abcdefgh",
    }  # fmt: skip

    log._flush()
    collected = History(GenerationState(**(fields | state)))
    for entry in log.entries:
        collected.add(entry)
    return collected.timeline(measures)


def whats(timeline: Timeline) -> list[str]:
    return [moment.what for moment in timeline.timeline]


def test_timeline_of_a_complete_answer_has_its_parts_in_order() -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("Once| upon")).close_item(0)
    log.end("completed", stream=OWN, timings=Timings(queue=1.0, first_token=1.5, total=9.5))
    timeline = history(log)
    assert whats(timeline) == ["created", "attempt 1 started", "item 0 opened", "item 0 closed", "done"]
    assert [moment.at for moment in timeline.timeline] == [AT, AT + 1, AT + 1.5, None, AT + 9.5]
    (attempt,) = timeline.attempts
    assert (attempt.attempt, attempt.worker, attempt.began_at, attempt.ended) == (1, "abcd", AT + 1, "completed")
    assert (attempt.items, attempt.entries, attempt.bytes) == (1, 5, len("Once upon"))
    assert (timeline.timings.queue, timeline.is_own, timeline.is_measured) == (1.0, True, True)


def test_timeline_of_a_restarted_answer_has_both_attempts_and_their_workers() -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("Once")).restart().add(text_opened(1, choices=[]))
    log.end("completed", stream=OWN)
    first, second = (history(log, attempt=2, taken_from="zyxwvuts")).attempts
    assert (first.worker, first.ended, first.bytes) == ("zyxw", "worker_lost", 4)
    assert (second.worker, second.ended, second.items) == ("abcd", "completed", 1)


def test_worker_of_an_attempt_before_the_last_two_is_not_known() -> None:
    log = LogBuilder(record_of()).start().add(text_opened()).restart(2).add(text_opened(1)).restart(3)
    attempts = (history(log, attempt=3, taken_from="zyxwvuts", status="running")).attempts
    assert [part.worker for part in attempts] == [None, "zyxw", "abcd"]
    assert [part.ended for part in attempts] == ["worker_lost", "worker_lost", ""]


def test_attempt_that_wrote_nothing_is_listed() -> None:
    log = LogBuilder(record_of()).start(2)
    attempts = (history(log, attempt=3, status="running")).attempts
    assert [(part.attempt, part.ended) for part in attempts] == [(1, NOTHING_WRITTEN), (2, LOST_EARLY), (3, "")]


def test_second_start_shows_that_the_first_attempt_was_lost_before_its_first_item() -> None:
    log = LogBuilder(record_of()).start()
    log._flush()
    log._epoch += 5
    log.number(Started(2, AT + 5))
    attempts = (history(log, attempt=2, status="running")).attempts
    assert [part.ended for part in attempts] == [LOST_EARLY, ""]


@pytest.mark.parametrize("stream", [Stream(attempts=1), OWN])
def test_end_by_another_process_is_named(stream: Stream) -> None:
    log = LogBuilder(record_of()).start().add(text_opened())
    log._flush()
    log._epoch += 1
    log.end("cancelled", stream=stream)
    timeline = history(log, status="cancelled")
    assert (timeline.is_own, timeline.is_measured) == (False, stream is OWN)
    assert timeline.attempts[-1].ended == ENDED_ELSEWHERE
    assert timeline.timeline[-1].detail == "cancelled; written by another process than the worker"


def test_attempt_that_wrote_nothing_but_the_end_is_an_attempt() -> None:
    log = LogBuilder(record_of()).start().add(text_opened())
    log._flush()
    log._epoch += 1
    log.end("failed", error=Failure("Lost.", "worker_lost"), stream=msgspec.structs.replace(OWN, attempts=2))
    timeline = history(log, attempt=2, status="failed", taken_from="zyxwvuts")
    assert [(part.worker, part.ended) for part in timeline.attempts] == [
        ("zyxw", LOST), ("abcd", "failed: worker_lost")
    ]  # fmt: skip
    assert timeline.is_measured


def test_generation_that_was_cancelled_in_the_queue_has_no_attempt() -> None:
    log = LogBuilder(record_of())
    log.end("cancelled", stream=Stream(attempts=0))
    timeline = history(log, attempt=0, worker="", status="cancelled")
    assert (timeline.attempts, whats(timeline), timeline.timings.queue) == ([], ["created", "done"], None)


def test_timeline_of_a_running_generation_has_no_end() -> None:
    log = LogBuilder(record_of()).start().add(text_opened())
    timeline = history(log, status="running")
    assert (timeline.done, timeline.is_measured, timeline.timings) == (None, False, Timings(queue=1.0))
    assert timeline.attempts[-1].ended == ""


def test_timeline_of_a_running_generation_has_the_measures_of_the_last_renewal() -> None:
    log = LogBuilder(record_of()).start().add(text_opened())
    gap = Gap(AT + 3, 2.0, str(EntryId(EPOCH + 1, 3)))
    timeline = history(log, Measures(1.5, 2.0, stream=Stream(chunks=2, slowest=[gap])), status="running")
    assert (timeline.done, timeline.is_measured) == (None, True)
    assert timeline.timings == Timings(queue=1.0, first_token=1.5, between_tokens_max=2.0)
    assert whats(timeline)[2:] == ["item 0 opened", "gap"]
    assert timeline.timeline[2].at == AT + 1.5


def test_attempt_that_writes_on_is_an_attempt_of_its_own() -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("Once"))
    log._flush()
    log._epoch += 2000
    log.add(*texts(" upon"))
    log.end("completed", stream=msgspec.structs.replace(OWN, attempts=2))
    timeline = history(log, attempt=2, taken_from="zyxwvuts")
    first, second = timeline.attempts
    assert (first.worker, first.ended, first.bytes) == ("zyxw", CONTINUED, 4)
    assert (second.worker, second.ended, second.bytes, second.began_at) == ("abcd", "completed", 5, log._epoch / 1000)
    assert whats(timeline)[3:] == ["attempt 2 continues", "done"]


def test_gap_stands_behind_the_entry_that_it_is_after() -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("Once| upon")).close_item(0)
    text = log.entries[3].id
    gaps = [Gap(AT + 3, 2.0, str(text)), Gap(AT + 2, 1.0, str(EntryId(text.epoch, text.seq - 1)))]
    log.end("completed", stream=Stream(chunks=52, gaps=[Bucket(50, 0.03), Bucket(2, 3)], slowest=gaps))
    timeline = history(log)
    assert whats(timeline)[2:] == ["item 0 opened", "gap", "gap", "item 0 closed", "done"]
    assert timeline.timeline[4] == Moment("gap", str(text), AT + 3, 2.0)


@pytest.mark.parametrize(("first_token", "at"), [(1.25, [AT + 1.25, None]), (2.5, [None, AT + 2.5])])
def test_first_content_is_of_the_attempt_that_ran_then(first_token: float, at: list[float | None]) -> None:
    """The second attempt began 2 s after the creation."""
    log = LogBuilder(record_of()).start().add(text_opened()).restart().add(text_opened(1, choices=[]))
    log.end("completed", stream=OWN, timings=Timings(queue=1.0, first_token=first_token))
    opened = [moment for moment in (history(log, attempt=2)).timeline if "opened" in moment.what]
    assert [moment.at for moment in opened] == at


@pytest.mark.parametrize(
    ("p50", "length", "is_shown"),
    [(0.02, 0.101, True), (0.02, 0.1, False), (0.03, 0.15, False), (0.03, 0.16, True), (None, 0.16, True),
     (None, 0.14, False)],
)  # fmt: skip
def test_gap_is_in_the_timeline_where_it_stands_out(p50: float | None, length: float, is_shown: bool) -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("Once| upon"))
    log._flush()
    gap = Gap(AT + 3, length, str(log.entries[-1].id))
    stream = msgspec.structs.replace(OWN, gaps=[Bucket(40, 0.01), Bucket(50, 0.03), Bucket(1, 0.3)], slowest=[gap])
    log.end("completed", stream=stream, timings=Timings(between_tokens_p50=p50))
    timeline = history(log)
    assert ("gap" in whats(timeline)) is is_shown
    assert timeline.stream.slowest == [gap]


def test_failed_requests_stand_at_their_times() -> None:
    log = LogBuilder(record_of()).start().add(text_opened())
    failed = [FailedRequest(1.25, "upstream_error", "dead", 0.5), FailedRequest(7.0, "upstream_timeout")]
    stream = msgspec.structs.replace(OWN, failed=failed)
    log.end("failed", stream=stream, timings=Timings(queue=1.0, first_token=1.75))
    timeline = history(log)
    assert whats(timeline)[1:] == [
        "attempt 1 started", "request failed: upstream_error", "item 0 opened", "request failed: upstream_timeout",
        "done",
    ]  # fmt: skip
    first, second = (each for each in timeline.timeline if each.what.startswith("request"))
    assert first == Moment(
        "request failed: upstream_error", "", AT + 1.25, detail="upstream dead; the next request 0.5 s later"
    )
    assert (second.at, second.detail) == (AT + 7, "")


def test_end_by_another_process_before_an_attempt_wrote_anything_is_not_its_own() -> None:
    """The measures are those of the attempt before."""
    log = LogBuilder(record_of()).start().add(text_opened())
    log._flush()
    log._epoch += 1
    log.end("cancelled", stream=msgspec.structs.replace(OWN, attempts=2))
    timeline = history(log, attempt=2, status="cancelled", terminating="cancelled")
    assert not timeline.is_own
    assert timeline.attempts[-1].ended == ENDED_ELSEWHERE


def test_sizes_are_in_bytes_and_only_of_content() -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("a|äö|bbb"), call_opened(1))
    log.add(ToolArguments(1, "{}"))
    log.end("completed")
    assert (history(log)).entries == [
        Sizes("text", 3, 8, p50=3, p95=4, max=4), Sizes("item_opened", 2), Sizes("created", 1), Sizes("started", 1),
        Sizes("tool_arguments", 1, 2, p50=2, p95=2, max=2), Sizes("done", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100])
def test_percentiles_are_values_of_the_log(count: int) -> None:
    log = LogBuilder(record_of()).start().add(text_opened(), *texts("|".join(n * "x" for n in range(1, count + 1))))
    log.end("completed")
    sizes = next(each for each in (history(log)).entries if each.kind == "text")
    assert (sizes.p50, sizes.p95, sizes.max) == (-(-count // 2), -(-19 * count // 20), count)
