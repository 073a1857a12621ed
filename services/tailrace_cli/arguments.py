"""The commands and their arguments: one row each, and the help that lists them with every setting."""

import argparse
import platform
import shutil
import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from pydantic import SecretStr

from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS
from tailrace_cli import policy_options

MAX_WIDTH = 100
NAMES_WIDTH = 24
SETTINGS = ("host", "port", "data_dir", "url")
"""Arguments that are settings, and have their names."""


class Argument(NamedTuple):
    """Names of an argument, and what `argparse` takes beside them."""

    names: tuple[str, ...]
    options: dict[str, Any]


def argument(*names: str, **options: Any) -> Argument:
    """A row of a command."""
    return Argument(names, options)


HOST = argument("--host", help="address to listen on")
PORT = argument("--port", type=int, help="port to listen on; 0 picks a free one")
DATA_DIR = argument("--data-dir", metavar="DIR", help="directory where `tailrace dev` keeps its data")
CALLER = argument("--caller", default="", metavar="NAME", help="caller (TAILRACE_API_KEYS); default: the only one")
LATEST_ID = argument("generation_id", metavar="ID", nargs="?", default="", help="the generation; default: the latest")
AS_JSON = argument("--json", dest="as_json", action="store_true", help="print JSON")
URL = argument("--url", help="address of a frontend (TAILRACE_URL); default: a running `tailrace dev`, else the port's")
YES = argument("--yes", "-y", dest="is_confirmed", action="store_true", help="do not ask")
WORKER_ID = argument("worker_id", metavar="WORKER", help="name of the worker, or its beginning")
CALLER_NAME = argument("name", metavar="NAME", help="name of the caller")
"""Arguments that several commands take."""

ASKS = (
    "It asks a frontend, with the key of TAILRACE_API_KEY, which needs the scope admin:view; acts need admin:operate."
)

OUTPUT = "The text of the answer goes to stdout. Calls of tools, restarts and failures go to stderr."

TIMES = (
    "Times are seconds since the creation. A log has the times of its attempts and of its end. The times between the "
    "pieces of content are measured by the worker, which writes them with the end, and before, without a histogram, "
    "whenever it renews its lease."
)


class Action(NamedTuple):
    """What a command does beside printing, `tailrace workers drain`; its arguments come before those of the command."""

    help: str
    arguments: tuple[Argument, ...]
    details: str = ""


class Command(NamedTuple):
    """A command. Its `module` has a `main(settings, **arguments)`, and is imported only when the command runs.

    `is_service`: it runs until it is stopped, and logs; other commands print, and log errors only. `uses_redis`: it
    takes the server of a running `tailrace dev` where no address is configured. `details`: more for its own help.
    `actions`: by name; its `main` receives the one that was chosen, or None, as `action`.
    """

    module: str
    help: str
    arguments: tuple[Argument, ...] = ()
    is_service: bool = False
    uses_redis: bool = True
    details: str = ""
    actions: Mapping[str, Action] = {}


