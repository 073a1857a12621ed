"""Responses, and lists of their input items, as JSON."""

from typing import Literal

import msgspec

from tailrace import jsoncodec
from tailrace.errors import InvalidValue
from tailrace.events import Done, Item, Json
from tailrace.wire.openai_response_object import Context, ended, response, wholes
from tailrace_frontend.readable_generations import Snapshot

Order = Literal["asc", "desc"]


def response_of(snapshot: Snapshot) -> Json:
    """The Response as it stands, with its output so far."""
    state, done = snapshot.state, snapshot.done
    request = snapshot.request
    if isinstance(request, msgspec.Raw):
        request = msgspec.json.decode(request)
    context = Context.of(state.record, request)
    if done is not None:
        output = msgspec.json.decode(done.output, type=list[Item])
        end = Done(done.status, done.at, done.finish, done.usage, done.error, output=output, response=done.response)
        return ended(context, end)
    status = "queued" if state.status == "queued" and state.record.background else "in_progress"
    return response(context, status, output=wholes(context, snapshot.output, snapshot.open))


def encoded_response_of(snapshot: Snapshot) -> bytes:
    """The same, encoded."""
    return jsoncodec.dumps(response_of(snapshot))


def page_of(items: list[Json], *, after: str | None, limit: int, order: Order) -> Json:
    """A page of items. `after`: the id of the last item of the page before.

    Raises:
        InvalidValue: there is no such item.
    """
    ordered = items if order == "asc" else items[::-1]
    start = 0
    if after is not None:
        start = next((i for i, item in enumerate(ordered, 1) if item["id"] == after), 0)
        if not start:
            raise InvalidValue("after: there is no item with this id.", param="after")
    data = ordered[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > start + limit,
    }
