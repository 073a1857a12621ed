"""A cluster without servers: primaries whose replies the test writes."""

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from tailrace.errors import RedisUnavailable
from tailrace.redis.channels import Channels, Listener
from tailrace.redis.primaries import Primaries
from tailrace.redis.primary import Primary
from tailrace.redis.redirects import Address
from tailrace.redis.subscriber import OnRedirect
from tailrace.scripts import Command

Reply = Callable[[Command], Any]


class ScriptedPrimary(Primary):
    """Replies to `CLUSTER SHARDS` as the cluster has it, and to anything else by `reply`.

    `sent` has the other commands, in order. `oldest` stands for a call that waits. While `is_cut`, nothing replies.
    """

    def __init__(self, cluster: "ScriptedCluster", address: Address) -> None:
        super().__init__(Redis(), retries=0)
        self.address = address
        self.cluster = cluster
        self.sent: list[Command] = []
        self.reply: Reply = lambda _: b"OK"
        self.oldest: object | None = None
        self.closed = False
        self.channels: ScriptedChannels | None = None

    @property
    def is_waiting_since(self) -> object | None:
        return self.oldest

    @property
    def is_away(self) -> bool:
        return self.address in self.cluster.cut

    async def execute_many(self, commands: Sequence[Command], *, retries: int | None = None) -> list[Any]:  # noqa: ARG002
        if self.address in self.cluster.cut:
            raise RedisUnavailable(detail=f"{self} is cut off") from self.cluster.why
        if commands[0][0] == "CLUSTER":
            self.cluster.asked.append(self.address[1])
            state = b"fail" if self.address in self.cluster.minority else b"ok"
            return [self.cluster.view_of(self.address), b"cluster_state:%b\r\n" % state]
        self.sent += commands
        return [self.reply(command) for command in commands]

    async def read_page(self, *command: Any) -> Any:
        return await self.execute_alone(*command)

    async def execute_alone(self, *command: Any) -> Any:
        (reply,) = await self.execute_many([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def subscriber(
        self,
        read_interval_s: float = 0.0,
        on_connected: Callable[[], None] | None = None,
        on_redirect: OnRedirect | None = None,
    ) -> Channels:
        self.channels = ScriptedChannels(self, on_connected, on_redirect)
        self.channels.read_interval_s = read_interval_s
        return self.channels

    async def close(self) -> None:
        self.closed = True


class ScriptedChannels(Channels):
    """What was subscribed at one primary, in order: a channel, or a channel behind a minus."""

    def __init__(
        self, primary: ScriptedPrimary, on_connected: Callable[[], None] | None, on_redirect: OnRedirect | None
    ) -> None:
        self.primary = primary
        self.on_connected, self.on_redirect = on_connected, on_redirect
        self.listeners: dict[str, Listener] = {}
        self.calls: list[str] = []
        self.since: float | None = 5.0
        self.read_interval_s = 0.0
        self.at = float("-inf")

    @property
    def disconnected_since(self) -> float | None:
        return self.since

    @property
    def connected_at(self) -> float:
        return self.at

    def start(self) -> None:
        self.calls.append("start")

    async def close(self) -> None:
        self.primary.channels = None

    def add(self, channel: str, listener: Listener) -> None:
        self.listeners[channel] = listener
        self.calls.append(channel)

    def remove(self, channel: str) -> None:
        if self.listeners.pop(channel, None):
            self.calls.append(f"-{channel}")

    def connect(self, moment: float) -> None:
        """The connection is there."""
        self.since, self.at = None, moment
        if self.on_connected:
            self.on_connected()

    def redirect(self, channel_or_slot: bytes | int) -> None:
        """The server has ended, or refused, a subscription."""
        assert self.on_redirect
        self.on_redirect(channel_or_slot)


class ScriptedCluster:
    """`owners`: the ranges of slots, by port. `views`: what a server reports instead, by its port.

    `asked`: the ports of those that reported the topology. Servers in `cut` do not reply; those in `minority` report
    that they are cut off; those in `failed` have, as all report.
    """

    def __init__(self, owners: dict[int, tuple[int, int]]) -> None:
        self.owners = owners
        self.views: dict[int, dict[int, tuple[int, int]]] = {}
        self.asked: list[int] = []
        self.cut: set[Address] = set()
        self.minority: set[Address] = set()
        self.failed: set[int] = set()
        self.why: Exception | None = None
        self.servers: dict[Address, ScriptedPrimary] = {}
        self.primaries = Primaries([("h", port) for port in owners], self.connect)

    def connect(self, address: Address, *, quietly: bool = False) -> ScriptedPrimary:  # noqa: ARG002
        """A new connection to the server at this address."""
        self.servers[address] = ScriptedPrimary(self, address)
        return self.servers[address]

    def subscribers(self) -> "dict[int, ScriptedChannels]":
        """Those that were made and not closed, by the port."""
        return {server.address[1]: server.channels for server in self.servers.values() if server.channels}

    def at(self, port: int) -> ScriptedPrimary:
        """The newest connection to a server."""
        return self.servers["h", port]

    def view_of(self, address: Address) -> list[Any]:
        """What `CLUSTER SHARDS` replies at this address."""
        owners = self.views.get(address[1], self.owners)
        health = {port: "fail" if port in self.failed else "online" for port in owners}
        return [shard([*slots], [node(port, health=health[port])]) for port, slots in owners.items()]


def shard(slots: Sequence[int], nodes: Sequence[list[Any]]) -> list[Any]:
    """A shard, as `CLUSTER SHARDS` replies it."""
    return [b"slots", list(slots), b"nodes", list(nodes), b"id", b"shard"]


def node(
    port: int, *, role: str = "master", health: str = "online", endpoint: str = "h", tls_port: int = 0
) -> list[Any]:
    """A server of a shard."""
    ports = [b"port", port, *([b"tls-port", tls_port] if tls_port else [])]
    fields = {"ip": "10.0.0.1", "endpoint": endpoint, "role": role, "replication-offset": "0", "health": health}
    return [b"id", b"n%d" % port, *ports, *(text.encode() for field in fields.items() for text in field)]
