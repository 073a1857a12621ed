"""Child processes of `tailrace dev`: each runs one `tailrace` command and is restarted when it exits."""

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Mapping

RESTART_S = 0.5
QUICK_S = 2.0  # a child that fails within this time could not start and is not restarted
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Make this process receive SIGTERM when its parent dies (Linux only). Called in a new child, before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A `tailrace` command that is restarted until `stop`."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """Run the command and restart it whenever it exits. Returns after `stop`, or if it could not start."""
        while not self._stopping:
            began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tailrace_cli", self.name, *self._arguments,
                env=self._environment, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
            status = await self._process.wait()
            if self._stopping or (status > 0 and time.monotonic() - began < QUICK_S):
                return
            print(f"dev: {self.name} exited ({_exit_reason(status)}); restarting it", file=sys.stderr)
            await asyncio.sleep(RESTART_S)

    async def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, and SIGKILL if the process is still running after `timeout_s`."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _exit_reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
