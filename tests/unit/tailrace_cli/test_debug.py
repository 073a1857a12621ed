"""`tailrace debug`, over a real Redis and on consoles of several widths."""

import asyncio
import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from rich.console import Console

from support.log_writer import LogWriter
from support.logs import USAGE
from tailrace.events import Bucket, FailedRequest, Failure, Gap, Options, Stream, Timings, Upstream
from tailrace.log.measures import Measures
from tailrace.log.timeline import History
from tailrace.settings import Settings
from tailrace_cli import main
from tailrace_cli.access import Access, opened
from tailrace_cli.debug import BAR, NOT_ENDED, NOT_MEASURED, NOT_OWN, rendered, seconds
from tailrace_cli.embedded import EmbeddedServer

MEASURED = Stream(
    attempts=1, retries=1, chunks=1234, bytes=98_765, malformed=2, tokens_per_second=20.5, stalls=1,
    gaps=[Bucket(1000, 0.03), Bucket(1, 10)], slowest=[Gap(1_795_235_903.5, 4.5, "1-2")],
    failed=[FailedRequest(0.01, "upstream_error", "dead", 0.25)],
)  # fmt: skip
TIMINGS = Timings(0.0046, 0.0731, 0.05021, 0.07644, 4.5, 16.431)


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, valkey: EmbeddedServer) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", valkey.url)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("TAILRACE_API_KEYS", raising=False)


async def created(access: Access, model: str = "demo") -> str:
    request = {"model": model, "messages": [{"role": "user", "content": "What survives?"}]}
    state, _ = await access.generations.create("open", request, Options(600, 60))
    return state.record.id


async def answered(access: Access, **done: Any) -> str:
    """The id of a generation that a worker has answered, and measured."""
    writer = await LogWriter.start(access.log, await created(access))
    await writer.write_text("The ", "log.")
    fields: dict[str, Any] = {"stream": MEASURED, "timings": TIMINGS, "usage": USAGE, "cost": 0.000026}
    await writer.finish(**(fields | done))
    return writer.generation_id


async def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert await asyncio.to_thread(main, list(argv)) == 0
    return capsys.readouterr().out


