"""`tailrace tail`, and where it looks for a server."""

from pathlib import Path

import pytest

from tailrace.redis import connection
from tailrace_cli import main
from tailrace_cli.data_dir import address_in, leave_address
from tailrace_cli.embedded import EmbeddedServer, free_port

UNKNOWN = "gen_" + "a" * 26


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TAILRACE_REDIS_URL", raising=False)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(connection, "RETRIES", 0)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that it says in the end."""
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tailrace tail: ")]
    assert len(said) == 1
    return said[0].removeprefix("tailrace tail: ")


def test_a_server_is_found_by_what_it_leaves_in_its_data_directory_and_only_while_it_runs(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    assert address_in(tmp_path) is None
    server.start()
    assert address_in(tmp_path) == server.url
    server.kill()
    assert (tmp_path / "redis-url").exists()
    assert address_in(tmp_path) is None


@pytest.mark.parametrize("left", ["", "nonsense", "redis://127.0.0.1:99999/0", "redis://127.0.0.1/0"])
def test_what_is_no_address_is_none(tmp_path: Path, left: str) -> None:
    leave_address(tmp_path, left)
    assert address_in(tmp_path) is None


def test_an_unknown_generation_is_one_sentence(
    valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(valkey.data_dir))
    for generation_id in (UNKNOWN, "nonsense"):
        assert main(["tail", generation_id]) == 1
        assert told(capsys) == f"there is no generation {generation_id}"


def test_a_server_that_does_not_answer_is_one_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("TAILRACE_REDIS_URL", f"redis://anna:hunter2@127.0.0.1:{port}/0?password=hunter3")
    assert main(["tail", UNKNOWN]) == 1
    said = told(capsys)
    assert said.startswith(f"no answer from redis://127.0.0.1:{port}/0 (TAILRACE_REDIS_URL): ")
    assert "hunter" not in said


def test_what_is_asked_wrongly_is_another_status(
    valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", valkey.url)
    assert main(["tail", UNKNOWN, "--wire", "telegraph"]) == 2
    assert "no wire is called 'telegraph'" in told(capsys)
