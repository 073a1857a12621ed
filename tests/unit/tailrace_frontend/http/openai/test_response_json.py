"""Responses and lists of items as JSON."""

from typing import Any

import msgspec
import pytest
from openai.types.responses import Response

from support.logs import AT, USAGE, record
from tailrace import jsoncodec
from tailrace.errors import InvalidValue
from tailrace.events import Failure, Finish, Item
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace_frontend.http.openai.response_json import encoded_response_of, page_of, response_of
from tailrace_frontend.readable_generations import Snapshot

REQUEST = {"model": "demo", "input": "Hello?", "metadata": {"a": "b"}}
ITEMS = [Item(0, "reasoning", text="Hm."), Item(1, "text", text="Hel")]


def state(status: Any, **fields: Any) -> GenerationState:
    return GenerationState(
        record(api="responses", **fields), status, epoch=1, attempt=1, seq=5, lease=0, deadline=0, job_id="j"
    )


def stored(status: Any, **fields: Any) -> StoredDone:
    return StoredDone(status, AT, msgspec.Raw(jsoncodec.dumps(ITEMS)), **fields)


@pytest.mark.parametrize(
    ("status", "background", "shown"),
    [("queued", True, "queued"), ("queued", False, "in_progress"), ("running", True, "in_progress")],
)
def test_response_that_has_not_ended(status: str, background: bool, shown: str) -> None:
    response = response_of(Snapshot(state(status, background=background), REQUEST, []))
    assert (response["status"], response["output"], response["usage"]) == (shown, [], None)
    assert response["metadata"] == {"a": "b"}
    Response.model_validate(response, strict=True)


def test_response_that_runs_has_its_output_so_far() -> None:
    response = response_of(Snapshot(state("running"), REQUEST, ITEMS, open=[1]))
    assert [item["status"] for item in response["output"]] == ["completed", "in_progress"]
    assert response["output"][1]["content"][0]["text"] == "Hel"


@pytest.mark.parametrize(
    ("done", "error", "details"),
    [
        (stored("completed", finish=[Finish(0, "stop")], usage=USAGE), None, None),
        (stored("incomplete", finish=[Finish(0, "length")]), None, {"reason": "max_output_tokens"}),
        (stored("cancelled"), None, None),
        (
            stored("failed", error=Failure("No.", "upstream_refused", "invalid_request_error")),
            {"code": "server_error", "message": "No.", "type": "invalid_request_error", "param": None},
            None,
        ),
    ],
)
def test_response_that_has_ended(done: StoredDone, error: Any, details: Any) -> None:
    snapshot = Snapshot(state(done.status), msgspec.Raw(jsoncodec.dumps(REQUEST)), done.output, done)
    response = jsoncodec.loads(encoded_response_of(snapshot))
    assert response == response_of(snapshot)
    assert (response["status"], response["error"], response["incomplete_details"]) == (done.status, error, details)
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["usage"]["total_tokens"] == (USAGE["total_tokens"] if done.usage else 0)
    Response.model_validate(response, strict=True)


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": f"msg_{number}"} for number in range(count)]


@pytest.mark.parametrize(
    ("order", "after", "limit", "ids", "has_more"),
    [
        ("asc", None, 2, ["msg_0", "msg_1"], True),
        ("asc", "msg_1", 2, ["msg_2", "msg_3"], True),
        ("asc", "msg_3", 2, ["msg_4"], False),
        ("asc", "msg_4", 2, [], False),
        ("desc", None, 2, ["msg_4", "msg_3"], True),
        ("desc", "msg_3", 3, ["msg_2", "msg_1", "msg_0"], False),
        ("desc", None, 5, ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"], False),
    ],
)
def test_page_of_items(order: Any, after: Any, limit: int, ids: list[str], has_more: bool) -> None:
    page = page_of(items(5), after=after, limit=limit, order=order)
    assert [item["id"] for item in page["data"]] == ids
    assert (page["object"], page["has_more"]) == ("list", has_more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


def test_page_after_an_item_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidValue) as refusal:
        page_of(items(2), after="msg_7", limit=2, order="asc")
    assert refusal.value.param == "after"