async def on_console(access: Access, generation_id: str, width: int) -> list[str]:
    """The lines on a terminal of that width, without colours."""
    state = await access.log.state(generation_id)
    history = History(state)
    async for entry in access.log.read_all(generation_id):
        history.add(entry)
    timeline = history.timeline(Measures())
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
    for part in rendered(state, timeline, width):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[\d*m", "", console.file.getvalue()).splitlines()


async def test_debug_prints_the_measures_and_the_timeline(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        generation_id = await answered(access, upstream=Upstream("chatcmpl-1", "demo-1", "live"))
    text = await printed(capsys, "debug", generation_id)
    facts = {name: value.strip() for name, _, value in (line.partition("  ") for line in text.splitlines()[:12])}
    assert facts["id"] == generation_id
    assert facts["model"] == "demo (demo-1)"
    assert facts["upstream"] == "live (chatcmpl-1)"
    assert facts["times"] == "queue 4.6 ms, first token 73.1 ms, total 16.43 s"
    assert facts["between tokens"] == "p50 50.2 ms, p95 76.4 ms, max 4.5 s"
    assert facts["usage"] == "12 prompt, 7 completion, 0.000026 USD"
    assert facts["stream"] == "chunks 1234, bytes 98765, retries 1, stalls 1, malformed 2"
    assert facts["rate"] == "20.5 tokens/s"
    headings = ("Attempts", "Timeline", "Entries of the log", "Slowest gaps", "Gaps between two pieces of content")
    for heading in headings:
        assert f"\n{heading}\n" in text
    assert re.search(r" 1-2 +gap of 4.5 s after it *\n", text)
    assert re.search(r" request failed: upstream_error +upstream dead; the next request 0.25 s later *\n", text)
    assert re.search(r"s +4.5 s +1-2 *\n", text), "the table of the slowest gaps"
    assert BAR in text
    assert not any(note in text for note in (NOT_ENDED, NOT_OWN, NOT_MEASURED))


async def test_debug_without_an_id_takes_the_latest_generation(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(Settings()) as access:
        generation_id = await created(access)
        text = await printed(capsys, "debug")
    assert generation_id in text
    assert text.endswith(f"{NOT_MEASURED}\n")


async def test_debug_prints_json(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        generation_id = await answered(access, error=Failure("Cut.", "upstream_truncated"))
    value = json.loads(await printed(capsys, "debug", generation_id, "--json"))
    assert (value["id"], value["status"], value["ended_by_worker"]) == (generation_id, "completed", True)
    assert value["stream"]["slowest"] == [{"at": 1_795_235_903.5, "seconds": 4.5, "after": "1-2"}]
    assert value["stream"]["failed"] == [{"at": 0.01, "code": "upstream_error", "upstream": "dead", "delay": 0.25}]
    assert (value["usage"], value["cost"], value["error"]["code"]) == (USAGE, 0.000026, "upstream_truncated")
    assert value["attempts"][0] | {"began_at": 0, "first_entry": "", "worker": ""} == {
        "attempt": 1, "worker": "", "began_at": 0, "first_entry": "", "entries": 4, "items": 1,
        "bytes": len("The log."), "ended": "completed: upstream_truncated",
    }  # fmt: skip
    assert [moment["what"] for moment in value["timeline"]][-1] == "done"
    assert {"kind": "text", "entries": 2, "bytes": 8, "p50": 4, "p95": 4, "max": 4} in value["entries"]


async def test_debug_of_a_cancelled_generation_explains_what_is_missing(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(Settings()) as access:
        writer = await LogWriter.start(access.log, await created(access))
        await writer.write_text("The ")
        measures = {writer.generation_id: msgspec.json.encode(Measures(0.0731, 4.5, 4.6, MEASURED))}
        await access.log.renew([(writer.generation_id, writer.epoch, False)], measures=measures)
        text = await printed(capsys, "debug", writer.generation_id)
        assert text.endswith(f"{NOT_ENDED}\n")
        assert "first token 73.1 ms" in text
        assert "gap of 4.5 s after it" in text
    await printed(capsys, "cancel", writer.generation_id)
    text = await printed(capsys, "debug", writer.generation_id)
    assert text.endswith(f"{NOT_OWN}\n")
    assert "first token 73.1 ms" in text
    assert "estimated" in text
    assert "written by another process than the worker" in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
async def test_lines_are_never_wider_than_the_terminal(redis: Redis, width: int) -> None:
    async with opened(Settings()) as access:
        generation_id = await answered(access, error=Failure("A long message. " * 20, "upstream_error"))
        lines = await on_console(access, generation_id, width)
    assert max(map(len, lines)) <= width
    assert any(BAR in line for line in lines)


async def test_output_into_a_pipe_is_plain(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        generation_id = await answered(access, error=Failure("[red]a\x1b]0;title\x07b", "[bold]x"))
    text = await printed(capsys, "debug", generation_id)
    assert "\x1b" not in text
    assert "[bold]x: [red]a\\x1b]0;title\\x07b" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["debug", "gen_x"], "generation gen_x does not exist"),
        (["debug", "gen_" + "a" * 26], f"generation gen_{'a' * 26} does not exist"),
        (["debug"], "there is no generation yet; `tailrace ask` creates one"),
    ],
)
async def test_generation_that_does_not_exist_is_one_line(
    redis: Redis, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert await asyncio.to_thread(main, argv) == 1
    assert capsys.readouterr().err == f"tailrace debug: {message}\n"


def test_redis_that_does_not_respond_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", "redis://127.0.0.1:1/0")
    assert main(["debug", "gen_" + "a" * 26]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tailrace debug: Redis at redis://127.0.0.1:1/0 (TAILRACE_REDIS_URL) does not respond")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0.0, "0 µs"), (0.00025, "250 µs"), (0.0123, "12.3 ms"), (0.25, "250 ms"), (1.25, "1.25 s"),
     (123.4, "123.4 s")],
)  # fmt: skip
def test_time_span_has_the_unit_that_fits(value: float | None, text: str) -> None:
    assert seconds(value) == text
