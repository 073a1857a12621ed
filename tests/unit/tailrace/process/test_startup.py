"""The lines with which a process reports that it runs: logged, but not by the children of `tailrace dev`."""

import logging
from collections.abc import Iterator

import pytest

from tailrace.process import startup
from tailrace.settings import DEV_PROCESSES


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    before = startup.logger.level
    yield
    startup.logger.setLevel(before)


@pytest.mark.parametrize(("is_child", "logged"), [(False, ["it runs", "it warns"]), (True, ["it warns"])])
def test_child_of_dev_logs_warnings_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_child: bool, logged: list[str]
) -> None:
    monkeypatch.delenv(DEV_PROCESSES, raising=False)
    if is_child:
        monkeypatch.setenv(DEV_PROCESSES, "processes.json")
    caplog.set_level(logging.INFO)
    startup.silence_children()
    startup.logger.info("it runs")
    startup.logger.warning("it warns")
    assert caplog.messages == logged
