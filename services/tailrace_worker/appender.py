"""Appends gather across generations: one pipeline is in flight, everything that arrives meanwhile rides in the next.

No timer: an idle worker sends the first token at once, a busy one sends as often as Redis answers. One call for each
generation in it, so no generation waits for another's failure.
"""

import asyncio
import logging

from tailrace.connection import PASSES
from tailrace.log import Log
from tailrace_worker.writer import Writer

BACKOFF_S = (0.05, 0.1, 0.2, 0.5)

logger = logging.getLogger(__name__)


class Appender:
    """Sends what the writers have, until cancelled."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ready: dict[Writer, None] = {}
        self._wake = asyncio.Event()

    def wake(self, writer: Writer) -> None:
        self._ready[writer] = None
        self._wake.set()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            writers, self._ready = self._ready, {}
            try:
                await self._send(list(writers))
                failures = 0
            except PASSES as error:
                if failures == 0:
                    logger.warning("append: %s: %s", type(error).__name__, error)
                for writer in writers:
                    self.wake(writer)  # the batch is frozen: the same rows go again
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1

    async def _send(self, writers: list[Writer]) -> None:
        calls = [(writer, batch) for writer in writers if (batch := writer.freeze())]
        if not calls:
            return
        answers = await self._log.append([batch for _, batch in calls])
        for (writer, _), answer in zip(calls, answers, strict=True):
            writer.answered(answer)
