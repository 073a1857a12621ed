"""A worker process: takes generations from the queue and runs up to MAX_JOBS of them at once.

Four tasks serve all runs: the appenders batch their appends, `leases` renews their leases in one round trip every
third of a lease, `confirmations` writes ends again that Redis loses, and a control channel of the worker's own receives
cancellations within milliseconds. All four are on the log's server. Without the queue's server what runs continues and
ends.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from functools import partial
from typing import Any

import msgspec

from tailrace import keys
from tailrace.errors import RedisRefused, Unavailable
from tailrace.ids import new_token, short_name
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.log import Log, Outcome
from tailrace.process import startup
from tailrace.process.gc_tuning import tune_gc
from tailrace.process.malloc_tuning import tune_malloc
from tailrace.process.rlimits import raise_open_file_limit
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import DELIVER_WEBHOOKS, JOB, CallerPolicies, Queue
from tailrace.queue.presence import WorkerStatus
from tailrace.redis.outage import level_of
from tailrace.settings import WORKER_NAME, Settings
from tailrace.stats import Stats
from tailrace.tracing.provider import Traces
from tailrace.webhooks import EndpointRef, Sender
from tailrace_worker.appenders import Appenders
from tailrace_worker.generation_run import GenerationRun
from tailrace_worker.health import Health
from tailrace_worker.job_runner import Job, JobRunner
from tailrace_worker.json_checker import JsonChecker
from tailrace_worker.leases import Leases
from tailrace_worker.metrics import Activity, WorkerMetrics
from tailrace_worker.model_reports import ModelReports
from tailrace_worker.operations import OperationsServer
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.upstream_pool import UpstreamPool
from tailrace_worker.webhook_delivery import WebhookDelivery
from tailrace_worker.worker_status import StatusMeter

LAST_ENDS_S = CONFIRM_S + 0.5
"""What an end at the last moment of DRAIN_S has to be confirmed, and to be sent to webhooks. Whatever is under way, a
worker has exited before the ten seconds and a lease are over that it is given beyond DRAIN_S."""

logger = logging.getLogger(__name__)


class GenerationWorker:
    """The parts of one worker process. `run()` returns after SIGTERM or SIGINT."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = os.environ.get(WORKER_NAME) or new_token()
        self.log = Log.connect(settings)
        self.queue = Queue.connect(settings)
        self.stats = Stats("worker")
        self.pool = UpstreamPool(settings, self.queue.upstreams, self.name, self.stats)
        self.json_checker = JsonChecker()
        self.appenders = Appenders(self.log, self.queue.index.register, self.stats)
        self.running: dict[str, GenerationRun] = {}
        self._status = StatusMeter(settings.max_jobs)
        self._stopping = asyncio.Event()
        self.reconnects = ReconnectSignal()
        self.models = ModelReports(self.pool, self.queue.models, self.name, self.reconnects)
        self.control = self.log.server.subscriber(on_connected=self.reconnects.notify)
        self.confirmations = Confirmations(
            self.log, self.queue, connected_at=lambda: self.control.connected_at, stats=self.stats
        )
        self.sweeper = Sweeper(
            self.log, self.queue, self.confirmations,
            max_attempts=settings.max_attempts, connected_for=lambda: self.control.connected_for,
            stats=self.stats,
        )  # fmt: skip
        self.leases = Leases(
            self.log, self.queue, self.confirmations, self.running, self._count_neighbours, self.reconnects,
            lease_s=settings.lease_s, disconnect_grace_s=settings.disconnect_grace_s,
            connected_for=lambda: self.control.connected_for,
        )  # fmt: skip
        self.webhooks = WebhookDelivery(self.log.server, Sender(allow_private=settings.webhook_allow_private))
        self.job_wakeups = self.queue.server.subscriber()
        self.policies = CallerPolicies(self.queue.server, settings)
        self.queue.use_rights(self.policies.right_of)
        self.job_runner = self._job_runner()
        self.policies.on_change.append(self.job_runner.on_rights_changed)
        other_server = self.queue.server if settings.queue_server != settings.redis_url else None
        self.health = Health(self.log.server, other_server, self._lost_connections)
        activity = Activity(
            lambda: len(self.running), lambda: not self.job_runner.allow_pick_jobs, lambda: self.control.connected
        )
        self.metrics = WorkerMetrics(self.stats, self.log.server, other_server, settings.max_jobs, activity)
        has_address = settings.worker_operations_address
        self.operations = OperationsServer(self.health.routes() | self.metrics.routes() if has_address else {})

    def _job_runner(self) -> JobRunner:
        return JobRunner(
            self.queue,
            self.name,
            {name: partial(job, self) for name, job in JOBS.items()},
            max_jobs=self.settings.max_jobs,
        )

    async def run_generation(self, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        """Run a generation, unless this worker runs it already."""
        if generation_id in self.running:
            return
        run = GenerationRun(
            self.settings, self.log, self.queue, self.confirmations, self.appenders, self.pool,
            self.name, self._count_neighbours, self.json_checker,
        )  # fmt: skip
        self.running[generation_id] = run
        try:
            await run.run(generation_id, job_id)
        finally:
            del self.running[generation_id]
            self._status.count(run)

    async def deliver_webhooks(self, _: dict[Any, Any], endpoint: str, _job_id: str) -> None:
        """Begin to deliver what is due at an endpoint. The job does not wait for it: it would hold a generation's
        slot."""
        self.webhooks.start(EndpointRef.parse(endpoint))

    def _count_neighbours(self) -> int:
        """The jobs beside one generation. Those that have been taken and not begun count: they may crash the worker."""
        return max(0, self.job_runner.job_counter - 1)

    async def run(self) -> None:
        """Take and run generations until SIGTERM or SIGINT; then drain, and hand over what still runs.

        Raises:
            Misconfigured: a server's settings would lose logs, or the operations address cannot be listened on.
        """
        stopping = self._stopping
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stopping.set)
        self.pool.upstreams.reload_on_hangup()
        if self.settings.worker_operations_address:
            await self.operations.start(*self.settings.worker_operations_host_and_port)
        self.health.has_started = True
        if not await self.health.wait_for_servers(stopping):
            return await self._close()
        self._listen()
        tune_gc()
        async with asyncio.TaskGroup() as tasks:
            heartbeats = tasks.create_task(self._send_heartbeats(), name="heartbeats")
            background = [
                tasks.create_task(self.appenders.run(), name="appenders"),
                tasks.create_task(self.leases.run(), name="leases"),
                tasks.create_task(self.sweeper.run(), name="sweeper"),
                tasks.create_task(self.policies.run(), name="policies"),
                tasks.create_task(self.confirmations.run(), name="confirmations"),
                tasks.create_task(self.models.run(), name="models"),  # its first step loads the CA certificates
                tasks.create_task(self.metrics.run(), name="metrics"),
                tasks.create_task(self._take_jobs(), name="job_runner"),
            ]
            startup.logger.info("worker %s runs up to %d generations", short_name(self.name), self.settings.max_jobs)
            await stopping.wait()
            self.health.is_stopping = True
            await self._drain(heartbeats)
            await cancel_and_wait(*background)
        return await self._close()

    async def _take_jobs(self) -> None:
        """Take jobs once the limits of their callers are known: until then those of the settings would hold."""
        await self.policies.wait_until_known()
        await self.job_runner.main()

    def _listen(self) -> None:
        """Receive what other processes publish."""
        self.control.start()
        self.job_wakeups.start()
        self.control.add(keys.worker(self.name), self._on_control_message)
        self.job_wakeups.add(keys.WAKE, self.job_runner.wake)
        self.policies.listen(self.job_wakeups)
        self.job_wakeups.add(keys.CIRCUITS, self.pool.admission.on_circuit_message)

    def _lost_connections(self) -> list[str]:
        """The connections that receive what others publish, and are down."""
        subscribers = {"of cancellations": self.control, "of new work": self.job_wakeups}
        return [name for name, subscriber in subscribers.items() if not subscriber.connected]

    def _on_control_message(self, message: bytes | None) -> None:
        """`message`: the id of a generation that another process has acquired, or an operator's command; None: one may
        have been missed, which costs an append or a renewal."""
        if message is None:
            return
        if message == b"drain":
            logger.info("an operator has this worker drain: it takes no further generation")
            self.job_runner.stop_picking()
            self.health.is_stopping = True
            self.reconnects.notify()  # for a heartbeat now
        elif message == b"stop":
            logger.info("an operator stops this worker")
            self._stopping.set()
        elif run := self.running.get(message.decode()):
            run.stop(Outcome.FENCED)

    async def _send_heartbeats(self) -> None:
        """Send a heartbeat, notice a failover of the queue's server and renew what callers and upstreams have under
        way, every third of a lease and whenever Redis is back.

        (A task of its own, because a queue that does not reply must not let the leases expire, which are elsewhere.)
        """
        while True:
            try:
                await self.queue.server.run()
                await self.queue.presence.heartbeat(self.name, await self._status_now())
                await self.queue.jobs.renew(self.job_runner.held)
                await self.pool.admission.keep_alive()
            except (Unavailable, RedisRefused) as error:
                logger.log(level_of(error), "heartbeat: %s: %s", type(error).__name__, error)
            await self.reconnects.wait(self.settings.lease_s / 3)

    async def _status_now(self) -> WorkerStatus:
        refusal, warnings = await self.health.readiness()
        runner = self.job_runner
        draining = not runner.allow_pick_jobs
        status = self._status.status(self.running.values(), runner.job_counter, draining=draining)
        return msgspec.structs.replace(status, refusal=refusal, warnings=warnings)

    async def _drain(self, heartbeats: "asyncio.Task[None] | None" = None) -> None:
        """Take no new generation, give the running ones DRAIN_S, and hand over what still runs then. `heartbeats`: they
        end before the worker deregisters, as one behind that would have it count as alive for three leases."""
        self.job_runner.stop_picking()
        drained_at = time.monotonic() + self.settings.drain_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self.job_runner.wait_for_take()
                if jobs := list(self.job_runner.tasks.values()):
                    logger.info("draining %d generations for up to %g s", len(jobs), self.settings.drain_s)
                    await asyncio.wait(jobs)
        left_s = min(self.settings.drain_s, max(drained_at - time.monotonic(), LAST_ENDS_S))
        await asyncio.gather(self.confirmations.drain(left_s), self.webhooks.drain(left_s))
        held = self.leases.held()
        await self.job_runner.cancel_jobs()
        await cancel_and_wait(heartbeats)
        with contextlib.suppress(Unavailable, RedisRefused, TimeoutError):
            async with asyncio.timeout(5):
                await self.leases.hand_over(held)
                await self.queue.presence.deregister(self.name)
                await self.queue.models.withdraw(self.name)
                await self.queue.upstreams.withdraw(self.name)

    async def _close(self) -> None:
        await self.operations.close()
        await self.control.close()
        await self.job_wakeups.close()
        await self.pool.close()
        await self.json_checker.close()
        await self.webhooks.close()
        await self.metrics.close()
        await self.log.server.close()
        await self.queue.server.close()


JOBS: dict[str, Job] = {
    JOB: GenerationWorker.run_generation,
    DELIVER_WEBHOOKS: GenerationWorker.deliver_webhooks,
}
"""A job's name in the queue → the method of a worker that runs it. Another kind of job is another row."""


def main(settings: Settings) -> None:
    """Run a worker in this process until SIGTERM or SIGINT."""
    import uvloop

    async def serve() -> None:
        await GenerationWorker(settings).run()

    raise_open_file_limit(settings.max_jobs)
    tune_malloc()
    traces = Traces(settings, "tailrace-worker")
    traces.start()
    uvloop.run(serve())
    traces.stop()
