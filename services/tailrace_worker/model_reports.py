"""Reports the upstreams' models to the queue's server, where frontends read them for `GET /v1/models`.

The upstreams may start after the worker, as in `tailrace dev`, or stop for a while. A list that cannot be read is read
again soon, then less and less often; meanwhile the last one is reported again, and of an upstream of `tailrace.toml`
what the file names.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from tailrace.errors import RedisRefused, Unavailable
from tailrace.lifecycle.end_line import printable
from tailrace.model_names import chat_models_first
from tailrace.process import startup
from tailrace.queue.models import REPORT_S, UpstreamModels
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.errors import UPSTREAM_ERRORS, failure_from_exception
from tailrace_worker.upstream.models import list_models
from tailrace_worker.upstream_pool import UpstreamPool

RETRY_S = 0.5
"""After the first failure; twice as long after each further one."""

LOGGED = 5
"""Names in a log line."""

logger = logging.getLogger(__name__)


class Listing:
    """The models of one upstream, as it has listed them last; None before. `due`: when they are to be listed again
    (`time.monotonic()`). `reason`: why that failed last, for people."""

    def __init__(self, client: UpstreamClient, label: str) -> None:
        self.client = client
        self.names: list[str] | None = None
        self.reason = ""
        self.due = 0.0
        self._label = label
        self._failures = 0

    async def update(self) -> bool:
        """List the models, if that is due. Returns whether it was."""
        if time.monotonic() < self.due:
            return False
        try:
            names = await list_models(self.client)
        except UPSTREAM_ERRORS as error:
            self._note_failure(error)
            self.due = time.monotonic() + min(REPORT_S, RETRY_S * 2**self._failures)
            return True
        if names != self.names:
            more = f" and {len(names) - LOGGED} more" if len(names) > LOGGED else ""
            startup.logger.info("%s: %s%s", self._label, printable(", ".join(names[:LOGGED])) or "none", more)
        self.names, self._failures = names, 0
        self.due = time.monotonic() + REPORT_S
        return True

    def _note_failure(self, error: Exception) -> None:
        failed = self.client.with_own_settings(failure_from_exception(error))
        self.reason = printable(self.client.redact(failed).message)
        if not self._failures:
            where = printable(self.client.describe(error))
            logger.warning("%s cannot be listed: %s [%s]", self._label, self.reason, where)
        self._failures = min(self._failures + 1, 16)


class ModelReports:
    """The models of one worker's upstreams, as they have listed them last."""

    def __init__(self, pool: UpstreamPool, models: UpstreamModels, worker: str, reconnects: ReconnectSignal) -> None:
        self._pool = pool
        self._models = models
        self._worker = worker
        self._reconnects = reconnects
        self._listings: list[Listing] = []
        self._turn = asyncio.Lock()
        pool.listeners.append(reconnects.notify)

    async def run(self) -> None:
        """List and report until cancelled: every `REPORT_S`, when Redis is back, and when the file was read again.

        Before any upstream is asked, what is known without it is reported, and again after each list: an upstream that
        hangs hides no other.
        """
        is_notified = True
        while True:
            self._listings = self._known()
            if is_notified:
                await self._report()
            await asyncio.gather(*map(self._update, self._listings))
            seconds = min(listing.due for listing in self._listings) - time.monotonic()
            is_notified = await self._reconnects.wait(seconds)

    async def _update(self, listing: Listing) -> None:
        if await listing.update():
            async with self._turn:  # the last report is of the last list
                await self._report()

    def _known(self) -> list[Listing]:
        """One for each upstream; what is known of those that the file has as before is kept."""
        known = {listing.client: listing for listing in self._listings}
        return [known.get(client) or Listing(client, self._label_of(client)) for client in self._pool.clients]

    def _label_of(self, client: UpstreamClient) -> str:
        is_default = self._pool.upstreams.is_default
        return "the upstream's models" if is_default else f"the models of upstream {client.config.name}"

    async def _report(self) -> None:
        names = self._names()
        reason = next((listing.reason for listing in self._listings if listing.names is None), "")
        try:
            if names is not None:
                await self._models.report(self._worker, names)
            elif reason:
                await self._models.report_failure(self._worker, reason)
        except (Unavailable, RedisRefused) as error:
            logger.warning("models: %s: %s", type(error).__name__, error)

    def _names(self) -> Sequence[str] | None:
        """What callers may name, in the order of the upstreams; None where nothing is known."""
        if self._pool.upstreams.is_default:
            return self._listings[0].names
        listed = {listing.client.config.name: listing.names or () for listing in self._listings}
        return chat_models_first(self._pool.upstreams.now.names(listed)) or None
