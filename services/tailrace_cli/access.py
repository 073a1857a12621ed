"""Generations from a terminal: over Redis, as a frontend has them, without a frontend. (`remote_generations` asks one.)

A user who reaches Redis may read and cancel any generation. New ones belong to a caller, whose limits and models are
those of its requests to a frontend.
"""

import math
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tailrace.errors import MAX_ID, Misconfigured, NotFound, RedisUnavailable, Unavailable
from tailrace.ids import is_generation_id
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import CallerPolicies, Queue
from tailrace.redis.outage import place_of, reason_of
from tailrace.settings import DATA_DIR, Settings
from tailrace.stats.history import History
from tailrace_frontend.api_keys import ApiKeys
from tailrace_frontend.callers import OPEN
from tailrace_frontend.generations import Generations
from tailrace_frontend.streaming.hub import Hub


class Access:
    """The operations on generations. They are those of a frontend that serves no clients; `history` has what they
    count, and is flushed at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = Log.connect(settings)
        self.queue = Queue.connect(settings)
        hub = Hub(settings, self.log)
        self.confirmations = Confirmations(self.log, self.queue, connected_at=lambda: -math.inf, stats=hub.stats)
        self.history = History(hub.stats, self.queue.server, {})
        self.policies = CallerPolicies(self.queue.server, settings)
        self.queue.use_rights(self.policies.right_of)
        self.generations = Generations(
            settings, self.log, self.queue, self.confirmations, hub, limits_of=self.policies.of
        )

    async def find(self, generation_id: str, caller: str) -> GenerationState:
        """The generation with this id, of any owner; without an id the latest one of the caller.

        Raises:
            NotFound, Gone: there is none, or no longer.
        """
        if generation_id:
            return await self._state(generation_id)
        owner = owner_of(self.settings, caller)
        found, _ = await self.generations.list(owner, 1, None)
        if not found:
            raise NotFound("there is no generation yet; `tailrace ask` creates one")
        return found[0]

    async def _state(self, generation_id: str) -> GenerationState:
        try:
            if not is_generation_id(generation_id):
                raise NotFound
            return await self.log.state(generation_id)
        except NotFound:
            raise NotFound(f"generation {generation_id[:MAX_ID]} does not exist") from None

    def explained(self, error: RedisUnavailable) -> Unavailable:
        """The error with the server's place, the setting that has it, the reason, and where else a server was looked
        for."""
        settings, is_queue = self.settings, self.queue.server.is_away and not self.log.server.is_away
        is_own = is_queue and bool(settings.queue_url)
        url, setting = (settings.queue_url, "QUEUE_URL") if is_own else (settings.redis_url, "REDIS_URL")
        is_chosen = is_own or "redis_url" in settings.model_fields_set
        hint = "" if is_chosen else f". No `tailrace dev` was found in {settings.data_dir.absolute()} (--data-dir)"
        reason = reason_of(error.__cause__ or error)
        return Unavailable(f"Redis at {place_of(url)} (TAILRACE_{setting}) does not respond: {reason}{hint}")

    async def close(self) -> None:
        await self.history.flush_finally()
        await self.log.server.close()
        await self.queue.server.close()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Access]:
    """Access during the block.

    Raises:
        Unavailable: Redis does not respond.
    """
    access = Access(settings)
    try:
        yield access
    except RedisUnavailable as error:
        raise access.explained(error) from None
    finally:
        await access.close()


def owner_of(settings: Settings, caller: str) -> str:
    """The owner of a caller's generations. `caller`: "" for the only one there is.

    Raises:
        Misconfigured: there are several, or none of this name.
    """
    if not settings.has_callers:
        return caller or OPEN
    keys = ApiKeys(settings.api_keys.get_secret_value().strip())
    names = sorted({key.owner for key in keys.current().values()})
    if caller in names or (not caller and len(names) == 1):
        return caller or names[0]
    if caller and settings.jwt_issuer:
        return caller  # tokens name callers that the settings do not
    problem = f"TAILRACE_API_KEYS has no caller {caller!r}" if caller else "TAILRACE_API_KEYS has several callers"
    raise Misconfigured(f"{problem}; choose one with --caller: {', '.join(names)}")


def command_for(settings: Settings, *words: str) -> str:
    """A command of `tailrace` that finds the same server, as a shell reads it."""
    is_given = str(settings.data_dir) != os.environ.get("TAILRACE_DATA_DIR", str(DATA_DIR))
    return shlex.join([*program(), *words, *(["--data-dir", str(settings.data_dir)] if is_given else [])])


def program() -> list[str]:
    """The words that start `tailrace`: its name, or, where that is not on PATH, those that started this process."""
    if shutil.which("tailrace"):
        return ["tailrace"]
    return [sys.executable, "-m", "tailrace_cli"] if sys.argv[0].endswith("__main__.py") else [sys.argv[0]]
