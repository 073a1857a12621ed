"""`tailrace ask`: the question, the model and what is refused; integration/test_terminal.py has whole answers."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from tailrace.settings import Settings
from tailrace_cli import main
from tailrace_cli.access import Access, opened
from tailrace_frontend.http.schemas import check_create


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


pytestmark = pytest.mark.usefixtures("_settings_of_the_server")


@pytest.fixture
async def access(redis: Redis) -> AsyncIterator[Access]:
    async with opened(Settings()) as access:
        yield access


async def answered(access: Access, *argv: str, text: str = "The log.") -> dict[str, object]:
    """Run the command, answer its question with `text`, and return the request as it was stored."""
    asking = asyncio.create_task(asyncio.to_thread(main, ["ask", *argv]))
    async with asyncio.timeout(10):
        while not (found := (await access.generations.list("open", 1, None))[0]):
            assert not asking.done() or not asking.result()
            await asyncio.sleep(0.01)
    writer = await LogWriter.start(access.log, found[0].record.id)
    await writer.write_text(text)
    await writer.finish()
    assert await asking == 0
    return await access.log.request(writer.generation_id)


async def test_ask_prints_the_answer_to_its_words(access: Access, capsys: pytest.CaptureFixture[str]) -> None:
    request = await answered(access, "What", "survives?", "-m", "llama", "-s", "Be brief.")
    assert request == {
        "model": "llama",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What survives?"}],
    }
    printed = capsys.readouterr()
    assert printed.out == "The log."
    assert printed.err == "No worker is running: the answer begins once one does (`tailrace worker`).\n"


@pytest.mark.parametrize(("argv", "question"), [([], "From a\nfile\n"), (["Sum up:", "-"], "Sum up: From a\nfile\n")])
async def test_question_is_read_from_standard_input(
    access: Access, monkeypatch: pytest.MonkeyPatch, argv: list[str], question: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("From a\nfile\n"))
    request = await answered(access, *argv, "--model", "llama")
    assert request["messages"] == [{"role": "user", "content": question}]


async def test_model_is_the_setting_or_the_first_that_a_worker_has_listed(
    access: Access, monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    await access.queue.presence.heartbeat("w")
    await access.queue.models.report("w", ["llama", "qwen"])
    assert (await answered(access, "a"))["model"] == "llama"
    await redis.flushall()
    monkeypatch.setenv("TAILRACE_MODEL", "chosen")
    assert (await answered(access, "a"))["model"] == "chosen"


def test_model_that_is_not_known_is_asked_for(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "a"]) == 2
    assert capsys.readouterr().err.endswith("no worker has listed the upstream's. Name one with --model\n")


async def test_limits_are_those_of_a_frontend(
    access: Access, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_MODELS", "llama")
    assert await asyncio.to_thread(main, ["ask", "a", "-m", "other"]) == 1
    monkeypatch.setenv("TAILRACE_MODELS", "")
    monkeypatch.setenv("TAILRACE_MAX_BODY_BYTES", "1024")
    assert await asyncio.to_thread(main, ["ask", "x" * 1025, "-m", "llama"]) == 2
    request = {"model": "llama", "messages": [{"role": "user", "content": "a"}]}
    _, options = check_create(request, Settings())
    await access.generations.create("open", request, options)
    monkeypatch.setenv("TAILRACE_MAX_UNFINISHED_PER_CALLER", "1")
    assert await asyncio.to_thread(main, ["ask", "a", "-m", "llama"]) == 1
    assert [line.removeprefix("tailrace ask: ") for line in capsys.readouterr().err.splitlines()] == [
        "The model `other` does not exist, or you do not have access to it.",
        "the question may have at most 1024 bytes",
        "Concurrent generation limit reached (1).",
    ]


@pytest.mark.parametrize("stdin", [io.StringIO(" \n"), Terminal()])
def test_missing_question_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["ask"]) == 2
    assert capsys.readouterr().err.startswith("tailrace ask: there is no question")
