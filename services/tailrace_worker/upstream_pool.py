"""The connections of a worker: one client for each upstream of `tailrace.toml`.

After SIGHUP an upstream that the file has unchanged keeps its client. Any other client is closed once its last call has
ended: no call is cut by a reload.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tailrace.events import Failure
from tailrace.queue import UpstreamCalls
from tailrace.settings import Settings
from tailrace.stats import Stats
from tailrace.stats.model_labels import ModelLabels
from tailrace.upstreams import CurrentUpstreams, UpstreamConfig
from tailrace_worker.upstream.client import LIMITS, UpstreamClient
from tailrace_worker.upstream.redaction import Redaction
from tailrace_worker.upstream_admission import UpstreamAdmission


class UpstreamPool:
    """The clients, by upstream. `admission`: which of them may be called now. `listeners` are called after each reload.
    `stats`: the worker's.

    Raises:
        Misconfigured: `tailrace.toml` is wrong, or the environment lacks a key that it names.
    """

    def __init__(self, settings: Settings, calls: UpstreamCalls, worker: str, stats: Stats | None = None) -> None:
        self.stats = stats or Stats("worker")
        self._settings = settings
        self._clients: list[UpstreamClient] = []
        self._calls: Counter[UpstreamClient] = Counter()
        self._closing: set[asyncio.Task[None]] = set()
        self.redaction = Redaction()
        self.upstreams = CurrentUpstreams(settings, needs_keys=True)
        self.upstreams.on_change = self._on_change
        self.admission = UpstreamAdmission(settings, calls, self.upstreams, worker, self.stats)
        self.stats.model_label = ModelLabels(settings, self.upstreams).label
        self.listeners: list[Callable[[], None]] = []
        for kind in LIMITS:
            self.stats.gauge(f"upstream_remaining_{kind}", partial(self._remaining, kind))
        self.admission.remaining_of = self._remaining_of
        self._open()

    def _remaining_of(self, upstream: str) -> dict[str, int]:
        return next((dict(each.remaining) for each in self._clients if each.config.name == upstream), {})

    def _remaining(self, kind: str) -> dict[tuple[str, ...], float]:
        """By upstream, for those that report it."""
        return {(each.config.name,): each.remaining[kind] for each in self._clients if kind in each.remaining}

    @property
    def clients(self) -> list[UpstreamClient]:
        """Those of the file that was read last, in its order."""
        return list(self._clients)

    @contextlib.contextmanager
    def client(self, config: UpstreamConfig) -> Iterator[UpstreamClient]:
        """The client of an upstream; it stays open for the whole block."""
        client = next(
            (each for each in (*self._clients, *self._calls) if each.config is config or each.config == config), None
        )
        if client is None:  # the file was read again since its targets were asked for
            client = UpstreamClient(self._settings, config, self.redaction)
        self._calls[client] += 1
        try:
            yield client
        finally:
            self._calls[client] -= 1
            self._close_unused([client])

    def redact(self, failure: Failure) -> Failure:
        """The same failure without the key of any upstream, also of those that the file had before."""
        return self.redaction.redacted(failure)

    async def close(self) -> None:
        await self.admission.close()
        await asyncio.gather(*(client.close() for client in {*self._clients, *self._calls}), *self._closing)

    def _on_change(self) -> None:
        self._open()
        for listener in self.listeners:
            listener()

    def _open(self) -> None:
        """A client for each upstream. One whose configuration is the same keeps its own."""
        before = self._clients
        self._clients = [
            next((client for client in before if client.config == config), None)
            or UpstreamClient(self._settings, config, self.redaction)
            for config in self.upstreams.all
        ]
        self._close_unused(before)

    def _close_unused(self, clients: Iterable[UpstreamClient]) -> None:
        """Close those clients that no call and no upstream of the file needs any more."""
        for client in clients:
            if self._calls[client]:
                continue
            del self._calls[client]
            if client not in self._clients:
                closing = asyncio.create_task(client.close(), name="close upstream")
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
