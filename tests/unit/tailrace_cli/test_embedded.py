"""Valkey as a child process: one a directory, and what is reported where it does not start."""

import re
from pathlib import Path

import pytest

from tailrace.errors import Misconfigured
from tailrace_cli import embedded
from tailrace_cli.data_dir import responds
from tailrace_cli.embedded import EmbeddedServer


def test_directory_in_use_is_refused_until_its_server_stops(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path, holder="http://127.0.0.1:8080, pid 4711")
    second = EmbeddedServer(tmp_path)
    first.start()
    message = f"{tmp_path} is in use by another `tailrace dev` (http://127.0.0.1:8080, pid 4711); choose another"
    for _ in range(2):
        with pytest.raises(Misconfigured, match=re.escape(message)):
            second.start()
    assert responds(first.port)
    first.stop()
    second.start()
    assert responds(second.port)
    second.stop()


def test_stop_without_a_start_changes_nothing(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.stop()
    server.start()
    server.kill()
    server.kill()
    assert not responds(server.port)


@pytest.mark.parametrize("fault", ["refuses its options", "does not answer in time"])
def test_server_that_does_not_start_is_reported_and_leaves_the_directory_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    server = EmbeddedServer(tmp_path)
    if fault == "refuses its options":
        server = EmbeddedServer(tmp_path, appendfsync="sometimes")
    else:
        monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.0)
    with pytest.raises(Misconfigured, match=r"valkey\.log"):
        server.start()
    assert not responds(server.port)
    monkeypatch.undo()
    other = EmbeddedServer(tmp_path)
    other.start()
    other.stop()
