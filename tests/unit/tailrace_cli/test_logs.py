"""The lines of a log: on a terminal and in a file."""

import contextvars
import io
import json
import logging
import os
import re
import sys
import time

import pytest

from tailrace.process import log_fields
from tailrace_cli import logs, terminal
from tailrace_cli.json_logs import JsonLogFormatter
from tailrace_cli.logs import LogFormatter, TerminalFormatter

NAME = "a logger"


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord(NAME, level, __file__, 1, message, (), None)
    made.created, made.msecs = 1_795_237_242.123, 123.0
    return made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_of_a_file_has_time_level_process_and_id() -> None:
    line = LogFormatter("worker").format(record("gen_x completed"))
    assert line == f"2026-11-21T05:00:42.123Z INFO worker[{os.getpid()}] gen_x completed"


def test_lines_of_a_terminal_are_in_columns() -> None:
    local = time.strftime("%H:%M:%S", time.localtime(1_795_237_242))
    lines = [
        TerminalFormatter("worker", colours=False).format(record("gen_x completed")),
        TerminalFormatter("demo-model", colours=False).format(record("busy", logging.WARNING)),
    ]
    assert lines == [f"{local} INFO    worker      gen_x completed", f"{local} WARNING demo-model  busy"]


@pytest.mark.parametrize("process", logs.COLOURS)
def test_colours_change_no_character(process: str) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        plain = TerminalFormatter(process, colours=False).format(record("text", level))
        shown = TerminalFormatter(process, colours=True).format(record("text", level))
        assert logs.COLOURS[process] in shown
        assert re.sub(r"\x1b\[\d+m", "", shown) == plain


@pytest.mark.parametrize("formatter", [LogFormatter("worker"), TerminalFormatter("worker", colours=False)])
def test_record_is_one_line_whatever_an_upstream_sends(formatter: logging.Formatter) -> None:
    line = formatter.format(record("failed: \x1b[2Jgone\r\n2026-01-01T00:00:00.000Z INFO worker[1] forged\u2028"))
    assert len(line.splitlines()) == 1
    assert line.endswith(r"failed: \x1b[2Jgone\x0d\n2026-01-01T00:00:00.000Z INFO worker[1] forged\u2028")


def json_line(made: logging.LogRecord) -> dict[str, object]:
    (line,) = JsonLogFormatter("worker").format(made).splitlines()
    value: dict[str, object] = json.loads(line)
    return value


def test_json_line_has_the_fields_of_every_line_and_its_own() -> None:
    made = record("gen_x: é\n\x1b[2J\u2028")
    made.__dict__ |= {"event": "ended", "timings": {"total": 1.5}, "attempt": 2}
    assert json_line(made) == {
        "ts": "2026-11-21T05:00:42.123Z", "level": "INFO", "event": "ended", "message": "gen_x: é\n\x1b[2J\u2028",
        "process": "worker", "pid": os.getpid(), "logger": NAME, "timings": {"total": 1.5}, "attempt": 2,
    }  # fmt: skip
    assert json_line(record("text"))["event"] == "log"
    assert json_line(record("half \ud83d"))["message"] == "half \ud83d"


def test_json_line_has_the_fields_that_its_task_has_bound() -> None:
    def inside() -> dict[str, object]:
        log_fields.bind(generation="gen_x", worker="w")
        log_fields.bind(worker="v")
        return json_line(record("text"))

    line = contextvars.copy_context().run(inside)
    assert (line["generation"], line["worker"]) == ("gen_x", "v")
    assert "generation" not in json_line(record("text"))


def test_json_traceback_is_in_its_line() -> None:
    made = record("failed", logging.ERROR)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        made.exc_info = sys.exc_info()
    assert str(json_line(made)["exc_info"]).startswith("Traceback")


def test_json_replaces_the_text_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    root, written = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("worker", level=logging.INFO)
    logs.use_json("worker")
    root.handlers[0].handle(record("text"))
    assert json.loads(written.getvalue())["message"] == "text"


def test_traceback_follows_its_line() -> None:
    made = record("failed", logging.ERROR)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        made.exc_info = sys.exc_info()
    first, *rest = LogFormatter("worker").format(made).splitlines()
    assert first.endswith("failed")
    assert rest[0].startswith("Traceback")


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], shown: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.has_colours(Terminal()) is shown
    assert not terminal.has_colours(io.StringIO())


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.CRITICAL])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_libraries_log_warnings_and_at_debug_level_everything(
    monkeypatch: pytest.MonkeyPatch, level: int, stream: type[io.StringIO]
) -> None:
    names = ("arq", *logs.NOISY)
    before = {name: logging.getLogger(name).level for name in names}
    root, written = logging.getLogger(), stream()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "stderr", written)
    try:
        logs.configure("worker", level=level)
        levels = {logging.getLogger(name).level for name in logs.NOISY}
        assert levels == {logging.DEBUG if level == logging.DEBUG else max(level, logging.WARNING)}
        assert logging.getLogger("arq").level == (logging.DEBUG if level == logging.DEBUG else logging.CRITICAL)
        root.handlers[0].handle(record("text"))
        assert ("[" in written.getvalue()) is (stream is io.StringIO or terminal.has_colours(written))
    finally:
        for name, value in before.items():
            logging.getLogger(name).setLevel(value)
