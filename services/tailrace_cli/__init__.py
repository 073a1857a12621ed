"""The `tailrace` commands (`commands`): what is common to them, and their errors on the terminal."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from tailrace import settings
from tailrace.errors import InvalidRequest, Misconfigured, TailraceError
from tailrace.process import startup
from tailrace.settings import DEV_PROCESSES, Settings
from tailrace_cli import logs
from tailrace_cli.arguments import parser
from tailrace_cli.commands import COMMANDS, SETTINGS, Command
from tailrace_cli.data_dir import running_server_url

INTERRUPTED = 128 + 2
"""The exit status after Ctrl-C, as shells have it."""

BROKEN_PIPE = 128 + 13
"""The exit status of a command whose reader has left, as in `tailrace tail | head`."""

RELOADED = ("frontend", "worker")
"""The commands that read the file of upstreams again on SIGHUP. The signal ends any other one, as a closed terminal
should."""

USER_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
"""Errors of sockets that an argument or a setting causes."""

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """The `tailrace` command. Returns the exit status."""
    parsing = parser()
    arguments = parsing.parse_args(argv)
    if arguments.command is None:
        parsing.epilog = "tailrace COMMAND --help   the arguments of a command\ntailrace --help           every setting"
        parsing.print_help()
        return 0
    command = COMMANDS[arguments.command]
    logs.configure(arguments.command, level=_level(command, is_verbose=arguments.verbose))
    startup.silence_children()
    try:
        return _run(command, arguments)
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except (TailraceError, OSError) as error:
        if isinstance(error, OSError) and not _is_of_user(error):
            raise
        problem = error.message if isinstance(error, TailraceError) else _problem(error)
        print(f"tailrace {arguments.command}: {problem}", file=sys.stderr)
        logger.debug("the error", exc_info=True)
        return 2 if isinstance(error, Misconfigured | InvalidRequest | OSError) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


def _level(command: Command, *, is_verbose: bool) -> int:
    if is_verbose:
        return logging.DEBUG
    return logging.INFO if command.is_service else logging.CRITICAL


def _run(command: Command, arguments: argparse.Namespace) -> int:
    loaded = _settings(command, arguments)
    if arguments.command in RELOADED and loaded.config:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the file is read; by default it would end the process
    if DEV_PROCESSES not in os.environ:  # `tailrace dev` has logged them for its children
        _warn_of_unknown_variables(command, arguments.command)
    run: Callable[..., int | None] = import_module(command.module).main
    ours = (*SETTINGS, "command", "verbose")
    options = {name: value for name, value in vars(arguments).items() if name not in ours}
    status = run(loaded, **options) or 0
    sys.stdout.flush()
    return status


def _warn_of_unknown_variables(command: Command, name: str) -> None:
    """In the log of a service; on stderr for a command that prints, whose log has errors alone."""
    for variable, likely in settings.unknown_variables():
        warning = f"{variable} is no setting of Tailrace{f'; did you mean {likely}?' if likely else ''}"
        if command.is_service:
            logger.warning("%s", warning)
        else:
            print(f"tailrace {name}: {warning}", file=sys.stderr)


def _settings(command: Command, arguments: argparse.Namespace) -> Settings:
    """Settings from the environment and the command line; by default with the Redis of a running `tailrace dev`."""
    given = {name: getattr(arguments, name, None) for name in SETTINGS}
    overrides: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    loaded = settings.load(**overrides)
    if loaded.log_format == "json" and command.is_service:
        logs.use_json(arguments.command)
    if not command.uses_redis or "redis_url" in loaded.model_fields_set:
        return loaded
    url = running_server_url(loaded.data_dir)
    if url is None:
        return loaded
    logger.info("using the Redis server of `tailrace dev` in %s", loaded.data_dir)
    return settings.load(**overrides, redis_url=url, queue_url="")


def _is_of_user(error: OSError) -> bool:
    return error.filename is not None or error.errno in USER_ERRORS


def _problem(error: OSError) -> str:
    reason = (error.strerror or str(error)).removeprefix("error while attempting to bind on address ")
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _discard_output() -> None:
    """Discard the rest in the buffer of stdout: it has no reader, and flushing it at exit would raise once more."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process exits
