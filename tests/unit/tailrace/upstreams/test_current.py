import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace.upstreams import CurrentUpstreams, Upstreams

ONE = '[[upstreams]]\nname = "one"\nbase_url = "http://one.test/v1"\n'
WITH_KEY = ONE + 'api_key_env = "NO_SUCH_KEY"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tailrace.toml"
    file.write_text(ONE)
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)


def remove(file: Path) -> None:
    file.unlink()


def names(upstreams: CurrentUpstreams) -> list[str]:
    return [each.name for each in upstreams.all]


async def test_file_is_read_again_when_it_is_asked_for(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    changes: list[list[str]] = []
    upstreams.on_change = lambda: changes.append(names(upstreams))
    write(file, ONE.replace("one", "two") + ONE)
    assert names(upstreams) == ["one"]
    assert await upstreams.reload()
    assert changes == [["two", "one"]]
    assert [target.upstream.name for target in upstreams.targets("m")] == ["two", "one"]
    assert caplog.messages == [f"TAILRACE_CONFIG: read {file} again: two, one"]


async def test_file_that_changed_before_the_signal_was_handled_is_read_again(file: Path) -> None:
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    changed = asyncio.Event()
    upstreams.on_change = changed.set
    write(file, ONE.replace("one", "two"))
    os.utime(file, ns=(1, 1))
    try:
        upstreams.reload_on_hangup()
        async with asyncio.timeout(10):
            await changed.wait()
        assert names(upstreams) == ["two"]
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


@pytest.mark.parametrize("text", ["", ONE + "foo = 1\n", "[["])
async def test_wrong_file_changes_nothing_and_its_line_is_an_error(
    file: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    upstreams.on_change = lambda: pytest.fail("nothing has changed")
    write(file, text)
    assert not await upstreams.reload()
    remove(file)
    assert not await upstreams.reload()
    assert names(upstreams) == ["one"]
    first, second = caplog.records
    assert (first.levelno, second.levelno) == (logging.ERROR, logging.ERROR)
    assert f"{file}: line " in first.getMessage()
    assert f"cannot read {file}" in second.getMessage()


async def test_keys_are_needed_where_the_upstreams_are_called(file: Path) -> None:
    write(file, WITH_KEY)
    CurrentUpstreams(Settings(config=str(file)))
    with pytest.raises(Misconfigured, match="NO_SUCH_KEY"):
        CurrentUpstreams(Settings(config=str(file)), needs_keys=True)
    write(file, ONE)
    calling = CurrentUpstreams(Settings(config=str(file)), needs_keys=True)
    write(file, WITH_KEY)
    assert not await calling.reload()


async def test_hangup_reads_the_file_again(file: Path) -> None:
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    changed = asyncio.Event()
    upstreams.on_change = changed.set
    upstreams.reload_on_hangup()
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(5):
            await changed.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_file_is_read_beside_the_event_loop(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    may_end, threads = threading.Event(), []
    load = Upstreams.load

    def slow(settings: Settings) -> Upstreams:
        threads.append(threading.current_thread())
        assert may_end.wait(20)
        return load(settings)

    monkeypatch.setattr(Upstreams, "load", slow)
    reload = asyncio.create_task(upstreams.reload())
    while not threads:  # noqa: ASYNC110  (only the thread has it)
        await asyncio.sleep(0.001)
    write(file, ONE.replace("one", "two"))
    second = asyncio.create_task(upstreams.reload())
    await asyncio.sleep(0.01)
    assert len(threads) == 1, "a second reload waits: the later one has to win"
    assert names(upstreams) == ["one"]
    may_end.set()
    assert await reload
    assert await second
    assert names(upstreams) == ["two"]
    assert threading.main_thread() not in threads


async def test_many_hangups_read_the_file_once_more(file: Path) -> None:
    upstreams = CurrentUpstreams(Settings(config=str(file)))
    changes: list[list[str]] = []
    upstreams.on_change = lambda: changes.append(names(upstreams))
    for _ in range(100):
        upstreams._on_hangup()
    await asyncio.gather(*upstreams._reloads)
    assert changes == [["one"]]


async def test_hangup_keeps_its_default_action_without_a_file() -> None:
    before = signal.getsignal(signal.SIGHUP)
    CurrentUpstreams(Settings()).reload_on_hangup()
    assert signal.getsignal(signal.SIGHUP) == before
