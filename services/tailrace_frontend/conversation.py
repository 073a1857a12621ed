"""A request's whole input: the conversation that it continues, and the items that it refers to.

    previous_response_id     the input and the output of that generation stand before the request's own input
    item_reference           the item replaces it; its id leads to it (`translation.input_items`)

A generation stores its input whole. A conversation of any length is therefore continued by one look at its last
generation, and stays as it was when earlier ones expire.
"""

from collections.abc import Iterable

import msgspec

from tailrace.errors import Gone, InvalidRequest, NotFound, ObjectNotFound, PreviousResponseNotFound, RequestTooLarge
from tailrace.events import Item, Json
from tailrace.ids import RESPONSE_PREFIX, generation_id_from
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.sizes import size_text
from tailrace.translation.input_items import ItemPlace, input_items, place_of
from tailrace.translation.responses_input import items_in, type_of
from tailrace.wire.openai_response_object import Context, wholes
from tailrace_frontend.generations import Generations
from tailrace_frontend.large_requests import Turn

MAX_REFERENCED = 256
"""Generations to which the references of one request may lead: each is one more look."""

REFERENCE = "item_reference"


class Conversations:
    """Looks into earlier generations for new requests. `max_bytes`: what one request may look at, as JSON."""

    def __init__(self, generations: Generations, log: Log, max_bytes: int) -> None:
        self._generations = generations
        self._log = log
        self._max_bytes = max_bytes

    async def resolve(self, owner: str, request: Json, turn: Turn) -> Json:
        """The request with its whole input. One that neither continues nor refers to anything is returned as it is.

        `turn`: grows by what is read, before it is decoded.

        Raises:
            PreviousResponseNotFound, ObjectNotFound: there is no such response, or no such item.
            InvalidRequest: the previous response has not ended, or there are too many references.
            RequestTooLarge: more would have to be read than a request may have.
        """
        if not is_continuation(request):
            return request
        previous, items = request.get("previous_response_id"), items_in(request.get("input"))
        references = [str(item.get("id")) for item in items if type_of(item) == REFERENCE]
        look = _Look(self._generations, self._log, owner, self._max_bytes, turn)
        before = [] if previous is None else await look.conversation(previous)
        found = await look.items(references)
        own = [found[str(item.get("id"))] if type_of(item) == REFERENCE else item for item in items]
        return {**request, "input": [*before, *own]}


def is_continuation(request: Json) -> bool:
    """Whether a request continues another one, or refers to items of others."""
    is_continued = request.get("previous_response_id") is not None
    return is_continued or any(type_of(item) == REFERENCE for item in items_in(request.get("input")))


class _Look:
    """The reads of one request, for its owner."""

    def __init__(self, generations: Generations, log: Log, owner: str, max_bytes: int, turn: Turn) -> None:
        self._generations = generations
        self._log = log
        self._owner = owner
        self._max_bytes = max_bytes
        self._read_bytes = 0
        self._turn = turn

    async def conversation(self, response_id: str) -> list[Json]:
        """The input and the output of a generation."""
        generation_id = generation_id_from(RESPONSE_PREFIX, response_id)
        state = await self._find(generation_id) if generation_id else None
        if state is None:
            raise PreviousResponseNotFound.of(response_id)
        if not state.is_final:
            raise InvalidRequest("The previous response has not ended.", param="previous_response_id")
        return await self._input(state) + await self._output(state)

    async def items(self, item_ids: Iterable[str]) -> dict[str, Json]:
        """The items with these ids."""
        places: dict[str, dict[str, ItemPlace]] = {}
        for item_id in item_ids:
            place = place_of(item_id)
            if place is None:
                raise _item_not_found(item_id)
            places.setdefault(place.generation_id, {})[item_id] = place
        if len(places) > MAX_REFERENCED:
            raise InvalidRequest(f"The items are of more than {MAX_REFERENCED} responses.", param="input")
        found: dict[str, Json] = {}
        for generation_id, wanted in places.items():
            found |= await self._items_of(generation_id, wanted)
        return found

    async def _items_of(self, generation_id: str, wanted: dict[str, ItemPlace]) -> dict[str, Json]:
        """The wanted items of one generation. Nothing else of it is kept: each may have a long conversation."""
        state = await self._find(generation_id)
        known: list[Json] = []
        if state is not None:
            if any(place.is_input for place in wanted.values()):
                known += await self._input(state)
            if state.is_final and not all(place.is_input for place in wanted.values()):
                known += await self._output(state)
        by_number = {place: item for item in known if (place := place_of(item["id"]))}
        for item_id, place in wanted.items():
            if place not in by_number:
                raise _item_not_found(item_id)
        return {item_id: by_number[place] for item_id, place in wanted.items()}

    async def _find(self, generation_id: str) -> GenerationState | None:
        """A generation that may be continued."""
        try:
            state = await self._generations.find(generation_id, self._owner)
        except (NotFound, Gone):
            return None
        return state if state.record.store else None

    async def _input(self, state: GenerationState) -> list[Json]:
        generation_id = state.record.id
        await self._charge(await self._log.request_bytes(generation_id))  # those that wait hold no copy of it
        async with self._generations.reads:
            stored = await self._log.stored_request(generation_id)
            request = await self._turn.step(lambda: msgspec.json.decode(stored))
        return await self._turn.step(lambda: input_items(generation_id, state.record.api, request))

    async def _output(self, state: GenerationState) -> list[Json]:
        """The items of the first choice, but for calls that were cut short: no client has an output for them."""
        async with self._generations.reads:
            done = await self._log.done(state.record.id)
            if done is None:
                return []
        await self._charge(len(memoryview(done.output)))
        return await self._turn.step(lambda: _items_of_output(state, done.output))

    async def _charge(self, size: int) -> None:
        """Count what is to be decoded, and wait for the turn that it needs: without `reads`, which its holder needs."""
        self._read_bytes += size
        if self._read_bytes > self._max_bytes:
            raise RequestTooLarge(f"The conversation may have at most {size_text(self._max_bytes)}.", param="input")
        await self._turn.grow(self._read_bytes)


def _items_of_output(state: GenerationState, output: msgspec.Raw) -> list[Json]:
    items = msgspec.json.decode(output, type=list[Item])
    context = Context(msgspec.structs.replace(state.record, logprobs=False), {})
    return wholes(context, (item for item in items if item.choice == 0 and (item.type != "call" or not item.status)))


def _item_not_found(item_id: str) -> ObjectNotFound:
    return ObjectNotFound.of("Item", item_id, param="input")
