"""Generations without HTTP: create, cancel and delete beside what `readable_generations` has.

A creation costs four sequential trips to Redis, whether or not it has an Idempotency-Key:

    1. queue   the load, the check of all limits and their charge, and the key's claim
    2. log     add to the index of the unfinished, `create`; two trips where the request is large
    3. queue   `submit`, count the workers
    4. log     the state once more: accepted means that the server still has it

Where the key was claimed before, one more trip asks whether its generation exists: a repeat is served even when new
work is refused. Twice a second a further one asks for the server's memory (`admission`).
"""

import contextlib
import logging
from typing import NamedTuple

import msgspec

from tailrace import keys, tracing
from tailrace.errors import InvalidValue, NotFound, RedisFull, RedisUnavailable, Unavailable
from tailrace.events import Api, GenerationRecord, Json, Options
from tailrace.ids import new_generation_id
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.end_line import printable
from tailrace.lifecycle.steps import log_step
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.process.recent import Recent
from tailrace.queue import Charge, Claim, LimitsOf, Load, Queue, Submission, Terms, job_id_of
from tailrace.settings import Settings
from tailrace.tracing.span import Span
from tailrace.translation import json_format_of
from tailrace.upstreams import CurrentUpstreams
from tailrace_frontend.admission import Admission
from tailrace_frontend.models import AllowedModels
from tailrace_frontend.preview import preview_of
from tailrace_frontend.readable_generations import ReadableGenerations
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.tags import tags_of
from tailrace_frontend.token_allowances import TokenAllowances

NO_FIELDS: Json = {}

ID_TRIES = 32
"""For an id on a server that responds. With one of three away, all of them are in vain once in 10^15 times."""

logger = logging.getLogger(__name__)


class IdempotencyKey(NamedTuple):
    """A caller's Idempotency-Key, with the canonical form of the body that it was sent with.

    `life_s`: for how long the key names its generation; None: for as long as that may be stored. `is_new`: the
    key names a new generation from now on, whatever it named before.
    """

    key: str
    body: bytes
    life_s: int | None = None
    is_new: bool = False


