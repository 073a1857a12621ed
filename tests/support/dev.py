"""A running `tailrace dev`, as a newcomer starts it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import free_port

START_S = 60.0
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    "OLLAMA_HOST": "127.0.0.1:1",  # none of this machine's is used
    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},  # coverage.py's
}


class Dev:
    """`banner`: what it has printed at its start, by the name in front of each line; `errors`: its log."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.banner: dict[str, str] = {}
        self._errors = errors

    @property
    def url(self) -> str:
        return self.banner["Tailrace"].split()[0]

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    async def read_banner(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(START_S):
            async for line in self.process.stdout:
                name, _, value = line.decode().strip().partition(" ")
                self.banner[name] = value.strip()
                if "Ctrl-C" in value:
                    return
        raise AssertionError(f"`tailrace dev` has ended:\n{self.errors}")

    async def stop(self) -> int:
        """End it as `docker stop` does; its exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


@contextlib.asynccontextmanager
async def dev(
    root: Path, *arguments: str, port: bool = True, python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Dev]:  # fmt: skip
    """A `tailrace dev` that keeps its answers in `root/answers`; it ends with the block, with status 0.

    `port`: whether it is given a free port. `python`: the interpreter of the environment it runs from.
    """
    command = ["dev", *(["--port", str(free_port())] if port else []), "--data-dir", str(root / "answers"), *arguments]
    errors = root / "errors"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            python, "-m", "tailrace_cli", *command, cwd=root, env={**ENVIRONMENT, **(environment or {})},
            stdout=asyncio.subprocess.PIPE, stderr=stderr, preexec_fn=die_with_parent,
        )  # fmt: skip
    running = Dev(process, errors)
    try:
        await running.read_banner()
        yield running
    finally:
        status = await running.stop()
    assert status == 0, running.errors
