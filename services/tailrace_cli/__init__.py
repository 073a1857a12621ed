"""The `tailrace` commands: one row each. A command's module is imported only when the command runs."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from importlib import import_module

from tailrace import settings
from tailrace.errors import InvalidRequest, Misconfigured, TailraceError
from tailrace.settings import Settings
from tailrace_cli.data_dir import running_server_url

logger = logging.getLogger(__name__)

COMMANDS: dict[str, tuple[str, str]] = {
    "dev": ("tailrace_cli.dev", "run everything in one command: Valkey, worker, frontend, demo model"),
    "frontend": ("tailrace_frontend.server", "run a frontend: HTTP API, event streams, chat page"),
    "worker": ("tailrace_worker.worker", "run a worker, which runs generations against the upstream"),
    "demo-model": ("tailrace_cli.demo_model", "run a scripted, OpenAI-compatible server that needs no model"),
    "tail": ("tailrace_cli.tail", "print a generation's log as it grows"),
}


def main(argv: list[str] | None = None) -> int:
    """The `tailrace` command. Returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format=f"{arguments.command}: %(message)s"
    )
    # arq's own lines repeat what the worker logs.
    logging.getLogger("arq").setLevel(logging.DEBUG if arguments.verbose else logging.CRITICAL)
    for noisy in ("httpx", "httpx2", "openai", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if arguments.verbose else logging.WARNING)
    module, _ = COMMANDS[arguments.command]
    try:
        run: Callable[..., int | None] = import_module(module).main
        options = {name: value for name, value in vars(arguments).items() if name in ("generation_id", "wire", "after")}
        return run(_settings(arguments), **options) or 0
    except TailraceError as error:
        print(f"tailrace {arguments.command}: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, Misconfigured | InvalidRequest) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailrace",
        description="LLM output that survives: OpenAI-compatible streams, stored in a Redis log and read over SSE.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("-v", "--verbose", action="store_true", help="log at debug level")
        if name in ("dev", "frontend", "demo-model"):
            command.add_argument("--host", help="address to listen on")
            command.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
        if name in ("dev", "tail"):
            command.add_argument("--data-dir", help="directory where `tailrace dev` stores its data")
        if name == "tail":
            command.add_argument("generation_id", metavar="ID", help="id of the generation, gen_…")
            command.add_argument(
                "--wire", default="native", help="wire format: native, ndjson, text, openai-chat, openai-responses"
            )
            command.add_argument("--after", default="", metavar="CURSOR", help="start after this event id")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    """Settings from the environment and the command line; by default with the Redis of a running `tailrace dev`."""
    given = {name: getattr(arguments, name, None) for name in ("host", "port", "data_dir")}
    overrides: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    loaded = settings.load(**overrides)
    if arguments.command == "dev" or "redis_url" in loaded.model_fields_set:
        return loaded
    url = running_server_url(loaded.data_dir)
    if url is None:
        return loaded
    logger.info("using the Redis server of `tailrace dev` in %s", loaded.data_dir)
    return settings.load(**overrides, redis_url=url, queue_url="")


def _settings_help() -> str:
    lines = ["settings from the environment (OPENAI_BASE_URL and OPENAI_API_KEY select the upstream):"]
    width = max(map(len, Settings.model_fields)) + 2
    lines += [f"  TAILRACE_{name.upper():{width}}{field.description}" for name, field in Settings.model_fields.items()]
    return "\n".join(lines)
