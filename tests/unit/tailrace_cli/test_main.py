"""The command line: its help, its errors and its exit status."""

import argparse
import asyncio
import errno
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tailrace_cli
from tailrace.errors import Misconfigured
from tailrace.process import startup
from tailrace.settings import Settings
from tailrace_cli import arguments, children, main, policy_options
from tailrace_cli.commands import COMMANDS, SETTINGS, Action, Command
from tailrace_demo import running

COMMAND = (sys.executable, "-m", "tailrace_cli")


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))


def run(monkeypatch: pytest.MonkeyPatch, raised: BaseException, command: str = "ls") -> int:
    """The exit status of a command whose module raises this."""

    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(f"{COMMANDS[command].module}.main", fail)
    return main([command])


# help


@pytest.mark.parametrize("columns", [80, 300])
@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        *([name, "--help"] for name in COMMANDS),
        *([name, action, "--help"] for name, command in COMMANDS.items() for action in command.actions),
    ],
)
def test_help_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main([])
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line for line in printed.out.splitlines() if len(line) > min(columns, 100)] == []


def test_command_line_without_a_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = re.findall(r"^    (\S+)  +\S", capsys.readouterr().out, flags=re.MULTILINE)
    assert listed == list(COMMANDS)


def test_help_has_every_setting_with_its_default() -> None:
    text = arguments.settings_help(100)
    for name, field in Settings.model_fields.items():
        (default,) = re.findall(rf"^  TAILRACE_{name.upper()}=(.*)$", text, flags=re.MULTILINE)
        assert default == ("" if name in ("api_keys", "api_key", "ticket_secret") else str(field.default))
    assert "OPENAI_BASE_URL" in text


def test_every_argument_and_command_has_a_help() -> None:
    actions: list[Action | Command] = [action for command in COMMANDS.values() for action in command.actions.values()]
    described = [*COMMANDS.values(), *actions]
    rows = [row for each in described for row in each.arguments]
    assert [row.names for row in rows if not row.options.get("help")] == []
    assert [each for each in described if not each.help] == []


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert re.fullmatch(r"tailrace \d+\.\d+\.\d+ \(Python \d+\.\d+\.\d+\)\n", capsys.readouterr().out)


# errors


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (Misconfigured("the keys are wrong"), "the keys are wrong"),
        (FileExistsError(errno.EEXIST, "File exists", "/etc/hostname"), "/etc/hostname: File exists"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (
            OSError(errno.EADDRINUSE, "error while attempting to bind on address ('127.0.0.1', 1): address in use"),
            "('127.0.0.1', 1): address in use",
        ),
    ],
)
def test_mistake_of_the_user_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, printed: str
) -> None:
    assert run(monkeypatch, error) == 2
    assert capsys.readouterr().err == f"tailrace ls: {printed}\n"


def test_defect_has_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Broken"):
        run(monkeypatch, OSError(errno.EIO, "Broken disk"))


@pytest.mark.parametrize("directory", ["/etc/hostname", "/proc/nope"])
def test_dev_refuses_a_data_directory_that_cannot_be_one(capsys: pytest.CaptureFixture[str], directory: str) -> None:
    assert main(["dev", "--data-dir", directory]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tailrace dev: {directory}: ")


async def test_demo_model_refuses_a_port_that_is_taken() -> None:
    async with running() as url:
        port = url.rpartition(":")[2].removesuffix("/v1")
        command = [*COMMAND, "demo-model", "--port", port]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tailrace demo-model: port {port} of 127.0.0.1 is taken; choose another with --port\n"


@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", errno.EADDRINUSE), ("192.0.2.1", errno.EADDRNOTAVAIL)])
def test_frontend_refuses_an_address_that_it_cannot_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, number: int
) -> None:
    monkeypatch.setenv("TAILRACE_API_KEYS", "anna:anna-key-1")
    monkeypatch.setenv("TAILRACE_TICKET_SECRET", "0123456789abcdef")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["frontend", "--host", host, "--port", str(port)]) == 2
    message = f"cannot listen on {host}:{port}: {os.strerror(number).lower()}; choose another with --host and --port"
    assert capsys.readouterr().err == f"tailrace frontend: {message}\n"


