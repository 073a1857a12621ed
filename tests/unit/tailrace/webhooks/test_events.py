import json
import re

import pytest

from support.logs import record as record_of
from tailrace.webhooks.events import EVENT_TYPES, event_body, event_kind, sample_body, webhook_id

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"


def test_event_types_are_one_for_each_kind_and_final_status() -> None:
    assert sorted(EVENT_TYPES) == [
        "generation.cancelled", "generation.completed", "generation.failed", "generation.incomplete",
        "response.cancelled", "response.completed", "response.failed", "response.incomplete",
    ]  # fmt: skip


def test_event_kind_depends_on_how_the_generation_was_asked_for() -> None:
    assert event_kind(record_of(background=True)) == "response"
    assert event_kind(record_of()) == "generation"
    assert event_kind(record_of(foreground=True)) is None


@pytest.mark.parametrize(("kind", "prefix"), [("response", "resp_"), ("generation", "gen_")])
def test_event_names_what_has_ended_by_the_id_of_its_api(kind: str, prefix: str) -> None:
    event = json.loads(event_body(GENERATION, f"{kind}.completed", 1_795_235_902.9))
    assert re.fullmatch(r"evt_[a-z2-7]{26}", event.pop("id"))
    assert event == {
        "object": "event",
        "type": f"{kind}.completed",
        "created_at": 1_795_235_902,
        "data": {"id": prefix + GENERATION.removeprefix("gen_")},
    }


def test_event_is_the_same_bytes_whichever_process_makes_it() -> None:
    bodies = {event_body(GENERATION, "response.completed", 1_795_235_902.1) for _ in range(3)}
    assert len(bodies) == 1
    assert event_body(GENERATION, "response.failed", 1_795_235_902.1) not in bodies


def test_webhook_id_depends_on_the_generation_the_type_and_the_endpoint() -> None:
    names = [
        (GENERATION, "response.completed", "whe_a"),
        (GENERATION, "response.completed", "whe_b"),
        (GENERATION, "response.failed", "whe_a"),
        ("gen_" + "a" * 26, "response.completed", "whe_a"),
    ]
    ids = [webhook_id(*each) for each in names]
    assert len(set(ids)) == len(ids)
    assert ids == [webhook_id(*each) for each in names]
    assert all(re.fullmatch(r"wh_[a-z2-7]{26}", each) for each in ids)


def test_sample_is_of_a_generation_that_does_not_exist() -> None:
    one, other = (json.loads(sample_body("response.completed", 1.5)) for _ in range(2))
    assert one["data"] != other["data"]
    assert (one["type"], one["created_at"]) == ("response.completed", 1)
