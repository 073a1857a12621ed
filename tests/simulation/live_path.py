"""The path of a token, event by event: worker → Redis → frontends → clients, on one machine or on cores of their own.

    worker     a token is due; its log joins the next pipeline; one pipeline is in flight, and they are throttled
    Redis      what waits is one batch: appends run one after another, then each subscribed frontend gets its messages
    frontend   all messages that have arrived are one read; then the throttle may leave the socket unread
    client     all tokens that have arrived on a socket are one read

Nothing is aggregated: each token, pipeline, read and delivery is an event. That takes about 20 µs for a delivery, so
this model serves machines of some 100,000 deliveries a second for some seconds. Larger fleets are `simulation.fleet`.

Timers are those of libuv: a delay is rounded to whole milliseconds, and ends on a whole millisecond of the clock.
"""

import math
from collections.abc import Callable, Sequence

from simulation.cores import Cores, Process
from simulation.engine import Simulation
from simulation.path_load import PathCosts, PathResult, PathShape, Token, Window
from simulation.throttle import SimulatedThrottle
from tailrace_frontend.streaming.hub import READ_INTERVAL_S
from tailrace_worker.appender import INTERVAL_PER_APPEND_S, MAX_INTERVAL_S, PIPELINE_INTERVAL_S

WRITES_AT_ONCE = 8


class LivePath:
    """The model. `cores`: of the one machine; None: each process has a core of its own."""

    def __init__(
        self, shape: PathShape, costs: PathCosts, cores: float | None, *, seed: int = 1, taken: float = 0.0,
        delays: Sequence[float] = (), deliver: Callable[[int, Token], None] | None = None,
    ) -> None:  # fmt: skip
        """`taken`, `delays`: of `Cores`. `deliver`: called with a client's number and each token that it has read."""
        self.simulation = Simulation(seed)
        self.shape = shape
        self.costs = costs
        self.window = Window()
        shared = Cores(self.simulation, cores, taken, delays) if cores else None

        def process() -> Process:
            return Process(shared or Cores(self.simulation, 1, 0.0, delays))

        self.readers = Clients(self, process(), deliver)
        self.frontends = [FrontendModel(self, process(), number) for number in range(shape.frontends)]
        self.redis = RedisModel(self, process())
        self.worker = WorkerModel(self, process())

    def clients_of(self, log: int, frontend: int) -> Sequence[int]:
        """The clients of a log at a frontend: client n is at frontend n mod `frontends`."""
        shape = self.shape
        first = log * shape.readers
        offset = (frontend - first) % shape.frontends
        return range(first + offset, first + shape.readers, shape.frontends)

    def run(self, settle_s: float, seconds: float) -> "PathResult":
        """Run for so long, and measure what happens after `settle_s`."""
        self.simulation.run(settle_s)
        self.window = Window(self.simulation.now)
        processes = {
            "frontend": [each.process for each in self.frontends], "redis": [self.redis.process],
            "append": [self.worker.process], "readers": [self.readers.process],
        }  # fmt: skip
        before = {role: sum(each.cpu_s for each in group) for role, group in processes.items()}
        self.simulation.run(settle_s + seconds)
        used = {role: sum(each.cpu_s for each in group) - before[role] for role, group in processes.items()}
        used["frontend"] += self.costs.frontend_idle * seconds * self.shape.frontends
        used["redis"] += self.costs.redis_idle * seconds
        return PathResult(seconds, used, self.window)

    def timer(self, delay_s: float, call: Callable[[], None]) -> None:
        """As libuv: rounded to milliseconds, on a clock of whole milliseconds."""
        whole_ms = round(delay_s * 1000)
        if whole_ms <= 0:
            call()
        else:
            self.simulation.at((math.floor(self.simulation.now * 1000) + whole_ms) / 1000, call)


