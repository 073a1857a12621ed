"""The primaries of a cluster, kept up to date.

The topology is read from a primary that responds, else from any other server that is known, when a command first needs
it, every `READ_EVERY_S`, and whenever something shows that it has changed: a MOVED, a subscription that the server
ended, a primary that is away, or a call that has waited for `STUCK_S` (a primary that is paused or cut off keeps its
connections, so nothing else would show its failover before the command timeout). Reads are shared, and `READ_PAUSE_S`
apart.

The server that a MOVED names is asked first: for 35 to 70 ms after a slot has moved, others do not know of it. A server
whose own view is `fail` is cut off from the majority, or a failover is under way: its view is taken where there is no
better one. A server that is away is asked after all others, and one at which a call waits only where no other has
replied: either may take up to `ANSWER_S`, within which a failover may be over.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from tailrace.errors import RedisRefused, RedisUnavailable, TailraceError
from tailrace.process.tasks import cancel_and_wait, retrieve_error
from tailrace.redis.hash_slots import SLOTS
from tailrace.redis.outage import OutageLog, place_of
from tailrace.redis.primary import Connect, Connector, Primary
from tailrace.redis.redirects import Address, Redirected
from tailrace.redis.server import checked
from tailrace.redis.topology import Topology

READ_EVERY_S = 30.0
READ_PAUSE_S = 0.1
STUCK_S = 0.25
"""A server is stuck when a call has waited there for so long, or up to twice as long; the watch looks this often."""

ANSWER_S = 1.0
"""How long one server may take to report the topology, before the next one is asked."""

logger = logging.getLogger(__name__)


class Primaries:
    """The primaries of one cluster.

    `seeds`: addresses of some of its servers. `connect` makes the connections to a server; its outages are logged, or
    not, where `quietly`. `tls`: whether they are encrypted. `outages`: of the whole cluster.
    """

    def __init__(
        self, seeds: Sequence[Address], connect: Connect, *, tls: bool = False, outages: OutageLog | None = None
    ) -> None:
        self._seeds = seeds
        self._connect = connect
        self._tls = tls
        self._outages = outages or OutageLog()
        self._nodes: Sequence[Address] = ()
        self._servers: dict[Address, Primary] = {}
        self._owners: list[Primary | None] = [None] * SLOTS
        self._all: Sequence[Primary] = ()
        self._after_read: list[Callable[[], None]] = []
        self._newest: Address | None = None
        self._applied: Mapping[Address, Sequence[range]] | None = None
        self.changes = 0
        """Grows whenever a slot has another server."""
        self._waiting: dict[Address, object] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self._wanted = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def at(cls, url: str, setting: str) -> "Primaries":
        """As an address of a cluster names them (`primary.Connector`).

        Raises:
            Misconfigured: the address has another form.
        """
        connector = Connector(url, setting)
        outages = OutageLog(f"The cluster at {place_of(url)} ({setting})")
        return cls(connector.seeds, connector.connect, tls=connector.tls, outages=outages)

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────────

    async def known(self) -> None:
        """Read the topology, unless it is known.

        Raises:
            RedisUnavailable, RedisRefused: as `read`.
        """
        if not self._all:
            await self.read()

    @property
    def all(self) -> Sequence[Primary]:
        """Those with slots, by their lowest; none before the first `known`."""
        return self._all

    def owner_of(self, slot: int) -> Primary | None:
        """The server that has the slot; None where none is known."""
        return self._owners[slot]

    def of_slot(self, slot: int) -> Primary:
        """The server that has the slot.

        Raises:
            RedisUnavailable: no server has the slot, or `known` was not called.
        """
        primary = self._owners[slot]
        if primary is None:
            self.request_read()
            raise RedisUnavailable(detail=f"no server of the cluster has slot {slot}")
        return primary

    def at_address(self, address: Address) -> Primary:
        """The server at an address that another one has named."""
        if address not in self._servers:
            self._servers[address] = self._connect(address, quietly=False)
        return self._servers[address]

    def on_read(self, call: Callable[[], None]) -> None:
        """Have this called whenever the topology was read."""
        self._after_read.append(call)

    def cancel_on_read(self, call: Callable[[], None]) -> None:
        """Undo `on_read`, if it was called."""
        if call in self._after_read:
            self._after_read.remove(call)

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def follow(self, redirected: Redirected, sender: Primary) -> Primary:
        """The server that the reply of `sender` names. Unless for one command alone, it has the slot from now on, and
        the topology is read soon."""
        host, port = redirected.address
        primary = self.at_address((host or sender.address[0], port))
        if not redirected.asking and self._owners[redirected.slot] is not primary:
            self._owners[redirected.slot] = primary
            self._applied = None
            self.changes += 1
            primary.slots = primary.slots or [range(redirected.slot, redirected.slot + 1)]
            self._newest = primary.address
            self.request_read()
        return primary

    def request_read(self) -> None:
        """Have the topology read soon."""
        self._wanted.set()

    async def read(self) -> None:
        """Read the topology, together with all who ask for it now.

        Raises:
            RedisUnavailable: no server responds.
            RedisRefused: those that respond are none of a cluster, or the user may not ask.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="topology")
            self._reading.add_done_callback(retrieve_error)
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        await asyncio.sleep(self._read_at + READ_PAUSE_S - time.monotonic())
        self._wanted.clear()
        try:
            self._apply(await self._ask_for_topology())
            self._outages.report_success("topology")
        except RedisUnavailable as error:
            self._outages.report_failure("topology", error)
            raise
        finally:
            self._read_at = time.monotonic()
        self.start()

    async def _ask_for_topology(self) -> Topology:
        """
        Raises:
            RedisUnavailable: no server responds.
            RedisRefused: those that respond are none of a cluster, or the user may not ask.
        """
        known = [primary.address for primary in self._all]
        random.shuffle(known)  # so that not all processes ask the same one
        others = [address for address in (*self._nodes, *self._seeds) if address not in known]
        minority: Topology | None = None
        failure: TailraceError | None = None
        newest = [self._newest] if self._newest else []
        for address in sorted(dict.fromkeys((*newest, *known, *others)), key=self._is_slow):
            if minority is not None and self._is_stuck(address):
                continue
            try:
                topology, is_ok = await self._topology_from(address)
            except (RedisUnavailable, RedisRefused) as error:
                failure = error
                continue
            if address == self._newest:
                self._newest = None
            if is_ok:
                return topology
            if topology.slots:  # (a server that was reset knows none)
                minority = minority or topology
        if minority is not None:
            return minority
        if isinstance(failure, RedisRefused):
            raise failure
        raise RedisUnavailable(detail=str(failure or "no server of the cluster has slots")) from failure

    async def _topology_from(self, address: Address) -> tuple[Topology, bool]:
        """What one server reports, and whether its own view of the cluster is `ok`.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        is_kept = address in self._servers
        server = self._servers[address] if is_kept else self._connect(address, quietly=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                commands = [("CLUSTER", "SHARDS"), ("CLUSTER", "INFO")]
                shards, info = checked(await server.execute_many(commands))
        except TimeoutError as error:
            raise RedisUnavailable(detail=f"{address}: no reply in time") from error
        finally:
            if not is_kept:
                await server.close()
        return Topology.of(shards, address, tls=self._tls), b"cluster_state:ok" in info

    def _apply(self, topology: Topology) -> None:
        """Give each slot to its server. A slot that no server has keeps the one that had it, which may return.

        (One that is the same as before, as most are while a primary is away, takes no time: the slots of 38 primaries
        take 18 ms.)
        """
        self._nodes = topology.nodes
        if topology.slots != self._applied:
            self._applied = topology.slots
            self._give(topology.slots)
        for address, server in self._servers.items():
            server.has_failed = address in topology.failed
        for call in list(self._after_read):
            call()
        for address in [address for address, server in self._servers.items() if server not in self._all]:
            self._retire(self._servers.pop(address))
        if self._newest not in self._servers:
            self._newest = None

    def _give(self, slots: Mapping[Address, Sequence[range]]) -> None:
        before = self._owners.copy()
        for address, ranges in slots.items():
            primary = self.at_address(address)
            for each in ranges:
                self._owners[each.start : each.stop] = [primary] * len(each)
        owners = {owner for owner in self._owners if owner}
        for owner in owners:
            owner.slots = list(_ranges(self._owners, owner))
        self._all = sorted(owners, key=lambda primary: primary.slots[0].start)
        moved = sum(one is not other for one, other in zip(self._owners, before, strict=True))
        if moved and any(before):
            logger.info("%d slots of the cluster have another primary; it has %d primaries", moved, len(self._all))
        self.changes += bool(moved)

    def _retire(self, server: Primary) -> None:
        """Close the connections to a server that has no slots. Calls that wait there fail, and are sent elsewhere."""
        task = asyncio.create_task(server.close(), name="retire")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # ── the watch ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Keep the topology up to date from now on. (The first command that needs it does so, too.)"""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="cluster")

    async def _watch(self) -> None:
        """Read the topology when it is due, until cancelled."""
        while True:
            await self._wait_until_due()
            with suppress(RedisUnavailable, RedisRefused):
                await self.read()

    async def _wait_until_due(self) -> None:
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        while time.monotonic() < self._read_at + spread * READ_EVERY_S:
            waiting = {primary.address: primary.is_waiting_since for primary in self._all}
            self._waiting = {address: since for address, since in waiting.items() if since is not None}
            with suppress(TimeoutError):
                async with asyncio.timeout(STUCK_S):
                    await self._wanted.wait()
                return
            if not self._all or self.is_away or any(map(self._is_stuck, self._waiting)):
                return

    def _is_slow(self, address: Address) -> bool:
        """Whether a server may take long to reply, or to fail."""
        server = self._servers.get(address)
        return self._is_stuck(address) or (server is not None and server.is_away)

    def _is_stuck(self, address: Address) -> bool:
        """Whether the call that waits at a server has waited there since the watch looked last."""
        since, server = self._waiting.get(address), self._servers.get(address)
        return since is not None and server is not None and server.is_waiting_since is since

    @property
    def is_away(self) -> bool:
        """Whether a primary did not respond when it was needed last, or none of the servers."""
        return self._outages.is_away or any(primary.is_away for primary in self._all)

    async def close(self) -> None:
        """Close all connections."""
        await cancel_and_wait(self._watching, self._reading)
        await asyncio.gather(*self._closing, *(server.close() for server in self._servers.values()))


def _ranges(owners: Sequence[Primary | None], owner: Primary) -> Sequence[range]:
    """The slots of one server, as ranges."""
    found: list[range] = []
    for slot, each in enumerate(owners):
        if each is owner:
            if found and found[-1].stop == slot:
                found[-1] = range(found[-1].start, slot + 1)
            else:
                found.append(range(slot, slot + 1))
    return found
