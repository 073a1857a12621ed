"""The parts of one frontend process: its settings, upstreams, callers, log, queue, hub and counters."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from tailrace.access import AccessStore
from tailrace.audit import Audit
from tailrace.errors import InsufficientScope, RedisRefused, Unauthenticated, Unavailable
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import QUEUE_SERVER, CallerPolicies, Queue
from tailrace.queue.reader_counts import REPORT_S, ReaderCounts
from tailrace.queue.roll_call import RollCall
from tailrace.redis.check_steps import Uses
from tailrace.scopes import CALLER_SCOPES, Scopes
from tailrace.settings import Settings
from tailrace.shares import ShareStore
from tailrace.stats import Stats
from tailrace.stats.history import History
from tailrace.stats.history_reader import HistoryReader
from tailrace.stats.model_labels import ModelLabels
from tailrace.stats.server_gauges import ServerGauges, servers_of
from tailrace.upstreams import CurrentUpstreams
from tailrace_frontend.access_control import SECRET_PREFIX, AccessControl
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.caller_views import CallerViews
from tailrace_frontend.callers import Callers
from tailrace_frontend.chats import Chats
from tailrace_frontend.conversation import Conversations
from tailrace_frontend.dashboard import AuditFeed, DiagnosticStreams, SnapshotFeed, SnapshotReader
from tailrace_frontend.encoders import Encoders
from tailrace_frontend.frontend_reports import FrontendReports
from tailrace_frontend.generations import Generations
from tailrace_frontend.issuer_keys import IssuerKeys
from tailrace_frontend.large_requests import TURN_BYTES, Turn
from tailrace_frontend.metrics import Metrics
from tailrace_frontend.rate_limits import RateLimits
from tailrace_frontend.run_time_access import RunTimeAccess
from tailrace_frontend.sessions import Sessions
from tailrace_frontend.shares import Shares, last_second_of
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.tickets import expiry_of
from tailrace_frontend.tokens import UnknownSigner
from tailrace_frontend.webhooks import Webhooks

KEPT_BYTES = 32 * 1024 * 1024
"""Memory of the ends that a frontend confirms: cancels of 2.5 s, with their rows."""

POLICIES_S = 1.0
"""A frontend that starts waits so long for the limits of callers."""


class Services:
    """Built without I/O; `start` and `close` belong to the server's lifespan."""

    def __init__(self, settings: Settings) -> None:
        settings.check_frontend()
        self.settings = settings
        self.upstreams = CurrentUpstreams(settings)
        self.callers = Callers(settings)
        self.sessions = Sessions(settings, self.callers)
        self.log = Log.connect(settings)
        self.audit = Audit(self.log.server)
        self.queue = Queue.connect(settings)
        self.policies = CallerPolicies(self.queue.server, settings)
        self.queue.use_rights(self.policies.right_of)
        self.rate_limits = RateLimits(settings, self.policies.of)
        self.queue_subscriber = self.queue.server.subscriber()
        self.stats = Stats("frontend")
        self.stats.model_label = ModelLabels(settings, self.upstreams).label
        self.hub = Hub(settings, self.log, self.stats, self.policies.of)
        self.confirmations = Confirmations(
            self.log,
            self.queue,
            connected_at=lambda: self.hub.subscriber.connected_at,
            max_bytes=KEPT_BYTES,
            stats=self.stats,
        )
        self.generations = Generations(
            settings, self.log, self.queue, self.confirmations, self.hub, self.upstreams, self.policies.of
        )
        self.reader_counts = ReaderCounts(self.queue.server)
        self.caller_views = CallerViews(self.queue, self.policies, self.reader_counts)
        self.access = RunTimeAccess(AccessStore(self.log.server), self.callers.apply, self.hub.check_access)
        self.access_control = AccessControl(self.callers, self.access)
        self.shares = Shares(ShareStore(self.log.server), self.access)
        self.encoders = Encoders(self.log, self.generations.reads)
        self.chats = Chats(self.queue, self.generations)
        self.conversations = Conversations(self.generations, self.log, settings.max_body_bytes)
        self.webhooks = Webhooks(settings, self.log)
        self.issuer_keys = IssuerKeys(settings, self.callers.tokens) if self.callers.tokens else None
        self.metrics = Metrics(self.hub, self.stats)
        self.history = HistoryReader(self.queue.server)
        self._history = History(
            self.stats, self.queue.server, {"readers": lambda: self.hub.count}, waiting=self.queue.jobs.depth
        )
        other_server = self.queue.server if settings.queue_server != settings.redis_url else None
        self._servers = ServerGauges(self.stats, servers_of(self.log.server, other_server))
        self.audit_feed = AuditFeed(self.audit, self.hub.subscriber)
        self.reports = FrontendReports(self.hub, self.problems)
        self.roll_call = RollCall(self.queue.server, self.reports.answer)
        self.snapshots = SnapshotFeed(SnapshotReader(self.queue, self.hub))
        self.diagnostic_streams = DiagnosticStreams()
        self._large_requests = asyncio.Lock()
        self._sweeper = Sweeper(
            self.log, self.queue, self.confirmations,
            max_attempts=settings.max_attempts, connected_for=lambda: self.hub.subscriber.connected_for,
            stats=self.stats,
        )  # fmt: skip
        self._tasks: list[asyncio.Task[None]] = []
        self._drained_at = 0.0
        self.has_started = False

    def turn(self, body_bytes: int) -> Turn:
        """The turn of a request with such a body among all large ones."""
        return Turn(self._large_requests, body_bytes)

    def turn_within(self, body_bytes: int) -> Turn:
        """The turn of a request that may become larger than its body, inside `turn(body_bytes)`."""
        return Turn(self._large_requests, body_bytes, is_held=body_bytes > TURN_BYTES)

    async def identify(self, headers: Mapping[str, str], items: int = 0) -> ApiKey:
        """The key of a request, which is counted. `items`: how many generations it asks for.

        Raises:
            Unauthenticated, HostRefused, OriginRefused: as `Callers.identify`.
            RateLimited: the caller sends too many requests.
        """
        caller = self.callers.identify(headers)
        announced, most = headers.get("content-length", "0"), self.settings.max_body_bytes
        body_bytes = min(int(announced), most) if announced.isdecimal() else 0
        most_bytes = most if "transfer-encoding" in headers else None
        await self.rate_limits.charge_request(caller.owner, body_bytes, items, most_bytes=most_bytes)
        return caller

    async def authorize(self, headers: Mapping[str, str], scopes: Scopes) -> ApiKey:
        """The key of a request, which has one of these scopes. A refusal is counted as a request.

        Raises:
            Unauthenticated, CallerBlocked, HostRefused, OriginRefused: as `Callers.identify`.
            Unavailable: it may be a key of run time, and the keys of run time could not be read yet.
            InsufficientScope: the key has none of them.
            RateLimited: so the caller sends too many requests.
        """
        caller = None if CALLER_SCOPES & scopes else self.sessions.caller_of(headers)
        caller = caller or await self.authenticate(headers)
        await self.check_scopes(caller, scopes)
        return caller

    async def authenticate(self, headers: Mapping[str, str]) -> ApiKey:
        """The key of a request, whatever it may do.

        Raises:
            Unauthenticated, CallerBlocked, HostRefused, OriginRefused, Unavailable: as `authorize`.
        """
        is_run_time = SECRET_PREFIX in headers.get("authorization", "")
        try:
            caller = await self._known(lambda: self.callers.identify(headers), may_be_new=is_run_time)
        except UnknownSigner:
            if not self.issuer_keys or not await self.issuer_keys.look_again():
                raise
            caller = self.callers.identify(headers)
        self.access.note_used(caller.id)
        return caller

    async def check_scopes(self, caller: ApiKey, scopes: Scopes) -> None:
        """
        Raises:
            InsufficientScope, RateLimited: as `authorize`.
        """
        if caller.scopes.isdisjoint(scopes):
            await self.rate_limits.charge_request(caller.owner)
            raise InsufficientScope.lacking(scopes)

    async def redeem(self, ticket: str, generation_id: str) -> ApiKey:
        """The key for which the ticket was issued.

        Raises:
            Unauthenticated, CallerBlocked: as `Callers.redeem`.
            Unavailable: as `authorize`.
        """
        is_current = time.time() < expiry_of(ticket)
        return await self._known(lambda: self.callers.redeem(ticket, generation_id), may_be_new=is_current)

    async def _known(self, find: Callable[[], ApiKey], *, may_be_new: bool) -> ApiKey:
        """The key that `find` finds. `may_be_new`: it may be a key of run time that this process has not read yet."""
        try:
            return find()
        except Unauthenticated:
            if not may_be_new or not await self.access.look_again():
                raise
        return find()

    async def start(self) -> None:
        self.hub.start()
        self.access.start(self.hub.subscriber)
        if self.issuer_keys:
            self.issuer_keys.start()
        self.queue_subscriber.start()
        self.policies.listen(self.queue_subscriber)
        self.roll_call.listen(self.queue_subscriber)
        with contextlib.suppress(Unavailable, RedisRefused, TimeoutError):  # a server that is away delays no start
            async with asyncio.timeout(POLICIES_S):
                await self.policies.refresh()
        self.upstreams.reload_on_hangup()
        loops = {
            "sweeper": self._sweeper.run, "confirmations": self.confirmations.run, "history": self._history.run,
            "servers": self._servers.run, "policies": self.policies.run, "reader counts": self._report_readers,
        }  # fmt: skip
        self._tasks = [asyncio.create_task(loop(), name=name) for name, loop in loops.items()]
        self.has_started = True

    async def _report_readers(self) -> None:
        """Report how many streams this frontend serves to each caller. An outage is logged elsewhere."""
        while True:
            with contextlib.suppress(Unavailable, RedisRefused):
                await self.reader_counts.report(self.hub.counts)
            await asyncio.sleep(REPORT_S)

    async def drain(self, seconds: float) -> None:
        """Send every client elsewhere within so many seconds. `close` confirms ends for what is left of them."""
        self._drained_at = time.monotonic() + seconds
        await self.hub.drain(seconds)

    async def problems(self) -> tuple[list[str], list[str]]:
        """Problems that make a server unfit, and those that merely deserve a warning.

        Raises:
            RedisUnavailable: a server cannot be reached.
        """
        has_other = self.settings.queue_server != self.settings.redis_url
        wrong, warnings = await self.log.server.problems(Uses.LOG if has_other else Uses.BOTH)
        if has_other:
            queue_wrong, queue_warnings = await self.queue.server.problems(Uses.QUEUE)
            wrong = [*wrong, *(f"{QUEUE_SERVER}: {each}" for each in queue_wrong)]
            warnings = [*warnings, *(f"{QUEUE_SERVER}: {each}" for each in queue_warnings)]
        return wrong, warnings

    async def close(self) -> None:
        await self.confirmations.drain(self._drained_at - time.monotonic())
        await cancel_and_wait(*self._tasks)
        await self.roll_call.close()
        await self.access.close()
        await self.snapshots.close()
        if self.issuer_keys:
            await self.issuer_keys.close()
        await self.hub.close()
        await self.queue_subscriber.close()
        await self.webhooks.close()
        await self._history.flush_finally()
        await self.log.server.close()
        await self.queue.server.close()


def events_url(services: Services, state: GenerationState, caller: ApiKey) -> str:
    """Where a browser's `EventSource` reads this log. The ticket lives as long as the log may, and as the key does."""
    ticket = services.callers.ticket(state.record.id, caller, last_second_of(state))
    return f"/v1/generations/{state.record.id}/events" + (f"?ticket={ticket}" if ticket else "")