class WorkerModel:
    """The load process of the bench: its loop turns once for each token that is due, and sleeps in between.

    Its appender is the product's: one pipeline in flight, the next one when the replies are there and the throttle
    permits. Tokens of one log that share a pipeline merge into one row. A turn of the loop makes tokens, then lets the
    appender go on if a timer ended or replies were read before the turn began, then writes, and then reads replies.
    """

    def __init__(self, path: LivePath, process: Process) -> None:
        self.process = process
        self._path = path
        self._throttle = SimulatedThrottle(
            path.simulation, PIPELINE_INTERVAL_S, each_s=INTERVAL_PER_APPEND_S, longest_s=MAX_INTERVAL_S
        )
        self._rate = path.shape.logs * path.shape.rate
        self._made = 0
        self._pending: dict[int, list[Token]] = {}
        self._arrived = self._read = 0  # replies of a pipeline: as many as it had appends
        self._is_due = True  # the appender may send
        path.simulation.at(0.0, self._turn)

    def _turn(self) -> None:
        now, logs = self._path.simulation.now, self._path.shape.logs
        due = max(1, int(now * self._rate) + 1 - self._made)
        for _ in range(due):
            log = self._made % logs
            self._pending.setdefault(log, []).append(Token(log, self._made // logs, now))
            self._made += 1
        self._path.window.appended += due
        may_send, self._is_due = self._is_due, False
        self.process.do(due * self._path.costs.token_s, lambda: self._let_appender_go_on(may_send))

    def _let_appender_go_on(self, may_send: bool) -> None:
        replies, self._read = self._read, 0
        if replies:
            pause_s = self._throttle.charge(replies)
            if round(pause_s * 1000) > 0:
                self._path.timer(pause_s, self._on_timer)
            else:
                may_send = True
        if not may_send:
            self._end_turn(None)
        elif self._pending:
            pipeline, self._pending = self._pending, {}
            self.process.do(self._path.costs.pipeline_s, lambda: self._end_turn(pipeline))
        else:
            self._is_due = True
            self._end_turn(None)

    def _end_turn(self, pipeline: dict[int, list[Token]] | None) -> None:
        if pipeline is not None:
            self._path.redis.append(pipeline)
        self._read, self._arrived = self._arrived, 0
        simulation = self._path.simulation
        next_s = self._made / self._rate
        sleeps = next_s > simulation.now
        simulation.at(next_s + self._path.costs.sleep_s if sleeps else simulation.now, self._turn)

    def _on_timer(self) -> None:
        self._is_due = True

    def on_replies(self, count: int) -> None:
        """The replies of a pipeline are in the socket."""
        self._arrived = count


class RedisModel:
    """One thread. What has arrived while it was busy is its next batch."""

    def __init__(self, path: LivePath, process: Process) -> None:
        self.process = process
        self._path = path
        self._waiting: list[dict[int, list[Token]]] = []

    def append(self, pipeline: dict[int, list[Token]]) -> None:
        self._waiting.append(pipeline)
        if self.process.is_idle:
            self._begin()

    def _begin(self) -> None:
        path, batch = self._path, self._waiting
        self._waiting = []
        messages: list[list[list[Token]]] = [[] for _ in path.frontends]
        for pipeline in batch:
            for log, tokens in pipeline.items():
                for frontend in range(min(len(path.frontends), path.shape.readers)):
                    place = (log * path.shape.readers + frontend) % len(path.frontends)
                    messages[place].append(tokens)
        appends, notified = sum(map(len, batch)), sum(map(bool, messages))
        costs = path.costs
        seconds = costs.batch_s + appends * costs.append_s + notified * costs.notify_s
        path.window.pipelines += len(batch)
        self.process.do(seconds, lambda: self._end(batch, messages))

    def _end(self, batch: list[dict[int, list[Token]]], messages: list[list[list[Token]]]) -> None:
        for frontend, arrived in zip(self._path.frontends, messages, strict=True):
            if arrived:
                frontend.on_messages(arrived)
        for pipeline in batch:
            self._path.worker.on_replies(len(pipeline))
        if self._waiting:
            self._begin()


class FrontendModel:
    """Reads what has arrived, writes it to the clients, and leaves the socket unread if the throttle asks for it."""

    def __init__(self, path: LivePath, process: Process, number: int) -> None:
        self.process = process
        self._path = path
        self._number = number
        self._throttle = SimulatedThrottle(path.simulation, READ_INTERVAL_S)
        self._arrived: list[list[Token]] = []
        self._is_paused = False
        self._is_reading = False

    def on_messages(self, messages: list[list[Token]]) -> None:
        self._arrived += messages
        self._read()

    def _read(self) -> None:
        if self._is_paused or self._is_reading or not self._arrived:
            return
        self._is_reading = True
        messages, self._arrived = self._arrived, []
        self._path.window.reads += 1
        costs = self._path.costs
        frames = sum(len(self._path.clients_of(tokens[0].log, self._number)) for tokens in messages)
        seconds = costs.read_s + len(messages) * costs.message_s + frames * costs.frame_s
        self.process.do(seconds, lambda: self._write(messages))

    def _write(self, messages: list[list[Token]]) -> None:
        """To each client once, whatever it gets. The loop writes when it has handled all messages of a read."""
        frames: dict[int, list[Token]] = {}
        for tokens in messages:
            for client in self._path.clients_of(tokens[0].log, self._number):
                frames.setdefault(client, []).extend(tokens)
        writes = list(frames.items())
        self._path.window.writes += len(writes)
        for start in range(0, len(writes), WRITES_AT_ONCE):
            group = writes[start : start + WRITES_AT_ONCE]
            self.process.do(len(group) * self._path.costs.write_s, self._written(group))
        self.process.do(0.0, self._end_read)

    def _written(self, group: list[tuple[int, list[Token]]]) -> Callable[[], None]:
        return lambda: self._path.readers.on_data(group)

    def _end_read(self) -> None:
        self._is_reading = False
        pause_s = self._throttle.charge()
        if round(pause_s * 1000) > 0:
            self._is_paused = True
            self._path.timer(pause_s, self._resume)
        else:
            self._read()

    def _resume(self) -> None:
        self._is_paused = False
        self._read()


class Clients:
    """All clients, in one process. What arrives on a socket before it is read is read with it."""

    def __init__(self, path: LivePath, process: Process, deliver: Callable[[int, Token], None] | None) -> None:
        self.process = process
        self._path = path
        self._deliver = deliver
        self._unread: dict[int, list[Token]] = {}

    def on_data(self, group: list[tuple[int, list[Token]]]) -> None:
        for client, tokens in group:
            if (unread := self._unread.get(client)) is not None:
                unread += tokens
            else:
                self._unread[client] = list(tokens)
                costs = self._path.costs
                wake_s = costs.clients_wake_s if self.process.is_idle else 0.0
                self.process.do(wake_s + costs.client_s, lambda client=client: self._read(client))  # type: ignore[misc]

    def _read(self, client: int) -> None:
        now, lags = self._path.simulation.now, self._path.window.lags
        for token in self._unread.pop(client):
            lags.append(now - token.at)
            if self._deliver:
                self._deliver(client, token)
