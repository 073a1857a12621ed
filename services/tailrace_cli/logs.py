"""The log of a process, on stderr: time, level and process before each line; or JSON (`json_logs`).

    14:20:05 INFO    worker      gen_… completed               on a terminal, in its time zone, with colours
    2026-11-22T14:20:05.123Z INFO worker[4242] gen_… completed  in a file or a pipe, in UTC, with the process id

A record is one line: a line end or an escape sequence in it, which may be an upstream's, is shown as an escape. Only a
traceback has further lines.
"""

import logging
import os
import sys
import time

from tailrace_cli.terminal import BLUE, CYAN, DIM, GREEN, MAGENTA, RED, YELLOW, coloured, has_colours, one_line

COLOURS = {"dev": MAGENTA, "frontend": CYAN, "worker": GREEN, "demo-model": BLUE}
LEVEL_COLOURS = {logging.WARNING: YELLOW, logging.ERROR: RED, logging.CRITICAL: RED}
WIDTH = max(map(len, COLOURS))
HANDLER = "tailrace"
NOISY = ("httpx", "httpx2", "openai", "asyncio", "uvicorn")
"""Loggers of libraries whose lines below a warning are for `-v`."""


class LogFormatter(logging.Formatter):
    """Lines for a file. `process`: the name of the process."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return self.line(record)

    def line(self, record: logging.LogRecord) -> str:
        """The record without its traceback."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        process, message = f"{self._process}[{os.getpid()}]", one_line(record.message)
        return f"{moment}.{int(record.msecs):03d}Z {record.levelname} {process} {message}"


class TerminalFormatter(LogFormatter):
    """Lines for a terminal, in columns."""

    def __init__(self, process: str, *, colours: bool) -> None:
        super().__init__(process)
        self._colours = colours

    def line(self, record: logging.LogRecord) -> str:
        level, process = f"{record.levelname:7}", f"{self._process:{WIDTH}}"
        moment, message = time.strftime("%H:%M:%S", time.localtime(record.created)), one_line(record.message)
        if self._colours:
            moment, process = coloured(moment, DIM), coloured(process, COLOURS.get(self._process, ""))
            level = coloured(level, LEVEL_COLOURS.get(record.levelno, DIM))
        return f"{moment} {level} {process}  {message}"


def configure(process: str, *, level: int) -> None:
    """Log to stderr from `level` on. Libraries log warnings, and at DEBUG everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        TerminalFormatter(process, colours=has_colours(sys.stderr)) if sys.stderr.isatty() else LogFormatter(process)
    )
    logging.basicConfig(level=level, handlers=[handler])
    handler.set_name(HANDLER)
    is_verbose = level <= logging.DEBUG
    # arq's own lines repeat what the worker logs.
    logging.getLogger("arq").setLevel(logging.DEBUG if is_verbose else logging.CRITICAL)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if is_verbose else max(level, logging.WARNING))


def use_json(process: str) -> None:
    """Log JSON from now on."""
    from tailrace_cli.json_logs import JsonLogFormatter

    for handler in logging.getLogger().handlers:
        if handler.get_name() == HANDLER:
            handler.setFormatter(JsonLogFormatter(process))
