"""The command line: its parser, and the help that lists the commands with every setting."""

import argparse
import platform
import shutil
import textwrap
from importlib.metadata import version
from typing import Any

from pydantic import SecretStr

from tailrace.settings import Settings
from tailrace_cli.commands import COMMANDS, Action, Command

MAX_WIDTH = 100
NAMES_WIDTH = 24


class VersionAction(argparse.Action):
    """`--version`: of Tailrace and of Python. (Read only then: it takes 10 ms.)"""

    def __init__(self, option_strings: list[str], dest: str) -> None:  # noqa: ARG002 - it has no value
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"tailrace {version('tailrace')} (Python {platform.python_version()})")
        parser.exit()


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, in at most `MAX_WIDTH` characters. (argparse does not count the indentation of commands when
    it computes the first column: one of them would have a line of its own.)"""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=NAMES_WIDTH, width=help_width())
        self._action_max_length = max(map(len, COMMANDS)) + 4


def help_width() -> int:
    """Characters of a line of the help."""
    return min(shutil.get_terminal_size().columns, MAX_WIDTH) - 2


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    described = "LLM output that survives: OpenAI-compatible streams, stored in a Redis log and read over SSE."
    whole = argparse.ArgumentParser(
        prog="tailrace",
        description=textwrap.fill(described, help_width()),
        epilog=settings_help(help_width()),
        formatter_class=HelpFormatter,
    )
    whole.add_argument("--version", action=VersionAction)
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        own = _add(commands, name, command)
        own.add_argument("-v", "--verbose", action="store_true", help="log at debug level")
        for names, options in command.arguments:
            own.add_argument(*names, **options)
        if command.actions:
            _add_actions(own, command)
    return whole


def _add(parsers: Any, name: str, row: Command | Action) -> argparse.ArgumentParser:
    paragraphs = [f"{row.help[0].upper()}{row.help[1:]}.", *filter(None, [row.details])]
    added: argparse.ArgumentParser = parsers.add_parser(
        name, help=row.help, description="\n".join(textwrap.fill(each, help_width()) for each in paragraphs),
        formatter_class=HelpFormatter, epilog="`tailrace --help` lists every setting of the environment.",
    )  # fmt: skip
    return added


def _add_actions(own: argparse.ArgumentParser, command: Command) -> None:
    """The actions, with the arguments of the command, which may stand on either side of the action's name."""
    own.set_defaults(action=None)
    actions = own.add_subparsers(dest="action", metavar="ACTION", title="actions")
    for name, action in command.actions.items():
        parser = _add(actions, name, action)
        for names, options in action.arguments:
            parser.add_argument(*names, **options)
        for names, options in command.arguments:
            parser.add_argument(*names, **{**options, "default": argparse.SUPPRESS})


def settings_help(width: int) -> str:
    """Every setting with its default and its description, in lines of at most `width` characters."""
    lines = [
        "settings, from the environment:",
        "  OPENAI_BASE_URL, OPENAI_API_KEY",
        *_wrapped("The upstream, as the OpenAI SDK reads them.", width),
    ]
    for name, field in Settings.model_fields.items():
        value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        lines += [f"  TAILRACE_{name.upper()}={value}", *_wrapped(field.description or "", width)]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=6 * " ", subsequent_indent=6 * " ", break_on_hyphens=False)
