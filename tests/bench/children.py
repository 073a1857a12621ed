"""Processes of a measurement: servers under test, and load that takes orders.

A load process is a module of this package. It reads orders as JSON lines on stdin, `{"do": "begin", …}`, answers each
with a line on stdout, and ends when stdin does: so it cannot outlive whoever started it.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import uvloop

from tailrace_cli.children import die_with_parent

TESTS = Path(__file__).parents[1]
READY_S = 20.0
LINE_BYTES = 64 * 1024 * 1024


def environment(**more: str) -> dict[str, str]:
    """Ours, able to import this package."""
    return os.environ | {"PYTHONPATH": str(TESTS)} | more


async def gone(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """Wait for the end of a process that was asked to; who does not end in time is killed."""
    try:
        async with asyncio.timeout(patience_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class Load:
    """A load process, from our side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], folder: Path | None, variables: Mapping[str, str]) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *command, cwd=folder, env=environment(**variables), limit=LINE_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent,
            )
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    async def do(self, order: str, **how: Any) -> Any:
        """Give an order and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": order, **how}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"a load process ended while it should {order}")
        return json.loads(line)

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await gone(self._process, 5)


@contextlib.asynccontextmanager
async def loading(command: Sequence[str], folder: Path | None = None, **variables: str) -> AsyncIterator[Load]:
    """A load process that ends with the block."""
    process = await Load.start(command, folder, variables)
    try:
        yield process
    finally:
        await process.stop()


def load(module: str, *arguments: str) -> contextlib.AbstractAsyncContextManager[Load]:
    """One that is a module of this package."""
    return loading(python(module, *arguments))


def take_orders(orders: object) -> None:
    """The other side: each order is a coroutine method of `orders`; what it returns is the answer.

    A garbage collection here would look like latency of the server, so there is none.
    """
    gc.disable()

    async def serve() -> None:
        lines = asyncio.StreamReader(limit=LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            order = json.loads(line)
            answer = await getattr(orders, order.pop("do"))(**order)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        os._exit(0)  # thousands of sockets are the kernel's to close

    uvloop.run(serve())


class Process:
    """A process under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def listens(self, port: int) -> None:
        """Wait until it does."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"nobody listens on port {port}")

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        await gone(self._process, 3)


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], output: Path, folder: Path | None = None, **variables: str
) -> AsyncIterator[Process]:
    """A process that ends with the block; what it writes goes to the file."""
    with output.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment(**variables), stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    started = Process(process)
    try:
        yield started
    finally:
        await started.stop()


def python(module: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", module, *arguments]


def uvicorn(application: str, port: int) -> Sequence[str]:
    """The fastest uvicorn there is: uvloop, httptools, no access log."""
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return python("uvicorn", application, "--port", str(port), *options)
