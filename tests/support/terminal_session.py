"""A `tailrace` command on a terminal of its own."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Self

TIMEOUT_S = 30.0
CONTROL_C, CONTROL_Z = b"\x03", b"\x1a"


class TerminalSession:
    """A command whose standard streams are a terminal. `shown`: what has appeared there, without colours."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = {**environment, "TERM": "xterm"}
        self._written = bytearray()
        self._ended = asyncio.Event()

    @property
    def raw(self) -> str:
        """What has appeared, with its colours. An incomplete character at the end is left out."""
        return self._written.decode(errors="ignore").replace("\r\n", "\n")

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[\d*m", "", self.raw)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does at first."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, "-m", "tailrace_cli", *self._arguments], env=self._environment,
            stdin=slave, stdout=slave, stderr=slave, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self.wait()
        os.close(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # as Linux reports that no process has the terminal any more
            data = b""
        self._written += data
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
            self._ended.set()

    def type(self, keys: bytes) -> None:
        """Type on its keyboard."""
        os.write(self._master, keys)

    async def until(self, text: str) -> None:
        """Wait until this text is shown."""
        async with asyncio.timeout(TIMEOUT_S):
            while text not in self.shown:
                assert not self._ended.is_set(), self.shown
                await asyncio.sleep(0.01)

    async def until_raw(self, text: str, times: int = 1) -> None:
        """Wait until this text has been written so many times, control sequences included."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.raw.count(text) < times:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)

    async def until_stopped(self) -> None:
        """Wait until the process is stopped, as by Ctrl-Z (Linux)."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        async with asyncio.timeout(TIMEOUT_S):
            while stat.read_text().rpartition(") ")[2][0] != "T":  # noqa: ASYNC110, ASYNC240 - the kernel has it
                await asyncio.sleep(0.01)

    def send(self, sign: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(sign)

    async def wait(self) -> int:
        """The exit status."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._ended.wait()
            return await asyncio.to_thread(self._process.wait)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C on it becomes SIGINT."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
