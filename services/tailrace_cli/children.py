"""Child processes of `tailrace dev`: each a `tailrace` command of its own, restarted when it dies."""

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Mapping

RESTART_S = 0.5
QUICK_S = 2.0  # a child that lives no longer than this has not started
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Runs in a new child (Linux): end when the parent does, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A `tailrace` command, kept running."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """Run it, again and again, until `stop`. Returns when it could not even be started."""
        while not self._stopping:
            began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tailrace_cli", self.name, *self._arguments,
                env=self._environment, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
            status = await self._process.wait()
            if self._stopping or (status > 0 and time.monotonic() - began < QUICK_S):
                return
            print(f"dev: {self.name} ended ({_told(status)}); starting it again", file=sys.stderr)
            await asyncio.sleep(RESTART_S)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, then, when it takes too long, SIGKILL."""
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


def _told(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
