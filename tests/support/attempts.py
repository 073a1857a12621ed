"""Attempts at one generation on a real log, with a scripted upstream."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from functools import partial

import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on
from support.queues import queue_on
from support.stored_log import done_of_log
from tailrace.events import Done, GenerationRecord, Json
from tailrace.ids import new_generation_id, new_token
from tailrace.log import Log
from tailrace.log.measures import Measures
from tailrace.settings import Settings
from tailrace_worker import fallback
from tailrace_worker.appenders import Appenders
from tailrace_worker.attempt import Attempt
from tailrace_worker.json_checker import JsonChecker
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect, PartialAnswer
from tailrace_worker.upstream_pool import UpstreamPool

MAX_ATTEMPTS = 2

Payload = Json | bytes | Exception | asyncio.Event


class AttemptHarness:
    """One generation, and the attempts at it."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.log = log
        self.queue = queue_on(redis)
        self.confirmations = confirmations_on(log, self.queue)
        self.settings = Settings(max_attempts=MAX_ATTEMPTS)
        self.pool = UpstreamPool(self.settings, self.queue.upstreams, "this worker")
        self.json_checker = JsonChecker()
        self.appenders = Appenders(log, self.queue.index.register)
        self.generation_id = new_generation_id()

    async def attempt(self, earlier: Measures | None = None) -> Attempt:
        grant = await self.log.acquire(self.generation_id, new_token(), worker="this worker")
        appender = self.appenders.join(self.generation_id)
        return Attempt(
            self.settings, self.log, self.queue, self.confirmations, appender, self.pool, grant,
            self.json_checker, earlier,
        )  # fmt: skip

    async def done(self) -> Done:
        done = await done_of_log(self.log, self.generation_id)
        assert done is not None
        return done


class ScriptedDialect:
    """A dialect whose every stream has these payloads, one a read: chunks, or bytes as they are.

    An error is raised in its place; an event is waited for. `opened` and `closed` count the streams.
    `payloads` may be replaced before the first one. `rest`: the payloads of streams that continue a text; None: the
    dialect cannot continue one. `continued` has these texts.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *payloads: Payload, rest: Iterable[Payload] | None = None
    ) -> None:
        self.opened = 0
        self.rest = rest
        self.continued: list[str] = []
        self.closed = 0
        self.payloads: Iterable[Payload] = payloads
        dialect = Dialect(self._open, ChatTranslator, None if rest is None else self._continuing)
        monkeypatch.setattr(fallback, "DIALECTS", {"chat": dialect})

    def _continuing(self, answer: PartialAnswer) -> Dialect:
        self.continued.append(answer.text)
        return Dialect(partial(self._open, rest=self.rest), partial(ChatTranslator, continued=answer))

    async def _open(
        self, _: UpstreamClient, __: GenerationRecord, ___: Json, rest: Iterable[Payload] | None = None
    ) -> AsyncGenerator[list[bytes], None]:
        self.opened += 1
        try:
            for payload in self.payloads if rest is None else rest:
                await asyncio.sleep(0)  # as for a socket: other tasks run
                if isinstance(payload, Exception):
                    raise payload
                if isinstance(payload, asyncio.Event):
                    await payload.wait()
                else:
                    yield [payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
        finally:
            self.closed += 1