COMMANDS: dict[str, Command] = {
    "dev": Command(
        "tailrace_cli.dev", "run everything in one command: Valkey, worker, frontend, demo model",
        (
            HOST, PORT, DATA_DIR,
            argument("--demo", action="store_true", help="use the demo model, also where another upstream is found"),
            argument("-o", "--open", dest="open_browser", action="store_true", help="open the page in a browser"),
        ),
        is_service=True, uses_redis=False,
    ),
    "frontend": Command(
        "tailrace_frontend.server", "run a frontend: HTTP API, event streams, chat page", (HOST, PORT), is_service=True
    ),
    "worker": Command(
        "tailrace_worker.worker", "run a worker, which runs generations against the upstream", is_service=True
    ),
    "demo-model": Command(
        "tailrace_cli.demo_model", "run a scripted, OpenAI-compatible server that needs no model",
        (
            HOST, PORT,
            argument(
                "--list", dest="list_scenarios", action="store_true",
                help='print the scenarios that it plays (model "demo:stall"), and exit',
            ),
            argument("--json", dest="as_json", action="store_true", help="the same as JSON"),
        ),
        is_service=True, uses_redis=False,
    ),
    "health": Command(
        "tailrace_cli.health", "ask a process of this machine whether it lives, or can serve",
        (
            argument("role", nargs="?", choices=("frontend", "worker"), default="frontend", help="default: frontend"),
            argument("--ready", dest="is_readiness", action="store_true", help="whether it can serve: Redis and all"),
            HOST, PORT,
        ),
        uses_redis=False,
        details="The exit status is 0 where it does. The address is that of the settings.",
    ),
    "ask": Command(
        "tailrace_cli.ask", "ask a model and print the answer; Ctrl-C leaves, and the answer continues",
        (
            argument("question", nargs="*", help="the question; without one it is read from standard input"),
            argument("-m", "--model", default="", help="model; default: TAILRACE_MODEL, or the upstream's first"),
            argument("-s", "--system", default="", metavar="TEXT", help="instructions for the model"),
            CALLER, DATA_DIR,
        ),
        details=OUTPUT,
    ),
    "tail": Command(
        "tailrace_cli.tail", "print a generation as it grows, and its end",
        (
            LATEST_ID,
            argument(
                "--wire", default="", metavar="FORMAT",
                help=f"wire format: {', '.join(WIRE_FORMATS)}; default: text on a terminal, native elsewhere",
            ),
            argument("--after", default="", metavar="CURSOR", help="start after this event id"),
            CALLER, DATA_DIR,
        ),
        details=OUTPUT,
    ),
    "ls": Command(
        "tailrace_cli.ls", "list generations, newest first",
        (
            argument("-n", "--limit", type=int, default=20, help="how many; default: 20"),
            AS_JSON, CALLER, DATA_DIR,
        ),
    ),
    "show": Command(
        "tailrace_cli.show", "print a generation: its state, its question, and its answer so far",
        (LATEST_ID, AS_JSON, CALLER, DATA_DIR),
    ),
    "debug": Command(
        "tailrace_cli.debug", "print the timeline of a generation: attempts, gaps, retries, entries and their sizes",
        (LATEST_ID, AS_JSON, CALLER, DATA_DIR),
        details=TIMES,
    ),
    "cancel": Command(
        "tailrace_cli.cancel", "cancel generations, on any worker",
        (argument("generation_ids", metavar="ID", nargs="+", help="id of a generation, gen_…"), DATA_DIR),
    ),
    "top": Command(
        "tailrace_cli.top", "watch load, workers, callers and what runs, as it changes",
        (AS_JSON, URL, DATA_DIR),
        uses_redis=False,
        details=f"On a terminal until `q` or Ctrl-C; into a pipe once. {ASKS}",
    ),
    "workers": Command(
        "tailrace_cli.workers", "list the workers that are alive; drain or stop one",
        (AS_JSON, URL, DATA_DIR),
        uses_redis=False, details=ASKS,
        actions={
            "drain": Action("have a worker take no further generation; what it runs ends there", (WORKER_ID, YES)),
            "stop": Action("have a worker end as on SIGTERM; its supervisor may start another", (WORKER_ID, YES)),
        },
    ),
    "callers": Command(
        "tailrace_cli.callers", "list what callers use and may use; change the policy of one; block one",
        (AS_JSON, URL, DATA_DIR),
        uses_redis=False, details=ASKS,
        actions={
            "show": Action("print one caller: its use, and its limits", (CALLER_NAME,)),
            "set": Action(
                "change the policy of a caller, in every process within a second",
                (CALLER_NAME, *(argument(name, **options) for name, options in policy_options.options())),
                f"The value `{policy_options.DEFAULT}` has the settings hold again.",
            ),
            "reset": Action("remove the policy of a caller: the settings hold again", (CALLER_NAME,)),
            "block": Action(
                "refuse all requests of a caller, and end its streams",
                (CALLER_NAME, argument("--reason", default="", metavar="TEXT", help="for other operators"), YES),
            ),
            "unblock": Action("serve a caller again", (CALLER_NAME,)),
        },
    ),
    "audit": Command(
        "tailrace_cli.audit", "print who did what as an operator",
        (
            argument("-n", "--limit", type=int, default=20, help="how many of the newest; default: 20"),
            argument("-f", "--follow", action="store_true", help="go on with what is added, until Ctrl-C"),
            AS_JSON, URL, DATA_DIR,
        ),
        uses_redis=False, details=ASKS,
    ),
}  # fmt: skip


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
