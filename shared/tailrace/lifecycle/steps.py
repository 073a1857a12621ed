"""The log lines of a generation's life: one for each step, none for a token, and no content in any.

As text such a line is its message. With `TAILRACE_LOG_FORMAT=json` it also has the step as `event`, and the fields of
its generation.
"""

import logging
from typing import Any, Literal

from tailrace.events import GenerationRecord
from tailrace.log.state import GenerationState

Step = Literal[
    "created", "attempt_began", "restarted", "taken_over", "interrupted", "stopped", "handed_over", "worker_lost",
    "ended",
]  # fmt: skip


def log_step(
    logger: logging.Logger, step: Step, of: GenerationState | GenerationRecord, message: str, *arguments: Any,
    level: int = logging.INFO, **fields: Any,
) -> None:  # fmt: skip
    """Log a step. `message` is a format with its arguments, of which the generation's id is the first; `fields`: more
    than those of the state or the record."""
    if not logger.isEnabledFor(level):
        return
    record = of if isinstance(of, GenerationRecord) else of.record
    known: dict[str, Any] = {"event": step, "generation": record.id, "owner": record.owner, "model": record.model}
    if isinstance(of, GenerationState):
        known |= {"attempt": of.attempt, "epoch": of.epoch}
        if of.worker:
            known["worker"] = of.worker
    logger.log(level, message, record.id, *arguments, extra=known | fields)
