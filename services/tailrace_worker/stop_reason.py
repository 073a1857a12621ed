"""Why an attempt must not write any more, for the log of an operator."""

import asyncio
from collections.abc import Mapping

from tailrace.errors import Gone, NotFound, TailraceError
from tailrace.failures import FailureCode
from tailrace.ids import short_name
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState

READ_S = 1.0
"""For which the state of a generation that was fenced is awaited."""

STOPPED: Mapping[Outcome | FailureCode, str] = {
    Outcome.FENCED: "another process ends it, or has taken it over",
    Outcome.DONE: "it has ended",
    Outcome.GONE: "it was deleted, or has expired",
}


async def stop_reason(log: Log, state: GenerationState, outcome: Outcome | FailureCode) -> str:
    """What the outcome means. `state`: under the lease of the attempt.

    A fenced attempt does not know which process has fenced it. The generation's state does, where it can be read.
    """
    if outcome is Outcome.FENCED:
        try:
            async with asyncio.timeout(READ_S):
                return _fenced_by(await log.state(state.record.id), state)
        except (NotFound, Gone):
            outcome = Outcome.GONE
        except (TailraceError, TimeoutError):
            pass
    return STOPPED.get(outcome, outcome)


async def is_run_elsewhere(log: Log, state: GenerationState, outcome: Outcome | FailureCode) -> bool:
    """Whether another worker runs the generation now, rather than a process ending it. True where it is not known."""
    if outcome is not Outcome.FENCED:
        return False
    try:
        async with asyncio.timeout(READ_S):
            now = await log.state(state.record.id)
    except (NotFound, Gone):
        return False
    except (TailraceError, TimeoutError):
        return True
    return not (now.is_final or now.terminating)


def _fenced_by(now: GenerationState, state: GenerationState) -> str:
    if end := now.terminating or (now.status if now.is_final else None):
        error = now.terminating_error
        return f"another process ends it as {end}{f' ({error.code})' if error else ''}"
    if now.worker and now.worker != state.worker:
        return f"worker {short_name(now.worker)} has taken it over"
    return STOPPED[Outcome.FENCED]
