import math
from typing import Any

import pytest

from support.logs import (
    EPOCH,
    RECORDS,
    USAGE,
    LogBuilder,
    call_opened,
    citation,
    done_of,
    text_opened,
    texts,
    token,
)
from support.logs import record as record_of
from support.named_logs import LOGS
from tailrace.events import (
    NO_EXTRA,
    Created,
    Entry,
    Event,
    Extra,
    Failure,
    FinalStatus,
    Finish,
    Item,
    ItemOpened,
    Reasoning,
    Refusal,
    Restarted,
    Started,
    Text,
    Timings,
    ToolArguments,
)  # fmt: skip
from tailrace.ids import START, EntryId
from tailrace.log.output import BYTES_A_TOKEN, Output
from tailrace.upstreams.prices import Price


def fold(*events: Event | tuple[Event, Extra], **options: Any) -> Output:
    """The fold of events without regard to their numbers."""
    output = Output(**options)
    for event in events:
        output.apply(*(event if isinstance(event, tuple) else (event, NO_EXTRA)))
    return output


TWO_TEXTS = (text_opened(), *texts("Once| upon"))


def test_output_of_an_empty_log_is_empty() -> None:
    output = Output()
    assert (output.last_id, output.open, output.has_items, output.next_item) == (START, [], False, 0)
    assert output.items() == output.all_items() == []
    assert output.choices() == []
    assert output.done is None


@pytest.mark.parametrize("options", RECORDS)
@pytest.mark.parametrize("name", LOGS)
def test_output_of_a_log_equals_the_output_in_its_done(name: str, options: str) -> None:
    record = record_of(**RECORDS[options])
    entries = LOGS[name](record)
    before, whole = Output(entries[:-1], logprobs=record.logprobs), Output(entries, logprobs=record.logprobs)
    done = before.build_done(done_of(entries).status, 1.0)
    assert (done.output, done.open) == (done_of(entries).output, done_of(entries).open)
    assert whole.items() == done_of(entries).output
    assert (whole.done, whole.open, whole.last_id) == (done_of(entries), [], entries[-1].id)


def test_reading_the_output_does_not_change_it() -> None:
    output = fold(*TWO_TEXTS)
    assert output.items() == output.items() == [Item(0, "text", text="Once upon")]
    output.apply(Text(0, " a"), NO_EXTRA)
    assert output.items() == [Item(0, "text", text="Once upon a")]


def test_alternating_deltas_are_added_to_their_items() -> None:
    output = fold(
        ItemOpened(0, "reasoning", choices=[0]), Reasoning(0, "Hm"), text_opened(1, choices=()), *texts("Yes", 1),
        call_opened(2), ToolArguments(2, '{"a"'), call_opened(3, 1), ToolArguments(3, "{}"), ToolArguments(2, ":1}"),
        ItemOpened(4, "refusal"), Refusal(4, "No"), Reasoning(0, "m."),
    )  # fmt: skip
    assert output.items() == [
        Item(0, "reasoning", text="Hmm."),
        Item(1, "text", text="Yes"),
        Item(2, "call", tool=0, id="functions.search:0", name="search", arguments='{"a":1}'),
        Item(3, "call", tool=1, id="functions.search:1", name="search", arguments="{}"),
        Item(4, "refusal", text="No"),
    ]
    assert (output.open, output.next_item, output.has_items) == ([0, 1, 2, 3, 4], 5, True)


def test_closed_item_is_no_longer_open() -> None:
    log = LogBuilder(record_of()).start().add(*TWO_TEXTS).close_item(0).add(text_opened(1, choices=[]))
    done = log.end("cancelled")[-1].event
    assert log.output.open == []
    assert log.output.all_items()[0].status is None, "the item was complete before the cancel"
    assert done == log.output.done
    assert done_of(log.entries).open == [1]


def test_annotations_are_kept_in_order() -> None:
    output = fold(text_opened(), *((Text(0, ""), Extra(delta={"annotations": [citation(n)]})) for n in range(3)))
    assert output.items()[0].annotations == [citation(0), citation(1), citation(2)]


@pytest.mark.parametrize("requested", [True, False])
def test_logprobs_are_kept_only_if_requested(requested: bool) -> None:
    parts = ((Text(0, text), Extra(choice={"logprobs": {"content": [token(text)]}})) for text in "ab")
    output = fold(text_opened(), *parts, logprobs=requested)
    assert output.items()[0].logprobs == ([token("a"), token("b")] if requested else [])


def test_call_fields_are_kept_the_last_of_each() -> None:
    output = fold(
        (call_opened(0), Extra(call={"a": 1, "b": 1})), (ToolArguments(0, "{"), Extra(call={"b": 2})),
        (ToolArguments(0, "}"), Extra(call={"c": 3})),
    )  # fmt: skip
    assert output.items()[0].call == {"a": 1, "b": 2, "c": 3}


# Restarts


def test_restart_discards_the_output_and_keeps_the_item_numbers() -> None:
    output = fold(Created(1.0), Started(1, 2.0), *TWO_TEXTS, call_opened(1), ToolArguments(1, "{"))
    restarted = output.restarted(2, "worker_lost", 3.0)
    assert restarted == Restarted(
        2, "worker_lost", 3.0, open=[0, 1],
        output=[
            Item(0, "text", text="Once upon", status="incomplete"),
            Item(1, "call", tool=0, id="functions.search:0", name="search", arguments="{", status="incomplete"),
        ],
    )  # fmt: skip
    output.apply(restarted, NO_EXTRA)
    assert (output.has_items, output.items(), output.open, output.choices()) == (False, [], [], [])
    assert output.all_items() == restarted.output
    assert output.next_item == 2
    output.apply(text_opened(2), NO_EXTRA)
    assert output.items() == [Item(2, "text", text="")]
    assert output.all_items() == [*restarted.output, Item(2, "text", text="")]


