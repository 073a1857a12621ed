"""Webhooks that wait for their delivery: of each endpoint, when each is due, its body, and how often it was tried.

A webhook is due at once when it is noted. A worker claims some that are due, and no other worker gets them meanwhile.
It removes each of them, or has it be due again later. A worker that dies does neither: when its claim ends, they are
due again.
"""

import logging
from typing import NamedTuple

from tailrace import keys, scripts
from tailrace.errors import RedisFull
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command
from tailrace.webhooks.endpoints import EndpointRef

MAX_WAITING = 10_000
"""Webhooks of one endpoint that may wait: 4 MB. Further ones are dropped. (Otherwise an endpoint that answers nothing
would keep those of 72 hours.)"""

CLAIM_S = 30.0
"""Longer than `sender.TIMEOUT_S`, so that a worker that lives settles in time."""

logger = logging.getLogger(__name__)


class Webhook(NamedTuple):
    """A claimed webhook. `now`: ms of Redis' clock at the claim. `tries`: begun so far, this one included."""

    id: str
    body: bytes
    tries: int
    now: int


class Outbox:
    """The webhooks of all endpoints, on the log's server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def add(self, ref: EndpointRef, webhook_id: str, body: bytes, known_s: float) -> bool:
        """Note a webhook, also on a server without room. False: its id was noted within the last `known_s` seconds, or
        too many wait at this endpoint."""
        names = [keys.webhook_known(webhook_id), keys.WEBHOOKS_PENDING, *_keys_of(ref)[:2]]
        command = scripts.ADD_WEBHOOK.on(names, webhook_id, body, str(ref), int(1000 * known_s), MAX_WAITING)
        outcome = (await self._server.execute(*command))[0]
        if outcome == b"FULL":
            logger.warning("webhook %s is dropped: %d wait at endpoint %s", webhook_id, MAX_WAITING, ref.id)
        return bool(outcome == b"OK")

    async def claim(self, ref: EndpointRef, count: int) -> list[Webhook]:
        """Up to `count` webhooks of the endpoint that are due, for `CLAIM_S`. Each claim counts as a try."""
        names = [keys.WEBHOOKS_PENDING, *_keys_of(ref)]
        command = scripts.CLAIM_WEBHOOKS.on(names, str(ref), count, int(1000 * CLAIM_S))
        now, *parts = await self._server.execute(*command)
        rows = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        return [Webhook(webhook_id.decode(), body, int(tries), int(now)) for webhook_id, body, tries in rows]

    async def remove(self, ref: EndpointRef, webhook_id: str) -> None:
        """The webhook was accepted, or is given up."""
        due, bodies, tries = _keys_of(ref)
        commands: list[Command] = [("ZREM", due, webhook_id), ("HDEL", bodies, webhook_id), ("HDEL", tries, webhook_id)]
        checked(await self._server.execute_many(commands))

    async def defer(self, ref: EndpointRef, webhook_id: str, until: int) -> None:
        """Try the webhook again at that time (ms of Redis' clock), if it still waits."""
        await self._server.execute("ZADD", keys.webhooks_due(ref.id), "XX", until, webhook_id)

    async def forget(self, ref: EndpointRef) -> None:
        """Remove all webhooks of an endpoint that exists no longer."""
        checked(await self._server.execute_many([("DEL", *_keys_of(ref)), ("SREM", keys.WEBHOOKS_PENDING, str(ref))]))

    async def due(self) -> list[EndpointRef]:
        """Endpoints where something is due now: a first try, a retry, or one whose worker was lost."""
        members = await self._server.execute("SMEMBERS", keys.WEBHOOKS_PENDING)
        if not members:
            return []
        refs = [EndpointRef.parse(each.decode()) for each in members]
        commands: list[Command] = [("ZRANGE", keys.webhooks_due(ref.id), 0, 0, "WITHSCORES") for ref in refs]
        now, earliest = await self._server.now(), checked(await self._server.execute_many(commands))
        return [ref for ref, first in zip(refs, earliest, strict=True) if not first or float(first[1]) <= now]

    async def claim_sweep(self, period_ms: int) -> bool:
        """Whether this process looks for what is due in this period. One of the fleet does; on a full server, all."""
        try:
            return bool(await self._server.execute("SET", keys.WEBHOOKS_SWEPT, b"", "NX", "PX", period_ms))
        except RedisFull:
            return True


def _keys_of(ref: EndpointRef) -> list[str]:
    return [keys.webhooks_due(ref.id), keys.webhook_bodies(ref.id), keys.webhook_tries(ref.id)]