@pytest.mark.parametrize("name", ["TAILRACE_REDIS_URL", "TAILRACE_QUEUE_URL"])
@pytest.mark.parametrize("address", ["hunter2", "http://hunter2", "redis://anna:hunter2@cache:port/0"])
def test_address_that_is_none_is_reported_by_its_variable_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, address: str
) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv(name, address)
    assert main(["ls"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tailrace ls: {name} is not a Redis address such as redis://127.0.0.1:6379/0")
    assert "hunter2" not in line


# settings and processes


@pytest.fixture
def _startup_level() -> Iterator[None]:
    """A child of `tailrace dev` silences a logger of the process, which here is that of all tests."""
    before = startup.logger.level
    yield
    startup.logger.setLevel(before)


@pytest.mark.usefixtures("_startup_level")
def test_unknown_setting_is_named_with_the_likely_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("TAILRACE_LEASES", "TAILRACE_QUITE_ANOTHER_NAME", "TAILRACE_URL"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr("tailrace_cli.demo_model.main", lambda *_, **__: None)
    assert main(["demo-model"]) == 0
    assert caplog.messages == [
        "TAILRACE_LEASES is no setting of Tailrace; did you mean TAILRACE_LEASE_S?",
        "TAILRACE_QUITE_ANOTHER_NAME is no setting of Tailrace",
    ]
    caplog.clear()
    monkeypatch.setenv("TAILRACE_DEV_PROCESSES", "of `tailrace dev`, which has reported them")
    assert main(["demo-model"]) == 0
    assert caplog.messages == []


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_verbosity_reaches_the_children(monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", level)
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]
    parsed = arguments.parser().parse_args(["worker", *children.verbosity()])
    assert parsed.verbose is (level == logging.DEBUG)


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_of_a_command_are_those_of_its_function(name: str) -> None:
    command, parser = COMMANDS[name], argparse.ArgumentParser(conflict_handler="resolve")
    actions = (action.arguments for action in command.actions.values())
    for given_arguments in (command.arguments, *actions):
        for names, options in given_arguments:
            parser.add_argument(*names, **options)
    given = {action.dest for action in parser._actions} - {"help", *SETTINGS}
    given |= {"action"} if command.actions else set()
    parameters = signature(import_module(command.module).main).parameters.values()
    named = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"settings"}
    assert given - named == (set(policy_options.FIELDS) if name == "callers" else set())
    assert named <= given


def test_help_of_ask_names_where_calls_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ask", "--help"])
    assert "Calls of tools, restarts and failures go to stderr." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("flags", [(), ("-v",)])
@pytest.mark.parametrize("words", [("ls",), ("show",), ("tail",), ("ask", "Hi"), ("cancel", "gen_1")])
def test_command_that_prints_names_an_unknown_setting_once_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TAILRACE_LEASES", "3")
    monkeypatch.setattr(f"tailrace_cli.{words[0]}.main", lambda *_, **__: None)
    assert main([*words, *flags]) == 0
    printed = capsys.readouterr()
    warning = f"tailrace {words[0]}: TAILRACE_LEASES is no setting of Tailrace; did you mean TAILRACE_LEASE_S?"
    assert printed.out == ""
    assert [line for line in printed.err.splitlines() if "TAILRACE_LEASES" in line] == [warning]


@pytest.mark.parametrize(
    ("command", "config", "expected"),
    [
        ("worker", "tailrace.toml", signal.SIG_IGN), ("frontend", "tailrace.toml", signal.SIG_IGN),
        ("worker", "", signal.SIG_DFL), ("dev", "tailrace.toml", signal.SIG_DFL),
    ],
)  # fmt: skip
def test_hangup_does_not_end_a_process_that_is_about_to_read_its_file(
    command: str, config: str, expected: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    module = SimpleNamespace(main=lambda *_, **__: found.append(signal.getsignal(signal.SIGHUP)))
    monkeypatch.setattr(tailrace_cli, "import_module", lambda _: module)
    monkeypatch.setenv("TAILRACE_CONFIG", config)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert main([command]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found == [expected]
