"""Generations as they are read without HTTP: one, its snapshot, its end, a list of a caller's."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace import keys
from tailrace.errors import Gone, NotFound, Unavailable
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_frontend.state_reads import StateReads
from tailrace_frontend.streaming.completion_waiter import Client, MayWait, wait_for_completion
from tailrace_frontend.streaming.hub import Hub

READS = 2
"""Generations that are read whole at the same time. Each may take tens of megabytes."""

VANISHED = 10_000
"""So many vanished generations end a list. (600,000 of them took 12 s in 61 lists, the longest 0.33 s, and no command
more than 8 ms, measured; in one list 12 s, half of that in one command.)"""


class Snapshot(NamedTuple):
    """A generation at one moment.

    `request` and `output` are JSON; both None where only the rest was asked for. `done` is there once the generation
    has ended, `position` while it waits. `open`: the numbers of the items that are not complete. `last_id`: the last
    entry that the output has, of one that has not ended. `expires_at`: ms of Redis' clock, of a summary after the end.
    """

    state: GenerationState
    request: Any = None
    output: Any = None
    done: StoredDone | None = None
    position: int | None = None
    workers: int | None = None
    open: Collection[int] = ()
    last_id: EntryId | None = None
    expires_at: int | None = None


class ReadableGenerations:
    """The reading operations on generations, each for one owner. `reads` bounds how many are read whole at the same
    time."""

    def __init__(self, settings: Settings, log: Log, queue: Queue, hub: Hub) -> None:
        self._settings = settings
        self._log = log
        self._queue = queue
        self._hub = hub
        self._states = StateReads(log)
        self.reads = asyncio.Semaphore(READS)

    async def find(self, generation_id: str, owner: str) -> GenerationState:
        """Where one of the owner's generations stands.

        Raises:
            NotFound, Gone: there is no such generation, or no longer.
            Unavailable: it is missing on a server so young that it may yet be restored, or while workers restore logs.
        """
        state = await self._states.read(generation_id)
        if state is not None and state.record.owner == owner:
            return state
        try:
            return await self._log.state(generation_id, owner)
        except NotFound:
            server = await self._log.server.find_primary(keys.state(generation_id))
            run = await server.run()
            if run.age_s < self._settings.restart_grace_s:
                raise Unavailable("Redis has just started.") from None
            if await self._log.is_restoring(generation_id):
                raise Unavailable("Redis has lost data that workers restore.") from None
            raise

    async def wait(
        self, generation_id: str, owner: str, wait_s: float = 0, client: Client | None = None,
        may_wait: MayWait = lambda: True,
    ) -> GenerationState:  # fmt: skip
        """Where the generation stands after its end, or after `wait_s`, or as soon as the client has left or may no
        longer wait.

        Raises:
            NotFound, Gone, Unavailable: as `find`.
            RateLimited: too many readers; a caller that waits is one.
        """
        state = await self.find(generation_id, owner)
        if wait_s:
            state = await wait_for_completion(self._hub, state, wait_s, client, may_wait)
        return state

    async def summary(self, state: GenerationState) -> Snapshot:
        """The generation without request and output, which are megabytes where they are large: two small commands."""
        snapshot = Snapshot(state, None, None, None, *await self._place(state))
        if not state.is_final:
            return snapshot
        return snapshot._replace(expires_at=await self._log.expires_at(state.record.id))

    def count_readers(self, generation_id: str) -> int:
        """Event streams of this frontend that read the generation."""
        return self._hub.readers_of(generation_id)

    async def end(self, state: GenerationState) -> StoredDone | None:
        """How the generation has ended, with its output; None: it has not, or Redis has lost the end."""
        if not state.is_final:
            return None
        async with self.reads:
            return await self._log.done(state.record.id)

    async def snapshot(self, state: GenerationState) -> Snapshot:
        """The generation with its request and its output so far.

        Raises:
            NotFound, Gone: the generation has vanished meanwhile.
        """
        async with self.reads:
            return await self._snapshot(state)

    async def _snapshot(self, state: GenerationState) -> Snapshot:
        generation_id = state.record.id
        request = msgspec.Raw(await self._log.stored_request(generation_id))
        done = await self._log.done(generation_id) if state.is_final else None
        if done is not None:
            return Snapshot(state, request, done.output, done)
        output = await self._log.output(generation_id, logprobs=state.record.logprobs)
        if output.last_id.seq < 0:
            await self._log.state(generation_id)  # raises NotFound or Gone where it was deleted, or has expired
            raise Gone("lost")
        if output.done:  # written since the state was read
            return await self._snapshot(await self._log.state(generation_id))
        return Snapshot(state, request, output.items(), None, *await self._place(state), output.open, output.last_id)

    async def _place(self, state: GenerationState) -> tuple[int | None, int]:
        """The generation's place in the queue while it waits, and the number of workers."""
        position = await self._queue.jobs.position(state.job_id) if state.status == "queued" else None
        return position, await self._queue.presence.count()

    async def list(self, owner: str, limit: int, after: str | None) -> tuple[Sequence[GenerationState], bool]:
        """Up to `limit` of the owner's generations that are still kept, newest first; whether there may be more.

        Those that have vanished are forgotten on the way, up to `VANISHED` of them: then the list ends with what was
        found, and the next one continues. (They are many only where Redis has lost them, or where a caller has created
        nothing since: creations remove them, too.)

        Raises:
            Unavailable: nothing was found among so many; the next list continues.
        """
        found: list[GenerationState] = []
        vanished = 0
        async for page in self._queue.index.list_owned(owner, after):
            states = await self._log.states(page)
            missing = [each for each, state in zip(page, states, strict=True) if state is None]
            await self._queue.index.forget(owner, missing)
            vanished += len(missing)
            found += [state for state in states if isinstance(state, GenerationState)]
            if len(found) > limit:
                break
            if vanished >= VANISHED:
                if not found:
                    raise Unavailable("Generations that have expired are being removed from the list. Try again.")
                return found, True
        return found[:limit], len(found) > limit
