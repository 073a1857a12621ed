"""Generations from a terminal: ls, show, cancel, and the latest one, over a real Redis."""

import asyncio
import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import text_opened
from support.stored_log import expire_lease
from tailrace.errors import Misconfigured, RedisUnavailable
from tailrace.events import Options, Text
from tailrace.settings import Settings
from tailrace.stats.history_reader import HistoryReader
from tailrace.stats.slots import MINUTES
from tailrace_cli import main
from tailrace_cli.access import Access, command_for, opened, owner_of

OPTIONS = Options(600, 60)
KEYS = {"ticket_secret": "x" * 16}


pytestmark = pytest.mark.usefixtures("_settings_of_the_server")


async def created(access: Access, question: str, owner: str = "open") -> str:
    request = {"model": "demo", "messages": [{"role": "user", "content": question}]}
    state, _ = await access.generations.create(owner, request, OPTIONS)
    while await access.log.server.now() <= state.record.created:
        pass  # a list is in the order of milliseconds
    return state.record.id


async def printed(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    """The output of a command that exits with this status."""
    capsys.readouterr()
    assert await asyncio.to_thread(main, list(argv)) == status
    return capsys.readouterr().out


# ls


async def test_ls_lists_the_newest_first(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        ids = [await created(access, f"Question {n}\nand more") for n in range(3)]
    header, *rows = (await printed(capsys, "ls")).splitlines()
    assert header.split() == ["ID", "STATUS", "MODEL", "AGE", "TOKENS", "QUESTION"]
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert rows[0].endswith("Question 2 and more")
    assert len((await printed(capsys, "ls", "-n", "2")).splitlines()) == 3
    values = json.loads(await printed(capsys, "ls", "--json"))
    assert [value["id"] for value in values] == ids[::-1]
    assert values[0]["preview"] == "Question 2 and more"
    assert values[0]["status"] == "queued"


async def test_ls_without_a_generation_prints_the_header(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert len((await printed(capsys, "ls")).splitlines()) == 1
    assert await printed(capsys, "ls", "--json") == "[]\n"


@pytest.mark.parametrize("limit", ["0", "-1", "1001"])
async def test_limit_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], limit: str) -> None:
    await printed(capsys, "ls", "-n", limit, status=2)


# show


async def test_show_prints_the_state_the_question_and_the_answer(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(Settings()) as access:
        generation_id = await created(access, "What survives?")
        text = await printed(capsys, "show")
        assert "status    queued, place 1, no worker is running" in text
        writer = await LogWriter.start(access.log, generation_id)
        await writer.write_text("The ", "log.")
        text = await printed(capsys, "show", generation_id)
        assert "status    running, worker log-" in text
        assert text.endswith("\nQuestion\n\nWhat survives?\n\nAnswer\n\nThe log.\n")
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        await writer.finish("incomplete", usage=usage)
    text = await printed(capsys, "show")
    assert f"id        {generation_id}\n" in text
    assert "status    incomplete\n" in text
    assert "tokens    3 prompt, 2 completion\n" in text
    assert "kept until" in text
    value = json.loads(await printed(capsys, "show", "--json"))
    assert value["output"][0]["text"] == "The log."
    assert (value["usage"], value["attempt"]) == (usage, 1)
    assert "events_url" not in value


async def test_show_without_a_generation_names_the_command_that_creates_one(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(main, ["show"]) == 1
    assert capsys.readouterr().err == "tailrace show: there is no generation yet; `tailrace ask` creates one\n"


# cancel


async def test_cancel_ends_each_generation_once(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        ids = [await created(access, "What survives?") for _ in range(2)]
        missing = f"gen_{'a' * 26}"
        text = await printed(capsys, "cancel", *ids, ids[0], missing, status=1)
        assert text == f"{ids[0]}  cancelled\n{ids[1]}  cancelled\n"
        assert {(await access.log.state(each)).status for each in ids} == {"cancelled"}
    assert await printed(capsys, "cancel", ids[0]) == f"{ids[0]}  cancelled already\n"


# the latest, and whose it is


async def test_tail_without_an_id_prints_the_latest(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        for text in ("one", "two"):
            writer = await LogWriter.start(access.log, await created(access, text))
            await writer.write_text(text)
            await writer.finish()
        await created(access, "of another", "anna")
    assert await printed(capsys, "tail", "--wire", "text") == "two"


async def test_tail_of_a_restarted_answer_prints_the_last_attempt(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(Settings()) as access:
        writer = await LogWriter.start(access.log, await created(access, "x"))
        await writer.write_text("One tw")
        await expire_lease(redis, writer.generation_id)
        second = await LogWriter.acquire(access.log, writer.generation_id, "second", worker="second")
        await second.write(second.restarted(2), text_opened(1), Text(1, "One two"))
        await second.finish()
    assert await printed(capsys, "tail", "--wire", "text") == "One two"


def test_owner_is_the_only_caller_or_the_one_that_is_named() -> None:
    one = Settings(api_keys="anna:anna-key-1", **KEYS)  # type: ignore[arg-type]
    two = Settings(api_keys="anna:anna-key-1,ben:ben-key-1,ben:ben-key-2", **KEYS)  # type: ignore[arg-type]
    assert owner_of(Settings(), "") == "open"
    assert owner_of(Settings(), "anna") == "anna"  # the keys are known to the frontends alone
    assert owner_of(one, "") == owner_of(one, "anna") == owner_of(two, "anna") == "anna"
    with pytest.raises(Misconfigured, match=r"several callers; choose one with --caller: anna, ben$"):
        owner_of(two, "")
    with pytest.raises(Misconfigured, match=r"no caller 'carl'; choose one with --caller: anna$"):
        owner_of(one, "carl")


def test_command_that_is_shown_finds_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/tailrace")
    assert command_for(Settings(), "tail", "gen_a") == "tailrace tail gen_a"
    monkeypatch.delenv("TAILRACE_DATA_DIR")
    assert command_for(Settings(data_dir=Path("x")), "ls") == "tailrace ls --data-dir x"
    assert command_for(Settings(data_dir=Path("my data")), "ls") == "tailrace ls --data-dir 'my data'"


@pytest.mark.parametrize(
    ("started_as", "shown"),
    [
        (".venv/bin/tailrace", ".venv/bin/tailrace ls"),
        ("/a b/tailrace", "'/a b/tailrace' ls"),
        ("/x/tailrace_cli/__main__.py", f"{shlex.quote(sys.executable)} -m tailrace_cli ls"),
    ],
)
def test_command_that_is_shown_is_the_one_that_was_started(
    monkeypatch: pytest.MonkeyPatch, started_as: str, shown: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "argv", [started_as])
    assert command_for(Settings(), "ls") == shown


async def test_outage_names_the_setting_that_is_set_and_where_a_server_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TAILRACE_REDIS_URL")

    async def explained(**settings: str) -> str:
        access = Access(Settings(data_dir=tmp_path, **settings))  # type: ignore[arg-type]
        access.queue.server._outages.report_failure("commands", OSError())
        await access.close()
        return access.explained(RedisUnavailable()).message

    looked_for = f"No `tailrace dev` was found in {tmp_path} (--data-dir)"
    alone = await explained()
    assert "TAILRACE_REDIS_URL" in alone
    assert alone.endswith(looked_for)
    assert looked_for not in await explained(redis_url="redis://127.0.0.1:1/0")
    two = await explained(queue_url="redis://127.0.0.1:2/0")
    assert "Redis at redis://127.0.0.1:2/0 (TAILRACE_QUEUE_URL)" in two
    assert looked_for not in two


# what is counted


async def test_what_a_terminal_does_is_in_the_history(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(Settings()) as access:
        ids = [await created(access, f"Question {n}") for n in range(3)]
    await printed(capsys, "cancel", ids[0])
    async with opened(Settings()) as access:
        slots = await HistoryReader(access.queue.server).last(MINUTES, 2)
    counts = [sum(slot.counts.get(name, 0) for slot in slots) for name in ("created", "ended:cancelled")]
    assert counts == [3, 1]
