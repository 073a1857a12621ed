"""A generation as JSON (`schemas.GenerationJson`): whole, as a row of a list, or what a page shows beside an answer."""

from typing import Any

from tailrace.events import Json
from tailrace.ids import short_name
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState


def generation_json(
    state: GenerationState,
    events_url: str,
    *,
    request: Any = None,
    output: Any = None,
    done: StoredDone | None = None,
    **known: Any,
) -> Json:
    """A generation as callers see it. With an `output` it is complete: its request, and the fields of its end.

    `request` and `output` are values, or JSON as it is stored (`msgspec.Raw`).
    """
    record = state.record
    generation: Json = {
        "id": record.id,
        "object": "generation",
        "status": state.status,
        "model": record.model,
        "created_at": record.created / 1000,
        "events_url": events_url,
    }
    if record.options.previous:
        generation["previous"] = record.options.previous
    if output is None:
        return generation | known
    generation |= {"request": request, "output": output}
    fields = ("finish", "usage", "cost", "error", "timings", "stream", "upstream", "format", "continued")
    generation |= {name: getattr(done, name, None) for name in fields}
    return generation | known


def list_row(state: GenerationState, events_url: str) -> Json:
    """A generation in a list: with what its state has, so that a page of the list costs one trip."""
    return generation_json(state, events_url, preview=state.record.preview, tokens=state.tokens, attempt=state.attempt)


def progress(state: GenerationState, readers: int, expires_at: int | None) -> Json:
    """The fields that a page shows beside an answer that is being written. `expires_at`: ms, once it has ended."""
    known: Json = {"attempt": state.attempt, "worker": short_name(state.worker) or None, "readers": readers}
    return known | ({} if expires_at is None else {"expires_at": expires_at / 1000})
