"""Whether a generation may run once more: decided here for the sweeper, which queues runs, and for workers."""

from tailrace.events import Failure
from tailrace.failures import failure
from tailrace.log.state import GenerationState


def limit_failure(state: GenerationState, now_ms: float, *, failed_attempts: int, max_attempts: int) -> Failure | None:
    """Why no attempt may begin now; None if one may. `now_ms`: Redis' clock."""
    if now_ms > state.deadline:
        return failure("deadline_exceeded")
    if failed_attempts >= max_attempts:
        return failure("attempts_exhausted")
    return None
