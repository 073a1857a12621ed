"""Processes of a measurement: servers under test, and load processes that take commands.

A load process is a module of this package. It reads commands as JSON lines on stdin, `{"do": "begin", …}`, answers each
with a line on stdout, and ends when stdin does, so it cannot outlive its parent.
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
    """The environment of this process, in which children can import this package."""
    return os.environ | {"PYTHONPATH": str(TESTS)} | more


async def wait_or_kill(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    """Wait for a process that was asked to end; kill it after the timeout."""
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class Load:
    """A load process, seen from its parent."""

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

    async def do(self, command: str, **arguments: Any) -> Any:
        """Send a command and wait for its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"a load process ended during {command}")
        return json.loads(line)

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await wait_or_kill(self._process, 5)


@contextlib.asynccontextmanager
async def loading(command: Sequence[str], folder: Path | None = None, **variables: str) -> AsyncIterator[Load]:
    """A load process that ends with the block."""
    process = await Load.start(command, folder, variables)
    try:
        yield process
    finally:
        await process.stop()


def load(module: str, *arguments: str) -> contextlib.AbstractAsyncContextManager[Load]:
    """A load process that is a module of this package."""
    return loading(python(module, *arguments))


def serve_commands(handler: object) -> None:
    """Run a load process: each command is a coroutine method of `handler`, whose result is sent back.

    The garbage collector is off: a collection here would look like latency of the server.
    """
    gc.disable()

    async def serve() -> None:
        lines = asyncio.StreamReader(limit=LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            command = json.loads(line)
            result = await getattr(handler, command.pop("do"))(**command)
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
        os._exit(0)  # the kernel closes thousands of sockets faster

    uvloop.run(serve())


class Process:
    """A process under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def write_line(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def wait_for_port(self, port: int) -> None:
        """Wait until the process listens on this port."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"no process listens on port {port}")

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        await wait_or_kill(self._process, 3)


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], output: Path, folder: Path | None = None, **variables: str
) -> AsyncIterator[Process]:
    """A process that ends with the block; its output goes to the file."""
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
