"""Reads from Redis which keys, blocks and revocations hold at run time, and keeps reading.

A change is published, and read at once. A message may be lost, so the version is read every `REREAD_S` as well. While
Redis is away, what was read last holds. A process that could not read it yet does not know which keys there are: it
answers 503 to a key that it does not know, and not 401.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from tailrace import keys
from tailrace.access import AccessStore
from tailrace.errors import TailraceError
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.channels import Channels
from tailrace_frontend.run_time_keys import RunTimeKeys

REREAD_S = 2.0
USED_S = 10.0
"""Between two reports of the keys that were used."""

LOOK_AGAIN_S = 0.2
"""Between two reads for a key that is not known. A client that guesses keys cannot cause more of them."""

logger = logging.getLogger(__name__)


class RunTimeAccess:
    """The newest state that was read. `on_refusal`: called once something may be refused that was allowed before."""

    def __init__(
        self, store: AccessStore, apply: Callable[[RunTimeKeys], None], on_refusal: Callable[[], None]
    ) -> None:
        self.store = store
        self.is_loaded = False
        self._apply = apply
        self._on_refusal = on_refusal
        self._current = RunTimeKeys()
        self._used: dict[str, int] = {}
        self._used_at = time.monotonic()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self, subscriber: Channels) -> None:
        """Read now, and whenever a change is published."""
        subscriber.add(keys.ACCESS_CHANGED, lambda _: self._changed.set())
        self._task = asyncio.create_task(self._run(), name="access")

    async def close(self) -> None:
        """Stop reading, and report which keys were used last."""
        await cancel_and_wait(self._task)
        with contextlib.suppress(TailraceError):
            await self._report_used()

    def note_used(self, key_id: str) -> None:
        """The key was used now."""
        if key_id:
            self._used[key_id] = int(time.time())

    async def look_again(self) -> bool:
        """Read the state for a key that is not known: it may have been created a moment ago. False: nothing is new.

        Raises:
            RedisUnavailable, RedisRefused: and the state was never read.
        """
        before, version = self._read_at, self._current.state.version
        try:
            async with self._reading:
                if self._read_at == before and time.monotonic() - before > LOOK_AGAIN_S:
                    await self._read()
        except TailraceError:
            if not self.is_loaded:
                raise
        return self._current.state.version != version

    async def refresh(self) -> None:
        """Read what this process has changed itself: now, or as soon as Redis is back."""
        try:
            async with self._reading:
                await self._read()
        except TailraceError:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            try:
                async with self._reading:
                    await self._read()
                await self._report_used_in_time()
            except TailraceError as error:
                logger.debug("access: what was read last holds: %s", error)
            except Exception:
                logger.exception("access: reading failed; what was read last holds")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REREAD_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _read(self) -> None:
        """
        Raises:
            RedisUnavailable, RedisRefused: nothing has changed.
        """
        is_new = await self.store.version() != self._current.state.version
        if is_new:
            before, self._current = self._current, RunTimeKeys(await self.store.load())
            if self._current.state.version < before.state.version:
                logger.warning("access: Redis has lost changes of keys, blocks or revocations")
            self._apply(self._current)
            if self._current.refuses_more_than(before):
                self._on_refusal()
        self.is_loaded = True
        self._read_at = time.monotonic()

    async def _report_used_in_time(self) -> None:
        if time.monotonic() - self._used_at > USED_S:
            self._used_at = time.monotonic()
            await self._report_used()
            await self.store.remove_expired(self._current.state)

    async def _report_used(self) -> None:
        used, self._used = self._used, {}
        await self.store.note_used({each: at for each, at in used.items() if each in self._current.state.keys})
