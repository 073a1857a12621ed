"""The commands of `tailrace`: one row each, with its arguments."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tailrace.wire import WIRE_FORMATS
from tailrace_cli import policy_options

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
AT = argument("--url", help="ask the frontend at this address (TAILRACE_URL), and not Redis")
YES = argument("--yes", "-y", dest="is_confirmed", action="store_true", help="do not ask")
WORKER_ID = argument("worker_id", metavar="WORKER", help="name of the worker, or its beginning")
CALLER_NAME = argument("name", metavar="NAME", help="name of the caller")
"""Arguments that several commands take."""

OVER_REDIS = (
    "It needs Redis alone; or, with --url or TAILRACE_URL, a frontend and the key of its caller (TAILRACE_API_KEY)."
)
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
            argument(
                "--load", dest="load_rate", type=float, nargs="?", const=2.0, metavar="RATE",
                help="fill the dashboard: made-up callers create generations of the demo model, with faults; RATE of "
                "them a second, 2 by default",
            ),
            argument(
                "--no-faults", dest="has_faults", action="store_false", help="with --load: nothing fails on purpose"
            ),
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
    "doctor": Command(
        "tailrace_cli.doctor", "look at the proxies before a frontend: what they buffer, cut, compress or remove",
        (
            argument("url", metavar="URL", nargs="?", help="address, as clients have it; default: TAILRACE_URL"),
            argument(
                "--silence", dest="silence_s", type=int, metavar="SECONDS",
                help="how long to be silent; default: 65, or five more than four keep-alives; 0: not at all",
            ),
            AS_JSON, DATA_DIR,
        ),
        uses_redis=False,
        details=(
            "It sends requests as a client does, with the key of TAILRACE_API_KEY (scope read), and creates nothing. "
            "The exit status is 1 where something is wrong. A certificate of your own is trusted with SSL_CERT_FILE."
        ),
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
            argument(
                "--all", dest="search", nargs="?", const="", metavar="SEARCH",
                help="of all callers, those that the search finds, as 'status:failed since:1h'; it asks a frontend, "
                "with a key of operators",
            ),
            AS_JSON, CALLER, AT, DATA_DIR,
        ),
        details=OVER_REDIS,
    ),
    "show": Command(
        "tailrace_cli.show", "print a generation: its state, its question, and its answer so far",
        (LATEST_ID, AS_JSON, CALLER, AT, DATA_DIR),
        details=OVER_REDIS,
    ),
    "debug": Command(
        "tailrace_cli.debug", "print the timeline of a generation: attempts, gaps, retries, entries and their sizes",
        (LATEST_ID, AS_JSON, CALLER, DATA_DIR),
        details=TIMES,
    ),
    "cancel": Command(
        "tailrace_cli.cancel", "cancel generations, on any worker",
        (
            argument("generation_ids", metavar="ID", nargs="+", help="id of a generation, gen_…"),
            AS_JSON, AT, DATA_DIR,
        ),
        details=OVER_REDIS,
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
