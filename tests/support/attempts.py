"""Attempts at one generation on a real log, with a scripted upstream."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable

import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on
from support.queues import queue_on
from support.stored_log import done_of_log
from tailrace.events import Done, GenerationRecord, Json
from tailrace.ids import new_generation_id, new_token
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace_worker import attempt
from tailrace_worker.appender import Appender
from tailrace_worker.attempt import Attempt
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT

MAX_ATTEMPTS = 2


class AttemptHarness:
    """One generation, and the attempts at it."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.log = log
        self.queue = queue_on(redis)
        self.confirmations = confirmations_on(log, self.queue)
        self.settings = Settings(max_attempts=MAX_ATTEMPTS)
        self.upstream = UpstreamClient(self.settings)
        self.appender = Appender(log, self.queue.index.register)
        self.generation_id = new_generation_id()

    async def attempt(self) -> Attempt:
        grant = await self.log.acquire(self.generation_id, new_token(), worker="this worker")
        return Attempt(self.settings, self.log, self.queue, self.confirmations, self.appender, self.upstream, grant)

    async def done(self) -> Done:
        done = await done_of_log(self.log, self.generation_id)
        assert done is not None
        return done


class ScriptedDialect:
    """A dialect whose every stream has these payloads, one a read: chunks, or bytes as they are.

    An error is raised in its place; an event is waited for. `opened` and `closed` count the streams.
    `payloads` may be replaced before the first one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *payloads: Json | bytes | Exception | asyncio.Event) -> None:
        self.opened = 0
        self.closed = 0
        self.payloads: Iterable[Json | bytes | Exception | asyncio.Event] = payloads
        monkeypatch.setattr(attempt, "DIALECTS", {DEFAULT_DIALECT: Dialect(self._open, ChatTranslator)})

    async def _open(self, _: UpstreamClient, __: GenerationRecord, ___: Json) -> AsyncGenerator[list[bytes], None]:
        self.opened += 1
        try:
            for payload in self.payloads:
                await asyncio.sleep(0)  # as for a socket: other tasks run
                if isinstance(payload, Exception):
                    raise payload
                if isinstance(payload, asyncio.Event):
                    await payload.wait()
                else:
                    yield [payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
        finally:
            self.closed += 1
