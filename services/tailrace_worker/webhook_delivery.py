"""Delivers webhooks beside the generations of a worker.

A job only starts the delivery and ends: it holds no slot of a generation, however slow a receiver is. Each endpoint has
a task of its own, which claims a few webhooks, sends them together, and continues until nothing is due. A receiver that
does not answer thus delays its own webhooks, and a turn of the others by `TIMEOUT_S` where more than
`ENDPOINTS_AT_ONCE` are slow at the same time.

A webhook is accepted with a 2xx. A 410 ends it: its receiver wants no more. After anything else it is tried again, with
a pause that doubles, for 72 hours from the event.
"""

import asyncio
import logging
import random

import msgspec

from tailrace.errors import RedisRefused, Unavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.server import RedisServer
from tailrace.webhooks import Endpoint, EndpointRef, Endpoints, Outbox, Sender, Unreachable, Webhook
from tailrace.webhooks.signatures import signed_headers

AT_ONCE = 8
"""Webhooks that a worker sends to one endpoint at the same time."""

ENDPOINTS_AT_ONCE = 32

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 6 * 3600.0
JITTER = 0.25
RETRIED_S = 72 * 3600
"""About 24 tries: 14 in the first eleven and a half hours, then one every six."""

GONE = 410

logger = logging.getLogger(__name__)


class _Event(msgspec.Struct):
    """The part of a body that the delivery reads."""

    created_at: int


class WebhookDelivery:
    """The deliveries of one worker."""

    def __init__(self, server: RedisServer, sender: Sender) -> None:
        """`server`: the log's."""
        self._endpoints = Endpoints(server)
        self._outbox = Outbox(server)
        self._sender = sender
        self._turns = asyncio.Semaphore(ENDPOINTS_AT_ONCE)
        self._running: dict[EndpointRef, asyncio.Task[None]] = {}
        self._stopping = False

    def start(self, ref: EndpointRef) -> None:
        """Deliver what is due at the endpoint, unless this worker does so already."""
        if ref not in self._running and not self._stopping:
            task = self._running[ref] = asyncio.create_task(self._deliver(ref), name=f"webhooks {ref.id}")
            task.add_done_callback(lambda _: self._running.pop(ref))

    async def drain(self, seconds: float) -> None:
        """Begin no further try, and wait this long at most for those under way."""
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds)

    async def close(self) -> None:
        """Cut off what is under way. It is due again when its claim ends, for another worker."""
        self._stopping = True
        await cancel_and_wait(*self._running.values())
        await self._sender.close()

    async def _deliver(self, ref: EndpointRef) -> None:
        """Deliver until nothing is due. After an error of Redis a sweeper finds what is left."""
        try:
            is_due = True
            while is_due and not self._stopping:
                async with self._turns:
                    is_due = await self._deliver_some(ref)
        except (Unavailable, RedisRefused) as error:
            logger.warning("webhooks of %s: %s: %s", ref.id, type(error).__name__, error)
        except Exception:
            logger.exception("webhooks of %s", ref.id)

    async def _deliver_some(self, ref: EndpointRef) -> bool:
        """Try a few that are due. Returns whether there were any."""
        webhooks = await self._outbox.claim(ref, AT_ONCE)
        if not webhooks:
            return False
        endpoint = await self._endpoints.find(ref)
        if endpoint is None:
            await self._outbox.forget(ref)
            return False
        tries = (self._try(ref, endpoint, webhook) for webhook in webhooks)
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if refused := [outcome for outcome in outcomes if outcome]:
            logger.info("webhooks of %s: %d of %d not accepted: %s", ref.id, len(refused), len(outcomes), refused[-1])
        return True

    async def _try(self, ref: EndpointRef, endpoint: Endpoint, webhook: Webhook) -> str:
        """Send a webhook once, and remove or defer it. Returns why it was not accepted."""
        status, reason = await self._send(ref, endpoint, webhook)
        if 200 <= status < 300:
            await self._outbox.remove(ref, webhook.id)
            return ""
        end = 1000 * (msgspec.json.decode(webhook.body, type=_Event).created_at + RETRIED_S)
        if status == GONE or webhook.now >= end:
            logger.warning("webhook %s is given up after %d tries: %s", webhook.id, webhook.tries, reason)
            await self._outbox.remove(ref, webhook.id)
        else:
            next_try = webhook.now + int(1000 * pause_after(webhook.tries))
            await self._outbox.defer(ref, webhook.id, min(end, next_try))
        return reason

    async def _send(self, ref: EndpointRef, endpoint: Endpoint, webhook: Webhook) -> tuple[int, str]:
        """The status of the answer, 0 where there was none; and what to log."""
        signing_secrets = endpoint.secrets_at(webhook.now)
        headers = signed_headers(webhook.id, webhook.now // 1000, webhook.body, signing_secrets)
        try:
            status = await self._sender.send(ref.owner, endpoint.url, headers, webhook.body)
        except Unreachable as error:
            return 0, str(error)
        return status, f"status {status}"


def pause_after(tries: int) -> float:
    """Seconds from the begin of a try to the next one, at random around the exponential backoff."""
    pause_s = min(FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE_S)
    return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load
