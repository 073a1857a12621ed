"""When a command that a primary did not take is sent again (the table stands in `cluster`)."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from tailrace.errors import RedisRefused, RedisUnavailable
from tailrace.redis.hash_slots import key_of, slot_of
from tailrace.redis.pipeline import ConnectionInterrupted
from tailrace.redis.primaries import Primaries
from tailrace.redis.primary import Primary
from tailrace.redis.redirects import Redirected, SlotUnavailable
from tailrace.scripts import Command

REDIRECT_S = 3.0
"""How long a command is sent again while its slot is between two servers: `MIGRATE` of a log of a million entries takes
some 0.2 s."""

BACKOFF_S = 0.01
LONGEST_BACKOFF_S = 0.2

REPEATABLE = (Redirected, RedisUnavailable)


class Refusal(NamedTuple):
    """A command that was not taken, or whose reply was lost. `primary`: where it went; None where its slot is on no
    server."""

    primary: Primary | None
    error: Redirected | RedisUnavailable

    @property
    def is_asking(self) -> bool:
        """Whether the command, alone, is to go where the reply names."""
        return isinstance(self.error, Redirected) and self.error.asking

    def asked(self, primaries: Primaries) -> Primary | None:
        """Where the reply has the command go, alone; None where it does not."""
        if isinstance(self.error, Redirected) and self.error.asking and self.primary:
            return primaries.follow(self.error, self.primary)
        return None

    @property
    def is_interrupted(self) -> bool:
        """Whether the connection was lost, rather than the reply late."""
        return isinstance(self.error.__cause__, ConnectionInterrupted)


class ClusterRepetition:
    """Of the commands of one call, up to `retries` times where a connection was lost.

    With none, a call does not wait for a slot that is between two servers either: commands of other slots would wait
    with it, and the caller sends it again.
    """

    def __init__(self, primaries: Primaries, retries: int) -> None:
        self._primaries = primaries
        self._retries = retries
        self._waits = retries > 0
        self._pause_s = BACKOFF_S
        self._until: float | None = None

    async def due(self, commands: Sequence[Command], replies: Sequence[Any]) -> list[int]:
        """The indexes of the commands to be sent again now, after a pause where that helps; none: the other refusals
        are final."""
        refusals = {index: reply for index, reply in enumerate(replies) if isinstance(reply, Refusal)}
        if not refusals:
            return []
        self._until = self._until or time.monotonic() + REDIRECT_S
        for refusal in refusals.values():
            if isinstance(refusal.error, Redirected) and refusal.primary:
                self._primaries.follow(refusal.error, refusal.primary)
        errors = [refusal.error for refusal in refusals.values()]
        if any(isinstance(error, SlotUnavailable) for error in errors):
            self._primaries.request_read()
        await self._wait([error for error in errors if self._waits or not isinstance(error, SlotUnavailable)])
        is_over = time.monotonic() > self._until
        due = [index for index, each in refusals.items() if not is_over and self._is_due(commands[index], each)]
        if any(refusals[index].is_interrupted for index in due):
            self._retries -= 1
        return due

    async def _wait(self, errors: Sequence[Redirected | RedisUnavailable]) -> None:
        """Have the topology read where a primary did not respond, and pause where a slot is on its way."""
        if all(isinstance(error, Redirected) for error in errors) and self._pause_s == BACKOFF_S:
            self._pause_s *= 2
            return
        if any(not isinstance(error, Redirected | SlotUnavailable) for error in errors):
            with suppress(RedisUnavailable, RedisRefused):
                await self._primaries.read()
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load
        self._pause_s = min(2 * self._pause_s, LONGEST_BACKOFF_S)

    def _is_due(self, command: Command, refusal: Refusal) -> bool:
        if isinstance(refusal.error, Redirected):
            return True
        if isinstance(refusal.error, SlotUnavailable):
            return self._waits
        owner = self._primaries.owner_of(slot_of(key_of(command)))
        return owner is not refusal.primary or (refusal.is_interrupted and self._retries > 0)
