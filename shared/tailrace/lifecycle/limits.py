"""Whether a generation may run once more, and how: decided here for the sweeper, which queues runs, and for workers.

The rules stand on top of `sweeper`. The bound: a generation runs at most MAX_ATTEMPTS + min(3, MAX_ATTEMPTS - 1) times
and is charged for MAX_ATTEMPTS of them; handovers are not counted.
"""

from tailrace.events import Failure
from tailrace.failures import LAST_CAUSES, RestartReason, failure
from tailrace.log.state import GenerationState
from tailrace.queue import QUARANTINE, Queue, job_id_of

QUARANTINE_AFTER = 3
"""Lost attempts. From then on the generation is quarantined, and every lost attempt is charged."""


def limit_failure(
    state: GenerationState,
    now_ms: float,
    max_attempts: int,
    *,
    ended: RestartReason | None = None,
    before: RestartReason = "worker_lost",
) -> Failure | None:
    """Why no further attempt may begin; None if one may.

    `now_ms`: Redis' clock. `ended`: how the attempt that runs by this state ended, if it has: only one that was lost
    with its worker may be spared. `before`: how the attempt before it ended.
    """
    if now_ms > state.deadline:
        return failure("deadline_exceeded")
    charged = ended is not None and not (ended == "worker_lost" and is_spared(state, max_attempts))
    if state.failed_attempts + charged >= max_attempts:
        last = LAST_CAUSES[ended or before]
        return failure("attempts_exhausted", f"Too many attempts failed; the last one: {last}.")
    return None


def is_spared(state: GenerationState, max_attempts: int) -> bool:
    """Whether the attempt that runs by this state is not charged if it is lost with its worker."""
    return state.neighbours > 0 and state.lost_attempts < min(QUARANTINE_AFTER, max_attempts - 1)


def new_job_id(state: GenerationState, *, is_lost: bool = False) -> str:
    """For the next run; that of a quarantined generation begins with `QUARANTINE`.

    `is_lost`: whether the run by this state was lost with its worker.
    """
    prefix = QUARANTINE if state.lost_attempts + is_lost >= QUARANTINE_AFTER else ""
    return job_id_of(state.record.owner, prefix)


async def enqueue_again(queue: Queue, state: GenerationState, job_id: str) -> None:
    """Enqueue the next run of a generation: at the front if it has run before, as its caller has had that turn."""
    options = state.record.options
    await queue.jobs.enqueue(state.record.id, job_id, options.deadline_s, options.priority, again=state.attempt > 0)
