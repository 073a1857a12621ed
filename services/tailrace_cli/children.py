"""Child processes of `tailrace dev`: each runs one `tailrace` command and is restarted when it exits."""

import asyncio
import ctypes
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tailrace.ids import new_token
from tailrace.settings import WORKER_NAME

QUICK_S = 2.0
"""A child that fails within this time could not start and is not restarted. One that ends or is killed is, but not more
often than every `RESTART_S`."""

RESTART_S = 0.5
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Make this process receive SIGTERM when its parent dies (Linux only). Called in a new child, before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def verbosity() -> list[str]:
    """The flag of a child, where this process logs at debug level."""
    return ["-v"] if logging.getLogger().isEnabledFor(logging.DEBUG) else []


OnExit = Callable[[str, int], Awaitable[None]]
"""Receives the WORKER_NAME and the pid of a process that has exited, before the next one starts."""


class Child:
    """A `tailrace` command that is restarted until `stop`. It inherits the `sockets`; `on_start` receives its name and
    pid at each start."""

    def __init__(
        self, name: str, *, environment: Mapping[str, str], sockets: Sequence[socket.socket] = (),
        on_start: Callable[[str, int], None] = lambda _name, _pid: None,
        on_exit: OnExit | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._environment = dict(environment)
        self._descriptors = [each.fileno() for each in sockets]
        self._on_start = on_start
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep_running(self) -> None:
        """Run the command and restart it whenever it exits. Returns after `stop`, or if it could not start."""
        began_again = False
        while not self._stopping.is_set():
            began, worker = time.monotonic(), new_token()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tailrace_cli", self.name, *verbosity(),
                env=self._environment | {WORKER_NAME: worker}, start_new_session=True, preexec_fn=die_with_parent,
                pass_fds=self._descriptors,
            )  # fmt: skip
            self._on_start(self.name, self._process.pid)
            if began_again:
                logger.info("%s runs again, pid %d", self.name, self._process.pid)
            began_again = True
            if self._stopping.is_set():  # `stop` came while the process was being created, and found none
                self._process.terminate()
            status = await self._process.wait()
            was_quick = time.monotonic() - began < QUICK_S
            if self._stopping.is_set():
                return
            if status > 0 and was_quick:
                logger.error("%s could not start (%s)", self.name, _exit_reason(status))
                return
            logger.warning("%s exited (%s); restarting it", self.name, _exit_reason(status))
            if self._on_exit:
                await self._on_exit(worker, self._process.pid)
            await asyncio.sleep(RESTART_S if was_quick else 0)

    def kill(self) -> bool:
        """Send SIGKILL, as in a crash; whether there is a process. It is restarted."""
        if self._process is None or self._process.returncode is not None or self._stopping.is_set():
            return False
        self._process.kill()
        return True

    async def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, and SIGKILL if the process is still running after `timeout_s`."""
        self._stopping.set()
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
