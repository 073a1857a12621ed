"""The whole terminal, for a command that draws on it until the user leaves, and that leaves it as it was."""

import asyncio
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import Any, Self

from tailrace_cli.terminal import has_colours

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the alternate screen without a cursor, and back."""

HOME, END_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
KEYS_TO_LEAVE = b"qQ\x03"
"""`q`, and Ctrl-C where the terminal does not make a signal of it."""

ENDS = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """The alternate screen during the block. `left` is set once the user wants to leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.on_resize: Callable[[], None] = lambda: None
        self.colours = has_colours(sys.stdout)
        self._before: list[Any] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return shutil.get_terminal_size()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._take()
        loop.add_reader(sys.stdin.fileno(), self._read)
        loop.add_signal_handler(signal.SIGWINCH, lambda: self.on_resize())
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        for each in ENDS:
            loop.add_signal_handler(each, self.left.set)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sys.stdin.fileno())
        for each in (signal.SIGWINCH, signal.SIGTSTP, *ENDS):
            loop.remove_signal_handler(each)
        self._give_back()

    def _take(self) -> None:
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        _write(ENTER)

    def _give_back(self) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
        _write(LEAVE)

    def _pause(self) -> None:
        """Ctrl-Z: the shell has the terminal until the command goes on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.on_resize()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines in place of those before, without a flicker: nothing is cleared before it is overwritten."""
        shown = "\n".join(f"{line}{END_OF_LINE}" for line in lines[: self.size[1]])
        _write(f"{HOME}{shown}{REST_OF_SCREEN}")

    def _read(self) -> None:
        typed = os.read(sys.stdin.fileno(), 64)
        if not typed or any(key in KEYS_TO_LEAVE for key in typed):
            self.left.set()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
