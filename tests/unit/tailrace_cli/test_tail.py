"""`tailrace tail`, and how it finds a server."""

import asyncio
import io
import os
import sys
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.log_writer import LogWriter
from support.stored_log import create_generation
from tailrace.errors import NotFound, RedisUnavailable
from tailrace.events import Entry, Text
from tailrace.ids import START, EntryId
from tailrace.log import Log
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_cli import main, tail, terminal
from tailrace_cli.data_dir import running_server_url, write_server_url
from tailrace_cli.embedded import EmbeddedServer, free_port

UNKNOWN = "gen_" + "a" * 26


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TAILRACE_REDIS_URL", raising=False)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one error line of the command."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tailrace tail: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("tailrace tail: ")


def test_server_url_in_the_data_directory_is_found_while_the_server_runs(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    assert running_server_url(tmp_path) is None
    server.start()
    assert running_server_url(tmp_path) == server.url
    server.kill()
    assert (tmp_path / "redis-url").exists()
    assert running_server_url(tmp_path) is None


@pytest.mark.parametrize("stored", ["", "nonsense", "redis://127.0.0.1:99999/0", "redis://127.0.0.1/0"])
def test_malformed_server_url_is_ignored(tmp_path: Path, stored: str) -> None:
    write_server_url(tmp_path, stored)
    assert running_server_url(tmp_path) is None


def test_unknown_generation_is_reported_in_one_line(
    valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(valkey.data_dir))
    for generation_id in (UNKNOWN, "nonsense"):
        assert main(["tail", generation_id]) == 1
        assert error_line(capsys) == f"generation {generation_id} does not exist"


def test_unreachable_server_is_reported_in_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("TAILRACE_REDIS_URL", f"redis://anna:hunter2@127.0.0.1:{port}/0?password=hunter3")
    assert main(["tail", UNKNOWN]) == 1
    line = error_line(capsys)
    assert line.startswith(f"Redis at redis://127.0.0.1:{port}/0 (TAILRACE_REDIS_URL) does not respond: ")
    assert "hunter" not in line


def test_unknown_wire_format_exits_with_status_2(
    valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", valkey.url)
    assert main(["tail", UNKNOWN, "--wire", "telegraph"]) == 2
    assert "unknown wire format 'telegraph'" in error_line(capsys)


def test_command_without_a_server_of_dev_uses_the_default_address(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Settings] = []
    monkeypatch.setattr(tail, "main", lambda settings, **_: used.append(settings))
    assert main(["tail", UNKNOWN]) == 0
    assert [settings.redis_url for settings in used] == [Settings().redis_url]


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_command_that_is_interrupted_exits_with_status_130(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(tail, "main", interrupted)
    assert main(["tail", UNKNOWN]) == 130


HOSTILE = "a\x1b]0;title\x07b\rc\x9b2Jd\x7fe\u202ef\tg\nh é"
SHOWN = "a\\x1b]0;title\\x07b\\x0dc\\x9b2Jd\\x7fe\\u202ef\tg\nh é"


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, f"{SHOWN}\n"), (False, HOSTILE)])
async def test_control_characters_are_neutralized_on_a_terminal_only(
    log: Log, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, expected: str
) -> None:
    writer = await LogWriter.start(log, await create_generation(log))
    await writer.write_text(HOSTILE)
    await writer.end()
    printed = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stdout", printed)
    pool = log.server.client.connection_pool
    url = f"redis://127.0.0.1:{pool.connection_kwargs['port']}/0"
    await asyncio.to_thread(
        tail.main, Settings(redis_url=url), generation_id=writer.generation_id, wire="text", after="", caller=""
    )
    printed.flush()
    assert printed.written.getvalue().decode() == expected


class Terminal(io.TextIOWrapper):
    """A standard output in memory. `written`: its bytes."""

    def __init__(self, is_terminal: bool) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding="utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@given(st.text())
def test_neutralized_text_has_no_control_character(text: str) -> None:
    shown = terminal.neutralized(text.encode(errors="replace")).decode()
    assert not [each for each in shown if unicodedata.category(each) == "Cc" and each not in "\t\n"]


def test_neutralized_escapes_characters_that_reverse_text() -> None:
    reversing = [chr(n) for n in range(0x110000) if unicodedata.bidirectional(chr(n)) in BIDIRECTIONAL]
    assert not [each for each in reversing if each in terminal.neutralized(each.encode()).decode()]


BIDIRECTIONAL = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


async def test_reader_that_leaves_ends_the_command_quietly(log: Log, valkey: EmbeddedServer) -> None:
    writer = await LogWriter.start(log, await create_generation(log))
    for _ in range(20):
        await writer.write_text("x" * 65_536)
    await writer.finish()
    script = f"{sys.executable} -m tailrace_cli tail {writer.generation_id} | head -c 10; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env={**os.environ, "TAILRACE_REDIS_URL": valkey.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (len(out), err, process.returncode) == (10, b"", 141)


async def test_log_is_read_on_after_an_outage(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "RETRY_S", 0)
    writer = await LogWriter.start(log, await create_generation(log))
    failures: list[Exception] = [RedisUnavailable(), NotFound(), RedisUnavailable()]
    read_log, calls = log.tail, 0

    async def failing(generation_id: str, after: EntryId) -> AsyncIterator[Entry]:
        nonlocal calls
        calls += 1
        async for entry in read_log(generation_id, after):
            yield entry
            if failures and entry.id.seq > 0:
                await writer.write_text(f"{len(failures)}")
                if len(failures) == 1:
                    await writer.finish()
                raise failures.pop()

    monkeypatch.setattr(log, "tail", failing)
    read = [entry async for entry in tail.entries(log, writer.generation_id, START)]
    assert [entry.id for entry in read] == sorted({entry.id for entry in read})
    assert "".join(entry.event.text for entry in read if isinstance(entry.event, Text)) == "321"
    assert calls == 4


@pytest.mark.parametrize("error", [RedisUnavailable, NotFound])
async def test_log_that_cannot_be_read_at_first_is_reported_at_once(
    log: Log, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async def failing(generation_id: str, after: EntryId) -> AsyncIterator[Entry]:
        if after == START:
            raise error
        yield Entry(after, Text(0, generation_id))

    monkeypatch.setattr(log, "tail", failing)
    with pytest.raises(error):
        _ = [entry async for entry in tail.entries(log, UNKNOWN, START)]
