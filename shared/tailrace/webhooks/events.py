"""The events that webhooks report, and their ids.

    response.*      a Responses request with `background: true` has ended; `data.id` is the response's
    generation.*    a generation of the native API, or of `/api/chat`, has ended; `data.id` is the generation's

`*` is the final status. A generation has one end, and so one event for each endpoint; one whose client waits for the
answer has none. An id is a hash of what it names, so that each process that notes the same event gives it the same id.
It is as hard to guess as the generation's.
"""

import base64
import hashlib
from typing import get_args

from tailrace import jsoncodec
from tailrace.events import FinalStatus, GenerationRecord
from tailrace.ids import RESPONSE_PREFIX, id_as, new_generation_id

RESPONSE, GENERATION = "response", "generation"

EVENT_TYPES = tuple(f"{kind}.{status}" for kind in (RESPONSE, GENERATION) for status in get_args(FinalStatus))


def event_kind(record: GenerationRecord) -> str | None:
    """The kind of the event that a generation ends with; None where its client waits for the answer."""
    if record.foreground:
        return None
    return RESPONSE if record.background else GENERATION


def event_body(generation_id: str, type_: str, at: float) -> bytes:
    """The event as JSON. `at`: time of the end (epoch seconds)."""
    is_response = type_.startswith(f"{RESPONSE}.")
    subject = id_as(RESPONSE_PREFIX, generation_id) if is_response else generation_id
    event = {
        "id": "evt_" + _hash(generation_id, type_),
        "object": "event",
        "type": type_,
        "created_at": int(at),
        "data": {"id": subject},
    }
    return jsoncodec.dumps(event)


def sample_body(type_: str, at: float) -> bytes:
    """An event of this type for a generation that does not exist."""
    return event_body(new_generation_id(), type_, at)


def webhook_id(generation_id: str, type_: str, endpoint_id: str) -> str:
    """The id of the message that brings an event to an endpoint: the same on every try."""
    return "wh_" + _hash(generation_id, type_, endpoint_id)


def _hash(*names: str) -> str:
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:26]
