import pytest

from tailrace import jsoncodec
from tailrace_cli import main
from tailrace_demo.scenarios import SCENARIOS


@pytest.mark.parametrize("columns", [60, 100, 180])
def test_list_has_every_scenario_in_lines_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["demo-model", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["MODEL", "WHAT"]
    named = [line.split()[0] for line in lines if line.startswith("demo:")]
    assert named == [f"demo:{name}{'*' if row.is_fault else ''}" for name, row in SCENARIOS.items()]
    assert max(map(len, lines)) < max(columns, 100)
    text = " ".join(" ".join(lines).split())
    for row in SCENARIOS.values():
        assert set(row.end.split()) <= set(text.split())
    assert "only the first call of a request has the fault" in text


def test_list_as_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo-model", "--list", "--json"]) == 0
    rows = jsoncodec.loads(capsys.readouterr().out.encode())
    assert [row["model"] for row in rows] == [f"demo:{name}" for name in SCENARIOS]
    assert all(row.keys() == {"model", "happens", "tailrace", "end", "is_fault"} for row in rows)
