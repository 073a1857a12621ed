"""The commands: one row each, imported only when they are asked for."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from importlib import import_module

from tailrace import settings
from tailrace.errors import InvalidRequest, Misconfigured, TailraceError
from tailrace.settings import Settings
from tailrace_cli.data_dir import address_in

logger = logging.getLogger(__name__)

COMMANDS: dict[str, tuple[str, str]] = {
    "dev": ("tailrace_cli.dev", "everything in one command: Valkey, worker, frontend, demo model"),
    "frontend": ("tailrace_frontend.server", "a web node: the API, the event streams, the page"),
    "worker": ("tailrace_worker.worker", "a worker: runs generations against the upstream"),
    "demo-model": ("tailrace_cli.demo_model", "an OpenAI-compatible model server that needs no model"),
    "tail": ("tailrace_cli.tail", "print a generation's log as it grows"),
}


def main(argv: list[str] | None = None) -> int:
    """The `tailrace` command. Returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format=f"{arguments.command}: %(message)s"
    )
    logging.getLogger("arq").setLevel(logging.DEBUG if arguments.verbose else logging.CRITICAL)  # we tell what matters
    for noisy in ("httpx", "httpx2", "openai", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if arguments.verbose else logging.WARNING)
    module, _ = COMMANDS[arguments.command]
    try:
        run: Callable[..., int | None] = import_module(module).main
        given = {name: value for name, value in vars(arguments).items() if name in ("generation_id", "wire", "after")}
        return run(_settings(arguments), **given) or 0
    except TailraceError as error:
        print(f"tailrace {arguments.command}: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, Misconfigured | InvalidRequest) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailrace",
        description="LLM output that survives: OpenAI-compatible streams, kept in a Redis log, read over SSE.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("-v", "--verbose", action="store_true", help="log every step")
        if name in ("dev", "frontend", "demo-model"):
            command.add_argument("--host", help="address to listen on")
            command.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
        if name in ("dev", "tail"):
            command.add_argument("--data-dir", help="where `tailrace dev` keeps answers between runs")
        if name == "tail":
            command.add_argument("generation_id", metavar="ID", help="its id, gen_…")
            command.add_argument("--wire", default="native", help="native, ndjson, text, openai-chat, openai-responses")
            command.add_argument("--after", default="", metavar="CURSOR", help="go on after this event id")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    """From the environment and the command line. Where no Redis is named, that of a running `tailrace dev` is used."""
    asked = {name: getattr(arguments, name, None) for name in ("host", "port", "data_dir")}
    overrides: dict[str, object] = {name: value for name, value in asked.items() if value is not None}
    loaded = settings.load(**overrides)
    if arguments.command == "dev" or "redis_url" in loaded.model_fields_set:
        return loaded
    url = address_in(loaded.data_dir)
    if url is None:
        return loaded
    logger.info("using the server of `tailrace dev` in %s", loaded.data_dir)
    return settings.load(**overrides, redis_url=url, queue_url="")


def _settings_help() -> str:
    lines = ["settings, from the environment (OPENAI_BASE_URL and OPENAI_API_KEY name the upstream):"]
    lines += [f"  TAILRACE_{name.upper():24}{field.description}" for name, field in Settings.model_fields.items()]
    return "\n".join(lines)
