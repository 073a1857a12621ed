"""Vercel's resumable-stream on Node: a producer, and a web process that resumes the producer's streams for clients.

Its log is the producer's memory; Redis carries the chunks by pub/sub, a channel a listener. `RESUMABLE_STREAM` is the
folder of its packages, outside the tree; `scripts/bench-peers` installs them there.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.children import loading, running
from bench.delivery import Side
from bench.harness import Served
from support.stack import Stack
from tailrace_cli.embedded import free_port

PROGRAMS = Path(__file__).parent / "node"
FOLDER = Path(os.environ.get("RESUMABLE_STREAM", "/nonexistent"))


def missing() -> str | None:
    """The reason why resumable-stream cannot be measured here."""
    installed = shutil.which("node") and (FOLDER / "node_modules" / "resumable-stream").exists()
    return None if installed else "resumable-stream is skipped: it, or Node, is not installed."


@asynccontextmanager
async def resuming(stack: Stack) -> AsyncIterator[Served]:
    port, command = free_port(), ["node", str(PROGRAMS / "web.mjs")]
    async with running(command, stack.root / "node.log", FOLDER, REDIS_URL=stack.redis.url, PORT=str(port)) as process:
        await process.wait_for_port(port)
        yield Served(process.pid, port)


RESUMABLE_STREAM = Side(
    resuming,
    lambda stack, _: loading(["node", str(PROGRAMS / "producer.mjs")], FOLDER, REDIS_URL=stack.redis.url),
    "/streams/{}",
)
