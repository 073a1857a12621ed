"""Whether a generation may run once more, and how: decided here for the sweeper, which queues runs, and for workers.

The rules stand on top of `sweeper`. The bound: a generation runs at most MAX_ATTEMPTS + min(3, MAX_ATTEMPTS - 1) times
and is charged for MAX_ATTEMPTS of them; handovers are not counted.
"""

from tailrace.events import Failure
from tailrace.failures import failure
from tailrace.ids import new_token
from tailrace.log.state import GenerationState
from tailrace.queue import QUARANTINE

QUARANTINE_AFTER = 3
"""Lost attempts. From then on the generation is quarantined, and every lost attempt is charged."""


def limit_failure(state: GenerationState, now_ms: float, max_attempts: int, *, is_lost: bool = False) -> Failure | None:
    """Why no further attempt may begin; None if one may.

    `now_ms`: Redis' clock. `is_lost`: whether the attempt that runs by this state was lost with its worker.
    """
    if now_ms > state.deadline:
        return failure("deadline_exceeded")
    charged = is_lost and not is_spared(state, max_attempts)
    if state.failed_attempts + charged >= max_attempts:
        return failure("attempts_exhausted")
    return None


def is_spared(state: GenerationState, max_attempts: int) -> bool:
    """Whether the attempt that runs by this state is not charged if it is lost with its worker."""
    return state.neighbours > 0 and state.lost_attempts < min(QUARANTINE_AFTER, max_attempts - 1)


def new_job_id(state: GenerationState, *, is_lost: bool = False) -> str:
    """For the next run; that of a quarantined generation begins with `QUARANTINE`. `is_lost` as in `limit_failure`."""
    return (QUARANTINE if state.lost_attempts + is_lost >= QUARANTINE_AFTER else "") + new_token()
