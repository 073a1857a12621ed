"""A generation's output as a JSON value (`schemas.GenerationValue`), complete or not."""

import msgspec

from tailrace.events import Item, Json
from tailrace.wire import json_value
from tailrace_frontend import large_requests
from tailrace_frontend.readable_generations import Snapshot


async def value_json(snapshot: Snapshot) -> Json:
    """The value of the output so far. A large output is parsed in a turn of the event loop of its own."""
    state, output = snapshot.state, snapshot.output
    if isinstance(output, msgspec.Raw):
        output = msgspec.json.decode(output, type=list[Item])
    text = json_value.text_of(output)
    parsed = await large_requests.step(len(text), lambda: json_value.parse(text, ended=state.is_final))
    return {
        "id": state.record.id,
        "object": "generation.value",
        "status": state.status,
        "value": parsed.value,
        "is_complete": parsed.is_complete,
        "refusal": json_value.refusal_of(output),
        "error": parsed.error,
        "format": snapshot.done and snapshot.done.format,
        "last_event_id": str(snapshot.last_id or state.position),
    }
