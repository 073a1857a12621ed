"""The AI SDK's chats, without HTTP. A chat is an id that a page has chosen; it maps to its newest generation.

Nothing else is stored for a chat: the generation's request has all messages up to its answer, as the page has sent
them. A chat therefore lives as long as its newest generation, and an unknown chat is one without messages.
"""

import contextlib

import msgspec

from tailrace.errors import Gone, NotFound
from tailrace.events import Item, Json
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.wire import ui_message_object
from tailrace_frontend.generations import Generations
from tailrace_frontend.readable_generations import Snapshot


class Chats:
    """The operations on chats that routes offer, each for one owner."""

    def __init__(self, queue: Queue, generations: Generations) -> None:
        self._queue = queue
        self._generations = generations

    async def begin_answer(self, chat_id: str, state: GenerationState) -> None:
        """Note that the generation answers the chat, unless a newer one does. An answer that it replaces is cancelled
        if it is still being written: nothing shows it, and `stop` would not find it.

        Raises:
            Unavailable: Redis is away, or has no memory left.
        """
        replaced = await self._queue.index.set_newest_of_chat(chat_id, state.record)
        if replaced is None:
            return
        with contextlib.suppress(NotFound, Gone):
            await self._cancel(await self._generations.find(replaced, state.record.owner))

    async def newest(self, chat_id: str, owner: str) -> GenerationState | None:
        """The chat's newest generation; None where there is none, or it is no longer kept.

        Raises:
            Unavailable: as `Generations.find`.
        """
        generation_id = await self._queue.index.newest_of_chat(chat_id, owner)
        try:
            return None if generation_id is None else await self._generations.find(generation_id, owner)
        except (NotFound, Gone):
            return None

    async def stop(self, chat_id: str, owner: str) -> GenerationState | None:
        """Cancel the chat's answer, if it is still being written: the state of the newest generation after that."""
        state = await self.newest(chat_id, owner)
        return None if state is None else await self._cancel(state)

    async def _cancel(self, state: GenerationState) -> GenerationState:
        return state if state.is_final else await self._generations.cancel(state.record.id, state.record.owner)

    async def messages(self, chat_id: str, owner: str) -> list[Json]:
        """The chat's UI messages. An answer that is still being written is none of them: the page reads its stream,
        which begins with the answer's first part."""
        state = await self.newest(chat_id, owner)
        try:
            return [] if state is None else _messages(await self._generations.snapshot(state))
        except (NotFound, Gone):
            return []


def _messages(snapshot: Snapshot) -> list[Json]:
    request: Json = msgspec.json.decode(snapshot.request)
    messages: list[Json] = request["messages"]
    if snapshot.done is None:
        return messages
    context = ui_message_object.context(snapshot.state.record, request)
    return ui_message_object.with_answer(messages, context, msgspec.json.decode(snapshot.done.output, type=list[Item]))
