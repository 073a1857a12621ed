"""The models of the upstream, as each worker has last listed them.

Only the workers know their upstream. A report expires, so that the models of an upstream that is gone are forgotten;
a worker that stops takes its report along. Workers with different upstreams are listed one after another.
"""

from collections.abc import Sequence

import msgspec

from tailrace import keys
from tailrace.model_names import MAX_NAME
from tailrace.redis.server import RedisServer

REPORT_S = 120.0
"""Seconds between two reports of a worker."""

EXPIRY_MS = 360_000
"""A report outlives two that fail."""

MAX_MODELS = 1000


class UpstreamModels:
    """The names of models, by worker."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def report(self, worker: str, names: Sequence[str]) -> None:
        """Store the models of this worker's upstream, in the upstream's order. Names beyond `MAX_NAME` characters, and
        all beyond `MAX_MODELS` names, are left out."""
        kept = [name for name in names if 0 < len(name) <= MAX_NAME][:MAX_MODELS]
        await self._server.execute("SET", keys.models(worker), msgspec.json.encode(kept), "PX", EXPIRY_MS)
        await self._server.execute("DEL", keys.models_failure(worker))

    async def report_failure(self, worker: str, reason: str) -> None:
        """Store why this worker has no list to report."""
        await self._server.execute("SET", keys.models_failure(worker), reason, "PX", EXPIRY_MS)

    async def failure(self) -> str:
        """Why a worker has no list to report; empty where none has reported a reason."""
        workers = await self._server.execute("ZRANGE", keys.WORKERS, 0, -1)
        if not workers:
            return ""
        reasons = await self._server.execute("MGET", *(keys.models_failure(worker.decode()) for worker in workers))
        return next((reason.decode() for reason in reasons if reason), "")

    async def withdraw(self, worker: str) -> None:
        """Forget the reports of a worker that stops."""
        await self._server.execute("DEL", keys.models(worker), keys.models_failure(worker))

    async def names(self) -> list[str]:
        """The models of all workers, each once: a worker's own in the upstream's order."""
        workers = sorted(await self._server.execute("ZRANGE", keys.WORKERS, 0, -1))
        if not workers:
            return []
        reports = await self._server.execute("MGET", *(keys.models(worker.decode()) for worker in workers))
        listed = (name for report in reports if report for name in msgspec.json.decode(report, type=list[str]))
        return list(dict.fromkeys(listed))
