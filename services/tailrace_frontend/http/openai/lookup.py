"""Ids of OpenAI's API, and the generations that they name.

An id that is malformed, unknown, another caller's, deleted or expired gets the same answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tailrace.errors import Gone, NotFound, ObjectNotFound
from tailrace.ids import CHAT_COMPLETION_PREFIX, RESPONSE_PREFIX, generation_id_from
from tailrace.log.state import GenerationState
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http.stream_endpoint import GENERATION_HEADER
from tailrace_frontend.services import Services


class ObjectKind(NamedTuple):
    """A kind of object that a generation is shown as: its name in messages, and the prefix of its ids."""

    name: str
    prefix: str


CHAT_COMPLETION = ObjectKind("Chat completion", CHAT_COMPLETION_PREFIX)
RESPONSE = ObjectKind("Response", RESPONSE_PREFIX)


async def find(services: Services, caller: ApiKey, kind: ObjectKind, object_id: str) -> GenerationState:
    """Where the generation stands that this id names.

    Raises:
        ObjectNotFound: there is none.
        Unavailable: as `Generations.find`.
    """
    with as_object_not_found(kind, object_id):
        generation_id = generation_id_from(kind.prefix, object_id)
        if generation_id is None:
            raise NotFound
        async with services.rate_limits.turn(caller.owner):
            return await services.generations.find(generation_id, caller.owner)


@contextmanager
def as_object_not_found(kind: ObjectKind, object_id: str) -> Iterator[None]:
    """Raises ObjectNotFound in place of NotFound and Gone."""
    try:
        yield
    except (NotFound, Gone):
        raise ObjectNotFound.of(kind.name, object_id) from None


def headers_of(state: GenerationState) -> dict[str, str]:
    """Response headers of an answer that created or found a generation."""
    return {GENERATION_HEADER: state.record.id}
