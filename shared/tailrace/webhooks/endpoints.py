"""Endpoints of webhooks: which URL of a caller receives which events, signed by which secrets."""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.errors import InvalidRequest, NotFound
from tailrace.ids import new_id
from tailrace.redis.server import RedisServer
from tailrace.webhooks.signatures import new_secret

ENDPOINT = re.compile(r"whe_[a-z2-7]{26}", re.ASCII)

MAX_ENDPOINTS = 20
"""Endpoints of one caller. Each of them costs a message for each end."""

CREATION_S = 3600
"""So long a repeated registration gets the endpoint of the first one: longer than three tries of an SDK, which waits
ten minutes for each answer."""

OLD_SECRET_S = 24 * 3600
MAX_OLD_SECRETS = 4
"""A rotation that a client repeats, because it lost the answer, must not drop the secret that receivers know."""


class OldSecret(msgspec.Struct, frozen=True):
    """A secret that also signs until `until` (ms)."""

    secret: str
    until: int


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint. `created` and `updated` in ms of Redis' clock."""

    id: str
    name: str
    url: str
    event_types: list[str]
    secret: str
    created: int
    updated: int
    old_secrets: list[OldSecret] = []

    def asks_for(self, kind: str) -> bool:
        """Whether it receives any event of this kind."""
        return any(each.startswith(f"{kind}.") for each in self.event_types)

    def secrets_at(self, now: int) -> list[str]:
        """The secrets that sign a message now (ms), the newest first."""
        return [self.secret, *(each.secret for each in self.old_secrets if each.until > now)]

    def rotated(self, now: int, *, keep_old: bool) -> "Endpoint":
        """The same endpoint with a new secret. `keep_old`: whether the old one also signs for 24 h."""
        old = [OldSecret(self.secret, now + 1000 * OLD_SECRET_S), *self.old_secrets] if keep_old else []
        valid = [each for each in old if each.until > now][:MAX_OLD_SECRETS]
        return msgspec.structs.replace(self, secret=new_secret(), old_secrets=valid, updated=now)


class EndpointRef(NamedTuple):
    """The place of an endpoint. As text it is `<owner>/<id>`; an owner's name has no slash (`api_keys`)."""

    owner: str
    id: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> "EndpointRef":
        """The reference that `str` has made a text of."""
        owner, _, endpoint_id = text.partition("/")
        return cls(owner, endpoint_id)


class CreationKey(NamedTuple):
    """By which the repetitions of a registration are known.

    `is_new`: it names a new endpoint from now on, whatever it named before. `is_given`: the client has chosen it, so
    it may come with another name, URL or event types.
    """

    text: str
    is_new: bool = False
    is_given: bool = False


class Endpoints:
    """The endpoints of all callers, on the log's server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def add(
        self, owner: str, name: str, url: str, event_types: list[str], key: CreationKey | None = None
    ) -> Endpoint:
        """Store an endpoint; or find the one that the owner's call with the same key has stored, as it is now.

        Raises:
            InvalidRequest: the owner has too many endpoints.
            RedisFull: the server has no room.
        """
        now = await self._server.now()
        endpoint = Endpoint(new_id("whe_"), name, url, event_types, new_secret(), now, now)
        names = [keys.webhook_endpoints(owner), keys.webhook_creation(owner, key.text if key else "")]
        claim = (int(key.is_new), 1000 * CREATION_S) if key else (1, 0)
        command = scripts.ADD_ENDPOINT.on(names, endpoint.id, msgspec.json.encode(endpoint), MAX_ENDPOINTS, *claim)
        outcome, *stored = await self._server.execute(*command)
        if outcome == b"FULL":
            raise InvalidRequest(f"A caller can have {MAX_ENDPOINTS} webhook endpoints. Delete one first.")
        return msgspec.json.decode(stored[0], type=Endpoint)

    async def list(self, owner: str) -> list[Endpoint]:
        """The owner's endpoints, newest first."""
        stored = await self._server.execute("HVALS", keys.webhook_endpoints(owner))
        endpoints = (msgspec.json.decode(each, type=Endpoint) for each in stored)
        return sorted(endpoints, key=lambda each: (each.created, each.id), reverse=True)

    async def find(self, ref: EndpointRef) -> Endpoint | None:
        stored = await self._stored(ref)
        return None if stored is None else msgspec.json.decode(stored, type=Endpoint)

    async def get(self, ref: EndpointRef) -> Endpoint:
        """
        Raises:
            NotFound: the owner has no such endpoint.
        """
        endpoint = await self.find(ref)
        if endpoint is None:
            raise _not_found(ref)
        return endpoint

    async def change(self, ref: EndpointRef, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Replace the endpoint by what `change` makes of it; again where another call has changed it meanwhile.

        Raises:
            NotFound: the owner has no such endpoint.
            RedisFull: the server has no room.
        """
        while True:
            stored = await self._stored(ref)
            if stored is None:
                raise _not_found(ref)
            changed = change(msgspec.json.decode(stored, type=Endpoint))
            names = [keys.webhook_endpoints(ref.owner)]
            command = scripts.REPLACE_ENDPOINT.on(names, ref.id, stored, msgspec.json.encode(changed))
            if (await self._server.execute(*command))[0] == b"OK":
                return changed

    async def remove(self, ref: EndpointRef) -> None:
        """
        Raises:
            NotFound: the owner has no such endpoint.
        """
        await self.get(ref)  # not by the reply to HDEL: that is another one where the command had to be repeated
        await self._server.execute("HDEL", keys.webhook_endpoints(ref.owner), ref.id)

    async def _stored(self, ref: EndpointRef) -> bytes | None:
        if not ENDPOINT.fullmatch(ref.id):
            return None
        stored: bytes | None = await self._server.execute("HGET", keys.webhook_endpoints(ref.owner), ref.id)
        return stored


def _not_found(ref: EndpointRef) -> NotFound:
    return NotFound(f"Webhook endpoint with id '{ref.id}' not found.", param="webhook_endpoint_id")
