"""The processes of `tailrace dev` in a file: private, whole at any moment, with the restarts counted."""

import json
from pathlib import Path

from tailrace_cli.process_table import ProcessTable


def test_table_has_the_newest_pid_and_the_restarts_of_each_process(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    for name, pid in (("worker", 10), ("frontend", 11), ("worker", 12), ("worker", 13)):
        table.record(name, pid)
    assert json.loads(table.path.read_text()) == {
        "worker": {"pid": 13, "restarts": 2},
        "frontend": {"pid": 11, "restarts": 0},
    }
    assert (table.pid_of("worker"), table.pid_of("demo-model")) == (13, None)


def test_file_is_readable_by_its_user_alone_also_where_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    path.write_text("{}")
    path.chmod(0o644)
    ProcessTable(path).record("worker", 10)
    assert path.stat().st_mode & 0o777 == 0o600


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    table.record("worker", 10)
    with table.path.open() as before:
        table.record("worker", 11)
        assert json.load(before)["worker"]["pid"] == 10
    assert [path.name for path in tmp_path.iterdir()] == ["processes.json"]


def test_removing_may_be_repeated(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    table.record("worker", 10)
    table.remove()
    table.remove()
    assert not table.path.exists()
