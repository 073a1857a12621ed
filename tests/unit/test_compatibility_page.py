"""`docs/compatibility.md` is what `scripts/compatibility` writes, and hides nothing."""

from pathlib import Path

import pytest

from compatibility import results
from compatibility.page import BEGIN, PAGE, rendered, table
from compatibility.results import Result, Suite
from compatibility.runs import VIOLATIONS


def test_page_is_not_stale() -> None:
    page = PAGE.read_text()
    assert rendered(page, results.load()) == page, "run scripts/compatibility --render"


def test_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for its table"):
        rendered(PAGE.read_text().replace(BEGIN, ""), [])


def test_row_names_what_failed_and_what_was_not_run() -> None:
    failing = Result("Redis 9", "x", "2026-11-23", [], Suite(10, 1, ["test_a"]), {"kills": 0, "empty": 2})
    lacking = Result("Redis 5", "x", "2026-11-23", ["it has no streams", "a | b"])
    assert not failing.is_good
    assert not lacking.is_good
    assert table([failing, lacking])[2:] == [
        "| Redis 9 | x | yes | 10 passed, 1 skipped, 1 failed | empty: 2 violations | 2026-11-23 |",
        "| Redis 5 | x | it has no streams; a \\| b | not run | not run | 2026-11-23 |",
    ]


def test_results_of_one_server_are_replaced_and_ordered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    servers = ("Valkey 9.1.2", "Redis 7.4.1", "Redis 7.0.15", "Valkey 8.0.1")
    results.save(Result(name, "x", "2026-11-22", []) for name in servers)
    results.save([Result("Redis 7.4.1", "y", "2026-11-23", [])])
    assert [each.name for each in results.load()] == ["Redis 7.0.15", "Redis 7.4.1", "Valkey 8.0.1", "Valkey 9.1.2"]
    assert next(each.source for each in results.load() if each.name == "Redis 7.4.1") == "y"


def test_violations_are_read_from_what_chaos_prints() -> None:
    printed = "seed 1\nworker-kills: 40 kills, 0 violations, 12 s\nredis-empty: 3 restarts, 2 violations, 9 s\n"
    assert VIOLATIONS.findall(printed) == [("worker-kills", "0"), ("redis-empty", "2")]


def test_server_that_ended_everything_well_is_good() -> None:
    good = Result("Redis 9", "x", "", [], Suite(10, 0, []), {"kills": 0})
    assert good.is_good
    assert not Result("Redis 9", "x", "", [], Suite(10, 0, []), {"kills": -1}).is_good
    assert not Result("Redis 9", "x", "", [], None, None).is_good
