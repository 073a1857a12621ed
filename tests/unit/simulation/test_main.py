"""The command line: what it prints, and how it refuses."""

import sys

import pytest

from simulation.__main__ import main
from simulation.constants import CONSTANTS, POLICIES
from simulation.tables import FIGURES, agreement, validation_table
from simulation.validation import Compared, Validation


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["simulate", *arguments])
    try:
        return main()
    except SystemExit as end:
        return int(end.code or 0)


def test_size_prints_both_plans(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "size", "--readers", "2,000") == 0
    printed = capsys.readouterr().out
    assert "one cluster" in printed
    assert "80,000 tokens/s" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["death", "--frontends", "5", "--readers", "500", "--use", "0.4"],
        ["failover", "--frontends", "5", "--readers", "500", "--use", "0.4", "--primaries", "3"],
        ["deploy", "--frontends", "5", "--readers", "500", "--use", "0.2", "--surge", "2", "--client", "EventSource"],
    ],
)
def test_fault_prints_its_outcome(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("readers sent elsewhere") for line in lines)
    assert lines[-1].split()[-2:] == ["all", "live"]


def test_worker_without_places_leaves_generations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "worker", "--generations", "50", "--free", "20") == 0
    assert "30 generations wait until others end" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["size", "--readers", "many"], "'many' is no whole number"),
        (["size", "--readers", "0"], "0 is not within 1 and 2,000,000"),
        (["size", "--readers", "5", "--live", "1.5"], "1.5 is not within 0.0001 and 1"),
        (["death", "--frontends", "2", "--readers", "9", "--use", "0.1", "--dead", "2"], "none is left"),
        (["deploy", "--frontends", "2", "--readers", "9", "--use", "0.1", "--surge", "3"], "more than --frontends 2"),
        ([], "COMMAND"),
    ],
)
def test_mistake_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert why in capsys.readouterr().err


def test_agreement_counts_what_is_within_the_tolerance() -> None:
    figures = [
        Compared("load", frontends, figure, 100.0, simulated, 0.1)
        for figure in FIGURES
        for frontends, simulated in ((1, 100.0), (2, 114.0), (4, 120.0))
    ]
    found = Validation("machine", "2026-11-23", 3.0, {}, figures)
    assert agreement(found).startswith("deliveries/s 2 of 3 (1.00 to 1.20), cores 2 of 3")
    assert validation_table(found)[2].startswith("| load | 1 | 100, 100 |")


def test_every_constant_has_its_unit_source_and_date() -> None:
    assert [name for name, row in CONSTANTS.items() if not (row.unit and row.source and row.date)] == []
    assert [name for name, row in POLICIES.items() if not row.source] == []
