"""The queue: jobs (`arq_jobs`), indexes (`index`) and workers (`presence`) on one server, and what needs several of
them.

The order of a creation makes it safe to die anywhere in it: the log creates the generation, then `submit` registers and
enqueues it, and only then is the caller answered. A generation that was created and not submitted was promised to no
one; with an Idempotency-Key the caller's next try submits it, and otherwise a sweeper does. Each step may be repeated.

Nothing here is needed to find what is unfinished (`log.unfinished`): this server may lose everything. A sweeper then
enqueues what waits; the lists of the owners are incomplete until what they lack has expired.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.errors import Misconfigured, RedisFull
from tailrace.events import GenerationRecord
from tailrace.queue.arq_jobs import Jobs
from tailrace.queue.index import CLAIM_GRACE_S, FREE, Charge, Claim, GenerationIndex, Usage
from tailrace.queue.models import UpstreamModels
from tailrace.queue.presence import WorkerPresence
from tailrace.queue.quotas import NO_TERMS, Quota, Quotas, Terms
from tailrace.queue.rights import EQUAL, RightOf, rights_from
from tailrace.queue.upstream_calls import UpstreamCalls
from tailrace.redis.cluster import CLUSTERS
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command
from tailrace.settings import Settings

QUEUE_SERVER = "the queue's server"
"""How messages to operators name it where it is not the log's server as well."""


class Load(NamedTuple):
    """Figures that admission decides by: jobs that wait, the owner's generations that wait or run, an earlier claim,
    and the owner's use. `quota.refused`: the limit that refuses the creation, if one does."""

    depth: int
    own: int
    claimed: bytes | None
    usage: Usage = Usage()
    quota: Quota = Quota()


class Submission(NamedTuple):
    """Where a submitted generation stands: its place in the queue, from 1, and the number of live workers."""

    position: int
    workers: int


class Queue:
    """The queue's server. `right_of`: each owner's right beside the others (`rights`)."""

    def __init__(
        self, server: RedisServer, *, lease_ms: int, longest_life_s: int, right_of: RightOf = lambda _: EQUAL
    ) -> None:
        self.server = server
        self.jobs = Jobs(server, lease_ms=lease_ms, right_of=right_of)
        self.index = GenerationIndex(server, lease_ms=lease_ms, longest_life_s=longest_life_s)
        self.presence = WorkerPresence(server, lease_ms=lease_ms)
        self.models = UpstreamModels(server)
        self.upstreams = UpstreamCalls(server, lease_ms=lease_ms)
        self.quotas = Quotas(server, lease_ms=lease_ms)

    @classmethod
    def connect(cls, settings: Settings) -> "Queue":
        """The queue as the settings name it; nothing is connected yet.

        Raises:
            Misconfigured: it is on a cluster. The jobs of all callers are ordered by one set, and arq knows one server.
        """
        if settings.queue_server.startswith(CLUSTERS):
            raise Misconfigured(
                "TAILRACE_QUEUE_URL: the queue needs one server, or one behind Sentinel. Logs may be on a cluster "
                "(TAILRACE_REDIS_URL) beside it."
            )
        has_own_server = settings.queue_server != settings.redis_url
        server = RedisServer.connect(settings.queue_server, "TAILRACE_QUEUE_URL" if has_own_server else "")
        right_of = rights_from(settings)
        return cls(server, lease_ms=settings.lease_ms, longest_life_s=settings.longest_life_s, right_of=right_of)

    def use_rights(self, right_of: RightOf) -> None:
        """Let these rights hold from now on, in the place of those of the settings."""
        self.jobs.right_of = right_of

    async def load(
        self,
        owner: str,
        key: str | None = None,
        claim: Claim | None = None,
        life_s: int = 0,
        charge: Charge = FREE,
        terms: Terms = NO_TERMS,
        *,
        replaces: bool = False,
    ) -> Load:
        """The load, the check of every limit, the charge of the request, and, with an Idempotency-Key, its claim: in
        one round trip.

        A request that a limit refuses is not charged, and makes no claim; an earlier one is read in any case.
        `replaces`: claim the key whatever it names, which then is no part of the load.

        Raises:
            RedisFull: there is no room for the claim.
        """
        names = [
            keys.QUEUE, keys.unfinished_of(owner), keys.owned(owner), keys.stored(owner), keys.stored_until(owner),
            keys.owed(owner), keys.idempotency(owner, key or ""), keys.GENERATIONS, keys.PARKED, keys.use(owner),
            keys.reserved(owner), keys.reserved_until(owner), keys.outputs(owner),
        ]  # fmt: skip
        claimed = b"" if key is None or claim is None else claim.encoded
        command = scripts.LOAD.on(
            names, *charge, claimed, life_s + CLAIM_GRACE_S, int(replaces),
            b"" if terms is NO_TERMS else msgspec.json.encode(terms),
        )  # fmt: skip
        outcome, *load = await self.server.execute(*command)
        if outcome == b"FULL":
            raise RedisFull
        depth, own, stored, wait, earlier, *quota = load
        return Load(int(depth), int(own), earlier, Usage(int(stored), int(wait)), Quota.of(wait, quota))

    async def submit(self, record: GenerationRecord, created: int, job_id: str, request_bytes: int = 0) -> Submission:
        """Register a created generation and enqueue its job, both or neither. Repeating it changes nothing.

        Raises:
            RedisFull: the server has no room.
        """
        job_keys, job = self.jobs.waiting(record.id, job_id, record.options.deadline_s, record.options.priority)
        replies = await self.server.execute_many(
            [
                self.index.submit_command(record, created, job_keys, job, request_bytes),
                self.presence.count_command(created),
            ]
        )
        (_, position), workers = checked(replies)
        return Submission(int(position), int(workers))

    async def remove(self, generation_id: str, owner: str, job_id: str, charges: Sequence[Command] = ()) -> None:
        """Remove an ended generation and its job, which its worker may still be ending. arq cannot remove a job whose
        worker died, or whose server was away. `charges`: of `Quotas.settle_commands`, in the same round trip."""
        commands = [
            self.jobs.remove_command(job_id, has_ended=False),
            self.index.remove_command(generation_id, owner),
            *charges,
        ]
        checked(await self.server.execute_many(commands))