class Generations(ReadableGenerations):
    """The operations on generations that routes offer, each for one owner. `upstreams`: None where this process creates
    none. `limits_of`: of a caller, now; by default those of the settings."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        hub: Hub,
        upstreams: CurrentUpstreams | None = None,
        limits_of: LimitsOf | None = None,
    ) -> None:
        super().__init__(settings, log, queue, hub)
        self._confirmations = confirmations
        self._upstreams = upstreams
        self._admission = Admission(settings, log, queue, upstreams, limits_of)
        self._upstream_models = Recent(queue.models.names)
        self._created = hub.stats.count("generations_created_total")

    def _check_continues(self, model: str, options: Options) -> None:
        """
        Raises:
            InvalidValue: the answer is to be continued where it is interrupted, and no upstream that serves the model
                can do so.
        """
        if options.on_interrupt == "continue" and self._upstreams and not self._upstreams.now.can_continue(model):
            raise InvalidValue.at(
                "tailrace.on_interrupt",
                "the upstream of this model cannot continue an answer, or its profile is not named "
                "(TAILRACE_UPSTREAM_PROFILE, `profile` in tailrace.toml).",
            )

    @property
    def models(self) -> AllowedModels:
        """The models that callers may name."""
        return self._admission.models

    @property
    def tokens(self) -> TokenAllowances:
        """The tokens and the budgets that callers have left."""
        return self._admission.tokens

    async def list_models(self, owner: str) -> list[str]:
        """The models that the owner may use, as far as they are known; the first is the default.

        Raises:
            RedisUnavailable: what the workers have reported cannot be read.
        """
        return self.models.names_for(owner, await self._upstream_models.get())

    async def create(
        self,
        owner: str,
        request: Json,
        options: Options,
        key: IdempotencyKey | None = None,
        body_bytes: int = 0,
        record_fields: Json = NO_FIELDS,
    ) -> tuple[GenerationState, Submission | None]:
        """Accept a generation: stored, and waiting for a worker. A repeat with the same key is the same generation.

        `record_fields`: further fields of its record. The submission is None where the generation does not wait any
        more: a late repeat.

        Raises:
            ModelNotFound: the owner may not use the model.
            InvalidValue: no upstream can continue the answer, as its options want.
            RateLimited: a limit refuses it; nothing is charged, and nothing stays.
            Unavailable: refused; nothing stays but the claim of the key, which a repeat may use.
            IdempotencyKeyReused: the key was used with another body.
            Gone: the key's generation is no longer kept.
        """
        with tracing.creating(owner, request["model"]) as span:
            return await self._create(owner, request, options, key, body_bytes, record_fields, span)

    async def _create(
        self, owner: str, request: Json, options: Options, key: IdempotencyKey | None, body_bytes: int,
        record_fields: Json, span: Span,
    ) -> tuple[GenerationState, Submission | None]:  # fmt: skip
        self.models.check_request(owner, request)
        self._check_continues(request["model"], options)
        api: Api = record_fields.get("api", "chat")
        generation_id, is_new = await self._admit(owner, api, request, options, key, body_bytes)
        fields: Json = {"include_usage": _wants_usage(request), "preview": preview_of(request)} | record_fields
        if tags := tags_of(request):
            fields["tags"] = tags
        fields["structured"] = json_format_of(api, request) is not None
        if traceparent := span.traceparent:
            span.set(generation=generation_id, message_id=generation_id)
            fields["traceparent"] = traceparent
        record = GenerationRecord(generation_id, owner, request["model"], options, **fields)
        job_id = job_id_of(owner)
        submission = None
        try:
            created, waiting_under = await self._log.create(record, request, job_id)
            if waiting_under is not None:
                submission = await self._submit(record, created, waiting_under, body_bytes)
            if is_new:
                self._created.inc()
                log_step(logger, "created", record, "%s created  %s", printable(record.model))
            return await self._log.state(generation_id, owner), submission
        except RedisFull:
            await self._discard(record, job_id)
            raise
        except NotFound:  # the server came back with older data meanwhile
            raise Unavailable("The generation was lost while it was created. Try again.") from None

    async def repeated(self, owner: str, request: Json, key: IdempotencyKey) -> GenerationState | None:
        """The generation that a key names; None where `create` has to create one. `request` needs no more than the
        names of its models. A generation that waits is submitted again: the first call may have been lost before that.

        Raises:
            ModelNotFound, IdempotencyKeyReused, Gone, Unavailable: as `create`.
        """
        self.models.check_request(owner, request)
        stored = None if key.is_new else await self._queue.index.claim_of(owner, key.key)
        if stored is None:
            return None
        generation_id = Claim.of("", key.body).held_by(stored)
        waiting = await self._log.share(generation_id)
        try:
            state = await self._log.state(generation_id, owner)
        except NotFound:  # a refused creation leaves the claim
            return None
        if waiting is not None:
            await self._queue.submit(state.record, waiting.created, waiting.job_id, waiting.request_bytes)
        return state

    async def _submit(self, record: GenerationRecord, created: int, job_id: str, body_bytes: int) -> Submission:
        """Submit, or discard the generation if the queue's server is away: otherwise a sweeper would have it run, and
        its caller has been refused. (Where only the reply was lost and a worker runs the job, the run continues.)"""
        try:
            return await self._queue.submit(record, created, job_id, body_bytes)
        except RedisUnavailable:
            with contextlib.suppress(RedisUnavailable):
                await self._discard(record, job_id)
            raise

    async def _discard(self, record: GenerationRecord, job_id: str) -> None:
        """Undo a creation, unless another call relies on it. Its job may be there: the reply to `submit` may have been
        lost. Where the queue's server is away, what was reserved stays until the generation's deadline."""
        if await self._log.discard(record.id, job_id) is Outcome.OK:
            await self._queue.jobs.remove(job_id)
            await self._queue.quotas.release(record.owner, record.id)

    async def _admit(
        self, owner: str, api: Api, request: Json, options: Options, key: IdempotencyKey | None, body_bytes: int
    ) -> tuple[str, bool]:
        """The id to create: a fresh one, or the one that the key names; and whether no generation has it."""
        generation_id, charge = self._new_id(), self._admission.charge(owner, body_bytes)
        terms = await self._admission.terms(owner, generation_id, api, request, options, body_bytes)
        load = await self._load(owner, generation_id, options, key, charge, terms)
        if load.quota.refused == "unfinished" and not await self._admission.is_beyond_unfinished(owner):
            terms = msgspec.structs.replace(terms, max_unfinished=None)
            load = await self._load(owner, generation_id, options, key, charge, terms)
        if key is not None:
            claimed = Claim.of(generation_id, key.body).held_by(load.claimed)
            if claimed != generation_id and await self._log.position(claimed) is not None:
                return claimed, False
            generation_id = claimed
        self._admission.check(owner, load)
        return generation_id, True

    def _new_id(self) -> str:
        """A new generation's id, on a server that responds if there is one: in a cluster, others may."""
        for _ in range(ID_TRIES):
            generation_id = new_generation_id()
            with contextlib.suppress(RedisUnavailable):
                if not self._log.server.primary_of(keys.log(generation_id)).is_away:
                    break
        return generation_id

    async def _load(
        self, owner: str, generation_id: str, options: Options, key: IdempotencyKey | None, charge: Charge, terms: Terms
    ) -> Load:
        if key is None:
            return await self._queue.load(owner, charge=charge, terms=terms)
        claim = Claim.of(generation_id, key.body)
        life_s = self._settings.deadline_s + 2 * options.retention_s if key.life_s is None else key.life_s
        return await self._queue.load(owner, key.key, claim, life_s, charge, terms, replaces=key.is_new)

    async def cancel(self, generation_id: str, owner: str) -> GenerationState:
        """End the generation, also where Redis loses that end. Repeating it, or cancelling one that has ended, changes
        nothing.

        Raises:
            NotFound, Gone, Unavailable: as `find`.
        """
        state = await self.find(generation_id, owner)
        if not state.is_final:
            await self._confirmations.terminate(generation_id, "cancelled")
            state = await self._log.state(generation_id, owner)
        return state

    async def delete(self, generation_id: str, owner: str) -> None:
        """Delete the generation, also where Redis loses the deletion; a running one is cancelled first.

        Raises:
            NotFound, Gone, Unavailable: as `find`.
        """
        state = await self.find(generation_id, owner)
        if not state.is_final:
            await self._confirmations.terminate(generation_id, "cancelled")
            state = await self._log.state(generation_id, owner)
        await self._confirmations.delete(state)


def _wants_usage(request: Json) -> bool:
    return bool((request.get("stream_options") or {}).get("include_usage"))