def test_second_restart_lists_the_output_that_both_discarded() -> None:
    output = fold(*TWO_TEXTS)
    output.apply(output.restarted(2, "worker_lost", 1.0), NO_EXTRA)
    output.apply(text_opened(1), NO_EXTRA)
    again = output.restarted(3, "worker_lost", 2.0)
    assert ([item.item for item in again.output], again.open) == ([0, 1], [1])
    output.apply(again, NO_EXTRA)
    assert output.next_item == 2
    assert output.build_done("completed", 3.0).output == []


def test_restart_with_nothing_open_closes_nothing() -> None:
    log = LogBuilder(record_of()).start().add(*TWO_TEXTS).close_item(0).restart()
    log.end("completed")
    restarted = log.entries[-2].event
    assert isinstance(restarted, Restarted)
    assert (restarted.open, restarted.output) == ([], [Item(0, "text", text="Once upon")])


# Ends


@pytest.mark.parametrize(
    ("status", "open_", "item_status"),
    [
        ("completed", [0], None),
        ("incomplete", [0], "incomplete"),
        ("cancelled", [0], "incomplete"),
        ("failed", [], "incomplete"),
    ],
)
def test_open_items_are_incomplete_unless_completed(status: FinalStatus, open_: list[int], item_status: Any) -> None:
    done = fold(*TWO_TEXTS).build_done(status, 9.0)
    assert (done.status, done.open) == (status, open_)
    assert done.output == [Item(0, "text", text="Once upon", status=item_status)]


def test_every_opened_choice_has_a_finish() -> None:
    output = fold(text_opened(0, 1, (0, 1, 2)), text_opened(1, 0, ()))
    assert output.build_done("cancelled", 1.0).finish == [Finish(0, None), Finish(1, None), Finish(2, None)]
    finish = [Finish(0, "stop"), Finish(1, "length")]
    assert output.build_done("incomplete", 1.0, finish=finish).finish == finish
    assert fold().build_done("cancelled", 1.0).finish == []


def test_usage_of_the_upstream_is_kept() -> None:
    done = fold(Started(1, 1.0), *TWO_TEXTS).build_done("completed", 1.0, usage=USAGE, prompt_bytes=6)
    assert done.usage == USAGE


@pytest.mark.parametrize("status", ["cancelled", "failed", "incomplete"])
def test_usage_that_the_upstream_did_not_report_is_estimated_and_marked(status: FinalStatus) -> None:
    done = fold(Started(1, 1.0), *TWO_TEXTS).build_done(status, 1.0, prompt_bytes=6)
    prompt, completion = math.ceil(6 / BYTES_A_TOKEN), math.ceil(len("Once upon") / BYTES_A_TOKEN)
    assert done.usage == {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": True,
    }


def test_usage_is_none_if_no_upstream_was_reached() -> None:
    assert fold(Created(1.0)).build_done("cancelled", 1.0, prompt_bytes=6).usage is None
    assert fold(Started(1, 1.0)).build_done("cancelled", 1.0).usage is None


def test_refused_request_used_no_tokens() -> None:
    refused = Failure("No.", "upstream_refused", status=400)
    done = fold(Started(1, 1.0)).build_done("failed", 1.0, error=refused, prompt_bytes=6)
    assert done.usage == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "estimated": True}
    unreachable = Failure("No.", "upstream_timeout")
    usage = fold(Started(1, 1.0)).build_done("failed", 1.0, error=unreachable, prompt_bytes=6).usage
    assert usage
    assert usage["prompt_tokens"] == 2


def test_cost_is_of_the_usage_also_where_it_is_estimated() -> None:
    price = Price(input=1, output=2)
    assert fold().build_done("completed", 1.0, usage=USAGE, price=price).cost == (12 + 2 * 7) / 1e6
    assert fold(Started(1, 1.0)).build_done("cancelled", 1.0, prompt_bytes=6, price=price).cost == 2e-6
    assert fold().build_done("completed", 1.0, usage=USAGE).cost is None


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_prompt_tokens_are_estimated_by_the_bytes_of_the_prompt(size: int, tokens: int) -> None:
    assert fold().estimated_usage(size)["prompt_tokens"] == tokens


def test_discarded_output_is_not_counted_as_usage() -> None:
    output = fold(*TWO_TEXTS)
    output.apply(output.restarted(2, "worker_lost", 1.0), NO_EXTRA)
    assert output.estimated_usage(0)["completion_tokens"] == 0


def test_timings_are_computed_from_the_log() -> None:
    output = fold(Created(10.0), Started(1, 10.25), Started(2, 12.0))
    assert output.build_done("completed", 14.00004).timings == Timings(queue=0.25, total=4.0)
    assert output.build_done("completed", 1.0, timings=Timings(total=7.0)).timings == Timings(total=7.0)
    assert fold(Created(10.0)).build_done("cancelled", 9.0).timings == Timings(total=0.0), "clocks go back"
    assert fold().build_done("cancelled", 9.0).timings == Timings()


def test_last_id_is_of_the_last_entry() -> None:
    output = Output([Entry(EntryId(EPOCH, 0), Created(1.0)), Entry(EntryId(EPOCH, 1), Started(1, 1.0))])
    assert output.last_id.seq == 1
    assert (output.created_at, output.started_at) == (1.0, 1.0)
