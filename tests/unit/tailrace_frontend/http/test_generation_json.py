from typing import Any

import msgspec

from tailrace import jsoncodec
from tailrace.events import Bucket, Failure, Finish, Gap, GenerationRecord, Item, Options, Stream, Timings
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace_frontend.http.generation_json import generation_json, list_row, progress

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
REQUEST = {"model": "demo", "messages": [{"role": "user", "content": "Hello?"}]}


def state(**changes: Any) -> GenerationState:
    record = GenerationRecord(GENERATION, "anna", "demo", Options(100, 200), created=1_795_235_902_123)
    fixed: dict[str, Any] = {
        "record": record, "status": "running", "epoch": 1, "attempt": 1, "seq": 5, "lease": 0, "deadline": 0,
        "job_id": "d",
    }  # fmt: skip
    return GenerationState(**(fixed | changes))


def test_generation_json_is_short_without_items() -> None:
    assert generation_json(state(), "/events") == {
        "id": GENERATION,
        "object": "generation",
        "status": "running",
        "model": "demo",
        "created_at": 1_795_235_902.123,
        "events_url": "/events",
    }


def test_list_row_has_a_preview_and_tokens() -> None:
    previewed = msgspec.structs.replace(state().record, preview="Why?")
    row = list_row(state(record=previewed, tokens=7), "/events")
    assert row == generation_json(state(), "/events") | {"preview": "Why?", "tokens": 7, "attempt": 1}


def test_progress_has_the_short_name_of_the_worker_and_the_end_of_the_retention() -> None:
    running = state(worker="abcdefgh", attempt=2)
    assert progress(running, 3, None) == {"attempt": 2, "worker": "abcd", "readers": 3}
    assert progress(state(attempt=0), 0, 1500) == {"attempt": 0, "worker": None, "readers": 0, "expires_at": 1.5}


def test_generation_json_with_an_output_has_request_and_nulls() -> None:
    whole = generation_json(
        state(), "/events", request=REQUEST, output=[Item(0, "text", text="So f")], queue_position=3
    )
    value = jsoncodec.loads(jsoncodec.dumps(whole))
    assert value["request"] == REQUEST
    assert value["output"] == [{"item": 0, "type": "text", "text": "So f"}]
    assert value["queue_position"] == 3
    assert [value[name] for name in ("finish", "usage", "cost", "error", "timings", "stream")] == [None] * 6


def test_generation_json_of_a_finished_one_has_the_fields_of_done() -> None:
    error, timings = Failure("No.", "upstream_error"), Timings(total=1.5)
    stream = Stream(attempts=2, stalls=0, gaps=[Bucket(3, 0.01)], slowest=[Gap(1.5, 0.01, "1-4")])
    done = StoredDone(
        "failed",
        1.0,
        msgspec.Raw(b"[]"),
        [Finish(0, None)],
        {"total_tokens": 3},
        error,
        timings,
        cost=0.25,
        stream=stream,
    )
    value = jsoncodec.loads(
        jsoncodec.dumps(generation_json(state(status="failed"), "/events", output=done.output, done=done))
    )
    assert value["status"] == "failed"
    assert value["finish"] == [{"index": 0, "finish_reason": None}]
    assert value["usage"] == {"total_tokens": 3}
    assert value["error"] == {
        "message": "No.",
        "code": "upstream_error",
        "type": "server_error",
        "param": None,
        "status": None,
        "retry_after": None,
        "details": None,
    }
    assert value["timings"] == {"total": 1.5}
    assert value["upstream"] == {}
    assert value["cost"] == 0.25
    assert value["stream"] == {
        "attempts": 2, "stalls": 0, "gaps": [{"count": 3, "up_to": 0.01}],
        "slowest": [{"at": 1.5, "seconds": 0.01, "after": "1-4"}],
    }  # fmt: skip


def test_generation_json_has_the_final_status_together_with_its_error_and_not_before() -> None:
    """A client that reads `failed` reads `error.code` next."""
    begun = generation_json(state(terminating="failed", status="running"), "/events", output=[])
    assert (begun["status"], begun["error"]) == ("running", None)


def test_generation_json_omits_owner_worker_and_job() -> None:
    value = generation_json(state(worker="the-worker", job_id="the-job"), "/events", output=[])
    assert not any(internal in jsoncodec.dumps(value).decode() for internal in ("anna", "the-worker", "the-job"))
