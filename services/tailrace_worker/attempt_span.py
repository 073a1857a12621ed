"""The span of an attempt: what it was, and how it ended."""

import asyncio

from tailrace import tracing
from tailrace.failures import RestartReason
from tailrace_worker.attempt import Attempt, UpstreamInterrupted


async def run_traced(attempt: Attempt, worker: str, reason: RestartReason) -> None:
    """Run the attempt, in a span of its own if traces are on.

    Raises:
        UpstreamInterrupted: as `Attempt.run`.
    """
    if not tracing.is_on():
        return await attempt.run(reason)
    state = attempt.writer.state
    before = reason if state.attempt > 1 else None
    with tracing.attempt(state.record, state.attempt, epoch=state.epoch, worker=worker, reason=before) as span:
        try:
            await attempt.run(reason)
        except asyncio.CancelledError:
            span.set(outcome="handed_over")
            raise
        except UpstreamInterrupted as interruption:
            span.set(outcome="interrupted")
            span.fail(interruption.reason)
            raise
        done = attempt.writer.output.done
        span.set(outcome=done.status if done else "stopped")
        if done and done.error:
            span.fail(done.error.code)
    return None
