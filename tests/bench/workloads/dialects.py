"""60 upstream streams, 50 tokens a second each, into one worker: a Responses upstream beside a chat upstream.

Both windows are of one run, on fresh processes. Only the worker's setting and the frames of the upstream differ.
"""

from collections.abc import Sequence
from functools import partial

from bench.measures import Finding
from bench.workloads.ingest import steady, tailrace_worker


async def dialects(seconds: float) -> Sequence[Finding]:
    """The worker's CPU a token of each."""
    chat = await steady(tailrace_worker, seconds)
    responses = await steady(partial(tailrace_worker, upstream_dialect="responses"), seconds)
    beside = {"chat: worker µs": chat.us(chat.worker), "Responses: worker µs": responses.us(responses.worker)}
    beside |= {"chat: age ms": chat.age_ms, "Responses: age ms": responses.age_ms}
    beside |= {"chat: chunks/s": chat.rate, "Responses: chunks/s": responses.rate}
    return [Finding("dialects/worker", beside["Responses: worker µs"] / beside["chat: worker µs"], beside)]
