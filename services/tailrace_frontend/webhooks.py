"""Webhook endpoints without HTTP: register, list, change, delete, rotate the secret, send a sample."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tailrace.errors import ConcurrencyLimited, IdempotencyKeyReused, WebhookUnreachable
from tailrace.events import Json
from tailrace.ids import new_token
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace.webhooks import CreationKey, Endpoint, EndpointRef, Endpoints, Outbox, Sender, Unreachable
from tailrace.webhooks.addresses import check_url
from tailrace.webhooks.events import sample_body
from tailrace.webhooks.sender import TIMEOUT_S
from tailrace.webhooks.signatures import signed_headers

SAMPLES = 4
"""Samples of one owner that a frontend sends at the same time."""


class Sample(NamedTuple):
    """A signed message, as `Sender.send` takes it."""

    owner: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Webhooks:
    """The operations on webhook endpoints that routes offer, each for one owner."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._allow_private = settings.webhook_allow_private
        self._server = log.server
        self._endpoints = Endpoints(log.server)
        self._outbox = Outbox(log.server)
        self._samples = Counter[str]()
        self._sender = Sender(allow_private=settings.webhook_allow_private)

    async def create(
        self, owner: str, name: str, url: str, event_types: list[str], key: CreationKey | None = None
    ) -> Endpoint:
        """Register an endpoint; or, by the key of a request that is repeated, find the one that it has registered.

        Raises:
            IdempotencyKeyReused: the client's key names an endpoint with other fields.
            InvalidValue: webhooks cannot be sent to this URL.
            InvalidRequest: the owner has too many endpoints.
        """
        check_url(url, allow_private=self._allow_private)
        endpoint = await self._endpoints.add(owner, name, url, event_types, key)
        if key is None or (endpoint.name, endpoint.url, endpoint.event_types) == (name, url, event_types):
            return endpoint
        if key.is_given:
            raise IdempotencyKeyReused
        return await self._endpoints.add(owner, name, url, event_types, key._replace(is_new=True))  # it was updated

    async def list(self, owner: str, limit: int, after: str | None) -> tuple[list[Endpoint], bool]:
        """Up to `limit` of the owner's endpoints after the given one, newest first; whether there are more."""
        found = await self._endpoints.list(owner)
        if after is not None:
            places = [place for place, each in enumerate(found, 1) if each.id == after]
            found = found[places[0] :] if places else []
        return found[:limit], len(found) > limit

    async def get(self, ref: EndpointRef) -> Endpoint:
        """
        Raises:
            NotFound: the owner has no such endpoint.
        """
        return await self._endpoints.get(ref)

    async def update(self, ref: EndpointRef, changes: Json) -> Endpoint:
        """Change some of `name`, `url` and `event_types`. Values that are the same already change nothing.

        Raises:
            NotFound: the owner has no such endpoint.
            InvalidValue: webhooks cannot be sent to this URL.
        """
        if "url" in changes:
            check_url(changes["url"], allow_private=self._allow_private)
        now = await self._server.now()

        def change(endpoint: Endpoint) -> Endpoint:
            changed = msgspec.structs.replace(endpoint, **changes)
            return endpoint if changed == endpoint else msgspec.structs.replace(changed, updated=now)

        return await self._endpoints.change(ref, change)

    async def rotate_secret(self, ref: EndpointRef, *, keep_old: bool) -> Endpoint:
        """Give the endpoint a new secret. `keep_old`: whether the old one also signs for 24 h.

        Raises:
            NotFound: the owner has no such endpoint.
        """
        now = await self._server.now()
        return await self._endpoints.change(ref, lambda endpoint: endpoint.rotated(now, keep_old=keep_old))

    async def delete(self, ref: EndpointRef) -> None:
        """Delete the endpoint, and what waits to be delivered there.

        Raises:
            NotFound: the owner has no such endpoint.
        """
        await self._endpoints.remove(ref)
        await self._outbox.forget(ref)

    async def sample(self, ref: EndpointRef, event_type: str) -> Sample:
        """A sample of this event, signed for the endpoint.

        Raises:
            NotFound: the owner has no such endpoint.
        """
        endpoint, now = await self._endpoints.get(ref), await self._server.now()
        body = sample_body(event_type, now / 1000)
        headers = signed_headers(f"wh_{new_token()}", now // 1000, body, endpoint.secrets_at(now))
        return Sample(ref.owner, endpoint.url, headers, body)

    async def send(self, sample: Sample) -> int:
        """Send a sample, once. Returns the status of the answer. A foreign server decides how long it takes, up to
        `TIMEOUT_S`.

        Raises:
            ConcurrencyLimited: too many samples of the owner are being sent.
            WebhookUnreachable: the endpoint did not answer.
        """
        if self._samples[sample.owner] >= SAMPLES:
            raise ConcurrencyLimited(f"Concurrent sample limit reached ({SAMPLES}).", retry_after=int(TIMEOUT_S))
        self._samples[sample.owner] += 1
        try:
            return await self._sender.send(*sample)
        except Unreachable as error:
            raise WebhookUnreachable(f"The webhook endpoint did not answer: {error}", param="url") from None
        finally:
            self._samples[sample.owner] -= 1

    async def close(self) -> None:
        await self._sender.close()
