"""Ends that a test writes as any process does."""

import math
from typing import Any

from tailrace.events import Failure, FinalStatus
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.log import Log
from tailrace.queue import Queue


def confirmations_on(log: Log, queue: Queue, **options: Any) -> Confirmations:
    """Of a process that was never reconnected, unless the options name another `connected_at`."""
    return Confirmations(log, queue, **{"connected_at": lambda: -math.inf, **options})


async def terminate(
    log: Log, queue: Queue, generation_id: str, status: FinalStatus, error: Failure | None = None
) -> None:
    """End a generation, and do not confirm it."""
    await confirmations_on(log, queue).terminate(generation_id, status, error)
