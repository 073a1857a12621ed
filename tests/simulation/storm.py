"""Readers that lose their connection, and the frontends and primaries to which they return: one event for each step.

A reader    connected → (its connection ends) → waiting → connecting → connected
            `/tailrace.js`: 0.5 to 1.5 times a `retry:` hint; without one the wait doubles with each failure
            an `EventSource`: the last hint, else 3 s, to the millisecond
            a connection that is not answered within 10 s is given up, and counts as a failure
A frontend  one core. What connections need is done in the order of their arrival. Live events go first: they wait for
            one turn of the loop, in which the work for connections is bounded (`turnstile`). A frontend of
            `max_readers` refuses with a hint; one that stops, likewise; a dead one fails.
A primary   one core: what a connection reads, in the order of arrival, beside the appends.
A balancer  gives each connection to a frontend that it takes for alive: the next one in turn, or of two at random the
            one with fewer readers. It notices a death after some seconds, until when connections to it fail at once.

Each reader, connection, refusal and failure is an event of its own, up to a million readers. Aggregated: live tokens.
They take a share of each core that follows from the readers which are connected there (`sizing`), and the delay of a
live event is the work that is ahead of it. That is right because a frontend delivers thousands of events a second from
independent logs (a Poisson count of 5,000 differs from its mean by 1.4 %), while a storm has seconds of work.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from simulation.constants import policy, seconds
from simulation.engine import Simulation
from simulation.nodes import Core, Counts, Node

NO_HINT = -1.0
EVENT_SOURCE_S = 3.0
TICK_S = 0.05


class Client(Enum):
    """What reads."""

    TAILRACE_JS = "tailrace.js"
    EVENT_SOURCE = "EventSource"


class Balancing(Enum):
    """How a balancer chooses."""

    IN_TURN = "in turn"
    FEWER_OF_TWO = "fewer of two"


class StormShape(NamedTuple):
    """A fleet before the fault.

    `use`: the share of a frontend's core that live events take; `redis_use`: of a primary's. `notice_s`: until the
    balancer knows of a death.
    """

    frontends: int
    readers: int
    use: float
    primaries: int = 1
    redis_use: float = 0.5
    client: Client = Client.TAILRACE_JS
    balancing: Balancing = Balancing.IN_TURN
    notice_s: float = 1.0
    max_readers: int = int(policy("max_readers"))


class Storm:
    """The model. `lost_at[reader]`: when its connection ended; it is absent while connected."""

    def __init__(self, shape: StormShape, seed: int = 1, watched_s: float = 0.0) -> None:
        """`watched_s`: for how long the delays of live events are recorded."""
        self.shape = shape
        self.simulation = Simulation(seed)
        self.counts = Counts()
        self.nodes = [Node() for _ in range(shape.frontends)]
        self.primaries = [Core(shape.redis_use, yields=False) for _ in range(shape.primaries)]
        self.node_of: dict[int, Node] = {}
        self.lost_at: dict[int, float] = {}
        self.on_connected: Callable[[int], None] | None = None
        self._listed = list(self.nodes)
        self._failures: dict[int, int] = {}
        self._next = 0
        self._each = shape.use * shape.frontends / max(1, shape.readers)
        for reader in range(shape.readers):
            node = self.nodes[reader % shape.frontends]
            node.readers.add(reader)
            self.node_of[reader] = node
        for node in self.nodes:
            node.core.set_live(0.0, len(node.readers) * self._each)
        if watched_s:
            self.simulation.at(0.0, self._tick, watched_s)

    # ── what ends connections ────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, node: Node) -> None:
        """Its connections break; the balancer notices later."""
        node.is_dead = True
        self.simulation.after(self.shape.notice_s, self.unlist, node)
        for reader in sorted(node.readers):
            self._lose(node, reader, NO_HINT)

    def cut_all(self) -> None:
        """All connections break; no frontend dies."""
        for node in self.nodes:
            for reader in sorted(node.readers):
                self._lose(node, reader, NO_HINT)

    def unlist(self, node: Node) -> None:
        """The balancer gives it no more connections."""
        if node in self._listed:
            self._listed.remove(node)

    def stop(self, node: Node, drain_s: float) -> None:
        """It drains as `Hub.drain` does: hints, spread over a share of the time."""
        node.is_stopping = True
        self.unlist(node)
        for reader in sorted(node.readers):
            self.simulation.after(
                self.simulation.random.uniform(0, policy("drain_share") * drain_s), self._drain, node, reader
            )
        self.simulation.after(drain_s, self._end, node)

    def start(self) -> Node:
        """Another frontend."""
        node = Node()
        self.nodes.append(node)
        self._listed.append(node)
        return node

    def lose_primary(self, primary: Core, away_s: float) -> None:
        """It is away for so long; then every reader of its logs reads a page. Readers stay connected."""
        back = self.simulation.now + away_s
        primary.set_live(back, primary.live)
        number = self.primaries.index(primary)
        for node in self.nodes:
            for reader in sorted(node.readers):
                if reader % self.shape.primaries == number:
                    self.lost_at[reader] = self.simulation.now
                    self.simulation.at(back, self._resubscribe, node, reader, primary)

    def _resubscribe(self, node: Node, reader: int, primary: Core) -> None:
        now = self.simulation.now
        served = max(node.core.add(now, seconds("page")), primary.add(now, seconds("page_redis")))
        self.simulation.at(served, self._set_live, reader)

    def _set_live(self, reader: int) -> None:
        since = self.lost_at.pop(reader, None)
        if since is not None:
            self.counts.gaps.append(self.simulation.now - since)

    def _drain(self, node: Node, reader: int) -> None:
        if reader in node.readers:
            node.core.add(self.simulation.now, seconds("write"))
            self._lose(node, reader, self._hint())

    def _end(self, node: Node) -> None:
        node.is_dead = True
        for reader in sorted(node.readers):
            self._lose(node, reader, NO_HINT)

    def _hint(self) -> float:
        return self.simulation.random.uniform(policy("hint_least_s"), policy("hint_most_s"))

    def _lose(self, node: Node, reader: int, hint_s: float) -> None:
        node.readers.remove(reader)
        del self.node_of[reader]
        node.core.set_live(self.simulation.now, len(node.readers) * self._each)
        self.lost_at.setdefault(reader, self.simulation.now)
        self._wait(reader, hint_s)

    # ── a reader ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, reader: int, hint_s: float) -> None:
        uniform = self.simulation.random.uniform
        if self.shape.client is Client.EVENT_SOURCE:
            wait_s = EVENT_SOURCE_S if hint_s < 0 else hint_s
        elif hint_s >= 0:
            wait_s = hint_s * uniform(0.5, 1.5)
        else:
            failures = self._failures.get(reader, 0)
            self._failures[reader] = failures + 1
            wait_s = min(policy("backoff_most_s"), policy("backoff_first_s") * 2 ** min(failures, 20)) * uniform(0.5, 1)
        self.simulation.after(wait_s, self._connect, reader)

    def _connect(self, reader: int) -> None:
        now, counts = self.simulation.now, self.counts
        counts.attempts += 1
        counts.attempts_by_second[int(now)] = counts.attempts_by_second.get(int(now), 0) + 1
        node = self._choose()
        if node is None or node.is_dead:
            counts.failed += 1
            return self._wait(reader, NO_HINT)
        if node.is_stopping:
            return self._refuse(node, reader)
        if len(node.readers) + node.opening >= self.shape.max_readers:
            return self._refuse(node, reader)
        return self._open(node, reader)

    def _refuse(self, node: Node, reader: int) -> None:
        self.counts.refused += 1
        answered = node.core.add(self.simulation.now, seconds("refusal"))
        if answered - self.simulation.now > policy("connect_timeout_s"):
            return self._give_up(reader)
        self.simulation.at(answered, self._wait, reader, self._hint())
        return None

    def _give_up(self, reader: int) -> None:
        self.counts.given_up += 1
        self.simulation.after(policy("connect_timeout_s"), self._wait, reader, NO_HINT)

    def _open(self, node: Node, reader: int) -> None:
        """The work of a connection is done in any case; the client may have given it up by then, which takes less."""
        now, primary = self.simulation.now, self.primaries[reader % self.shape.primaries]
        if node.core.wait_s(now) > policy("connect_timeout_s"):
            node.core.add(now, seconds("refusal"))
            return self._give_up(reader)
        answered = max(node.core.add(now, seconds("connect")), primary.add(now, seconds("join")))
        if answered - now > policy("connect_timeout_s"):
            return self._give_up(reader)
        node.opening += 1
        self.simulation.at(answered, self._on_open, node, reader)
        return None

    def _on_open(self, node: Node, reader: int) -> None:
        node.opening -= 1
        if node.is_dead:
            return self._wait(reader, NO_HINT)
        self._failures.pop(reader, None)
        node.readers.add(reader)
        self.node_of[reader] = node
        node.core.set_live(self.simulation.now, len(node.readers) * self._each)
        self.counts.most_readers = max(self.counts.most_readers, len(node.readers))
        self._set_live(reader)
        if node.is_stopping:
            self._lose(node, reader, self._hint())
        return None

    def _choose(self) -> Node | None:
        listed, choose = self._listed, self.simulation.random.randrange
        if not listed:
            return None
        if self.shape.balancing is Balancing.FEWER_OF_TWO:
            one, other = listed[choose(len(listed))], listed[choose(len(listed))]
            return min(one, other, key=lambda node: len(node.readers) + node.opening)
        self._next += 1
        return listed[self._next % len(listed)]

    # ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tick(self, until: float) -> None:
        now = self.simulation.now
        for node in self.nodes:
            if node.readers:
                delay_s = node.core.delay_s(now)
                self.counts.delays.append((delay_s, len(node.readers)))
                if delay_s > policy("silence_s"):
                    for reader in sorted(node.readers):
                        self._lose(node, reader, NO_HINT)
        if now < until:
            self.simulation.after(TICK_S, self._tick, until)
