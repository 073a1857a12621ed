"""The note of a kill that a user has asked for."""

from pathlib import Path

from tailrace.process import requested_kill


def test_note_is_taken_once_and_for_its_process_alone(tmp_path: Path) -> None:
    table = tmp_path / "processes.json"
    assert not requested_kill.take(table, 7)
    requested_kill.note(table, 6)
    requested_kill.note(table, 7)
    assert not requested_kill.take(table, 6)
    assert requested_kill.take(table, 7)
    assert not requested_kill.take(table, 7)
    assert list(tmp_path.iterdir()) == []
